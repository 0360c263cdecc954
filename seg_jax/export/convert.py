"""Export a network with weights to a file that other runtimes run: StableHLO, ONNX, LiteRT."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from seg_jax import checks, config, files, pretrained
from seg_jax.experiment import Experiment
from seg_jax.export import single_pass
from seg_jax.inference import forward

Format = Literal["stablehlo", "onnx", "tflite"]
FORMATS: tuple[Format, ...] = ("stablehlo", "onnx", "tflite")
_AGREE = 1e-3  # share of pixels whose labels may differ, or difference of a probability


def export(
    source: str | Path,
    out: Path | None = None,
    *,
    format: Format,
    size: single_pass.Size | None = None,
    resize_to: single_pass.Size | None = None,
    output: single_pass.Output = "labels",
    batch: int | None = None,
    any_size: bool = False,
    checkpoint: str = "",
) -> tuple[Path, float]:
    """Export a network as one file from images to labels, and describe its interface in OUT.json.

    The description, with names and colours of the classes, is also in the metadata of ONNX and
    LiteRT files. Before the file is kept, its runtime runs it and the output is compared with the
    network's.

    Args:
      source: a run, a release or published weights, as `pretrained.load` takes them.
      out: the file; None: NAME.stablehlo, NAME.onnx or NAME.tflite in the working folder.
      format: of the file.
      size: (height, width) of the images; None: the network's input in its evaluation protocol.
      resize_to: (height, width) that the file resizes images to, and scores back from.
      output: "labels", uint8 [n h w], or "probabilities" or "logits", float32 [n h w k].
      batch: images per call; None: any number (StableHLO), or one (ONNX, LiteRT).
      any_size: the file takes every height and width that the network takes (StableHLO).
      checkpoint: of a run, as for `pretrained.load`.

    Returns:
      The file, and its difference from the network on a random image: the share of pixels whose
      labels differ, or the largest difference of a probability.

    Raises:
      UserError: the format's libraries are missing, the network does not take the size, or the
        file's output differs from the network's.
    """
    checks.one_of(FORMATS, format=format)
    if batch is not None:
        checks.positive(batch=batch)
    if any_size:
        _check_any_size(format, size, resize_to)
    loaded = pretrained.load(source, checkpoint=checkpoint)
    converter = importlib.import_module(f"seg_jax.export.{format}")
    name = loaded.name or loaded.experiment.name or "network"
    # The name is read from a file: it must not lead outside this folder.
    out = Path(out or f"{checks.path_component(name, 'the name of the network')}{converter.SUFFIX}")
    if any_size:
        run, sides = single_pass.any_size(loaded.experiment, output)
        artefact = converter.convert_any_size(run, loaded.variables, sides, batch)
        least = -(-converter.LEAST_SIDE // sides[0])
        tried = [[sides[0] * (least + k) + sides[1] for k in pair] for pair in ((0, 1), (3, 2))]
        plans = [single_pass.plan_exactly(loaded.experiment, (h, w)) for h, w in tried]
        shown = [f"{sides[0]} k + {sides[1]}"] * 2
    else:
        plans = [single_pass.plan(loaded.experiment, size, resize_to)]
        planned, size = plans[0]
        run = single_pass.function(planned, size, output)
        artefact = converter.convert(run, loaded.variables, size, batch)
        shown = [*size]
    about = _about(loaded, plans[0][0], format=format, size=shown, output=output, batch=batch)
    artefact = converter.describe(artefact, about)
    runtime = converter.load(artefact)
    difference = max(
        _difference(runtime, planned, loaded.variables, (batch or 1, *size, 3), output)
        for planned, size in plans
    )
    if not difference <= _AGREE:
        raise checks.UserError(
            f"{format}: the exported network differs from the original: its {output} differ by "
            f"{difference:.3g} on a random image; nothing was written"
        )
    files.write_bytes(out, artefact)
    files.write_json(out.with_name(f"{out.name}.json"), about)
    return out, difference


def _check_any_size(format: str, size: Any, resize_to: Any) -> None:
    """Raise UserError where --any-size does not go together with what else is asked for."""
    if format != "stablehlo":
        raise checks.UserError(
            f"--any-size: the converter to {format} takes fixed sizes only; export a file for each "
            "--size, or take --format stablehlo"
        )
    if size or resize_to:
        raise checks.UserError("--any-size: --size and --resize-to are for files of one size")


def _difference(
    runtime: Any, planned: Experiment, variables: Any, shape: tuple[int, ...], output: str
) -> float:
    """Return the difference of the artefact's output from `predict`'s on random images."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (shape[0], -(-shape[1] // 16), -(-shape[2] // 16), 3))
    images = np.kron(blocks, np.ones((1, 16, 16, 1)))[:, : shape[1], : shape[2]].astype(np.uint8)
    found = runtime(images)
    expected = np.stack(
        [forward.predict_probabilities(planned, variables, image) for image in images]
    )
    if output == "labels":
        return float(np.mean(found != expected.argmax(-1)))
    if output == "logits":  # determined up to a constant per pixel
        found = np.asarray(jax.nn.softmax(found, axis=-1))
    return float(np.max(np.abs(found - expected)))


def _about(
    loaded: pretrained.Pretrained,
    planned: Experiment,
    *,
    format: str,
    size: Sequence[int | str],
    output: str,
    batch: int | None,
) -> dict[str, Any]:
    """Return the description that a program needs to use the file."""
    canvas, fixed = planned.evaluation.canvas, isinstance(size[0], int)
    assert canvas is not None, "single_pass.plan sets it"
    names, colours = loaded.labels
    images = batch or ("any" if format == "stablehlo" else 1)
    scores = [] if output == "labels" else [len(names)]
    return {
        "format": format,
        "input": {"name": "image", "dtype": "uint8", "shape": [images, *size, 3], "order": "RGB"},
        "output": {
            "name": "output",
            "is": output,
            "dtype": "uint8" if output == "labels" else "float32",
            "shape": [images, *size, *scores],
        },
        "inside": f"{planned.evaluation.mode} to {list(canvas)}" if fixed else "nothing",
        "classes": names,
        "colours": colours,
        "experiment": loaded.experiment.name,
        "digest": config.digest(loaded.experiment),
        "weights": loaded.name,
    }
