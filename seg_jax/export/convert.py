"""Export a network with weights to a file that other runtimes run: StableHLO, ONNX, LiteRT."""

import importlib
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
    checkpoint: str = "",
) -> tuple[Path, float]:
    """Export a network as one file from images to labels, and describe its interface in OUT.json.

    Before the file is kept, its runtime runs it and the output is compared with the network's.

    Args:
      source: a run, a release or published weights, as `pretrained.load` takes them.
      out: the file; None: NAME.stablehlo, NAME.onnx or NAME.tflite in the working folder.
      format: of the file.
      size: (height, width) of the images; None: the network's input in its evaluation protocol.
      resize_to: (height, width) that the file resizes images to, and scores back from.
      output: "labels", uint8 [n h w], or "probabilities" or "logits", float32 [n h w k].
      batch: images per call; None: any number (StableHLO), or one (ONNX, LiteRT).
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
    loaded = pretrained.load(source, checkpoint=checkpoint)
    planned, size = single_pass.plan(loaded.experiment, size, resize_to)
    converter = importlib.import_module(f"seg_jax.export.{format}")
    name = loaded.name or loaded.experiment.name or "network"
    # The name is read from a file: it must not lead outside this folder.
    out = Path(out or f"{checks.path_component(name, 'the name of the network')}{converter.SUFFIX}")
    run = single_pass.function(planned, size, output)
    artefact = converter.convert(run, loaded.variables, size, batch)
    difference = _difference(
        converter.load(artefact), planned, loaded.variables, (batch or 1, *size, 3), output
    )
    if not difference <= _AGREE:
        raise checks.UserError(
            f"{format}: the exported network differs from the original: its {output} differ by "
            f"{difference:.3g} on a random image; nothing was written"
        )
    files.write_bytes(out, artefact)
    about = _about(loaded, planned, format=format, size=size, output=output, batch=batch)
    files.write_json(out.with_name(f"{out.name}.json"), about)
    return out, difference


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
    size: single_pass.Size,
    output: str,
    batch: int | None,
) -> dict[str, Any]:
    """Return the description that a program needs to use the file."""
    canvas = planned.evaluation.canvas
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
        "inside": f"{planned.evaluation.mode} to {list(canvas)}",
        "classes": names,
        "colours": colours,
        "experiment": loaded.experiment.name,
        "digest": config.digest(loaded.experiment),
        "weights": loaded.name,
    }
