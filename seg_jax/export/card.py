"""The model card of a release: origin, scores, preprocessing and use of the weights."""

import json

from seg_jax.data.label_map import LabelMap
from seg_jax.experiment import Experiment
from seg_jax.inference import protocols
from seg_jax.report.grid import Column, Grid
from seg_jax.report.table import record_text
from seg_jax.results.record import Record


def card(
    experiment: Experiment,
    labels: LabelMap,
    record: Record | None,
    *,
    license: str,
    name: str = "",
    origin: str = "",
) -> str:
    """Return the card as Markdown; the Hugging Face hub reads its front matter.

    Args:
      experiment: the one that was trained.
      labels: of the classes.
      record: of the evaluation; None: it was not evaluated.
      license: of the weights, an SPDX identifier or "unknown".
      name: of published weights in the catalogue; empty: they were trained here.
      origin: of published weights, in words.
    """
    title = name or experiment.name
    head = {
        "library_name": "seg_jax",
        "pipeline_tag": "image-segmentation",
        "license": "other" if " " in license else license.lower(),  # the hub takes identifiers
        "tags": ["jax", "semantic-segmentation", experiment.family.lower().replace(" ", "-")],
    }
    sections = [
        "\n".join(["---", *(f"{key}: {json.dumps(item)}" for key, item in head.items()), "---"]),
        f"# {title}",
        f"{experiment.family}: {experiment.paper}.",
        *([origin] if origin else []),
        _USE,
        "## Scores and run record",
        record_text(record) if record else "Not evaluated: the release holds no record.",
        *([f"Made by `{record.command}`, {_versions(record)}."] if record else []),
        "## Preprocessing",
        _preprocessing(experiment),
        "## Label map",
        _labels(labels),
        "## License",
        f"{license}: of the weights; the training data have their own terms.",
    ]
    return "\n\n".join(sections) + "\n"


_USE = """\
```python
from seg_jax import pretrained

loaded = pretrained.load("FOLDER")
image = loaded.preprocessing(image)  # uint8 [h w 3], RGB -> float32
logits = loaded.model.apply(loaded.variables, image[None], train=False)["out"]
```

```bash
python -m seg_jax predict FOLDER photo.jpg --out predictions
```"""


def _versions(record: Record) -> str:
    return ", ".join(f"{name} {version}" for name, version in record.versions.items())


def _preprocessing(experiment: Experiment) -> str:
    normalise = experiment.data.preprocessing
    grid = Grid(
        (Column("channel"), Column("mean", number=True), Column("divisor", number=True)),
        tuple(
            (channel, f"{mean:g}", f"{std:g}")
            for channel, mean, std in zip(
                ("red", "green", "blue"), normalise.mean, normalise.std, strict=True
            )
        ),
    )
    return (
        f"Presented to the network: {protocols.words(experiment.evaluation)}. Then (image - mean) "
        "/ divisor of each channel in 0..255, and the channels in the order "
        f"{normalise.order}:\n\n{grid.as_markdown()}"
    )


def _labels(labels: LabelMap) -> str:
    rows = (
        (str(index), name, "#{:02x}{:02x}{:02x}".format(*colour))
        for index, (name, colour) in enumerate(zip(*labels, strict=True))
    )
    return Grid(
        (Column("id", number=True), Column("class"), Column("colour")), tuple(rows)
    ).as_markdown()
