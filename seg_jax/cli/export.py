"""`export`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from seg_jax import progress
from seg_jax.cli.parsing import parse


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Write a network as one file from images to labels, and FILE.json, which describes it.

    Images are uint8, RGB, channels last; resizing, padding and normalisation are part of the file.
    The file is run by its own runtime and compared with the network before it is kept.

    Attributes:
      run: a run folder, a release, or published weights: a file, or the name of imported ones.
      format: stablehlo (run by JAX), onnx (by onnxruntime), tflite (by LiteRT).
      out: the file; default: NAME.FORMAT here.
      size: height and width of the images; default: the network's input in its protocol.
      any_size: the file takes every height and width that the network takes, FILE.json says which
        (stablehlo only).
      resize_to: height and width to which the file resizes images, and from which it resizes scores
        back; default: as in the protocol, which usually pads.
      output: labels are uint8 [n h w], the others float32 [n h w classes].
      batch: images per call; default: any number (stablehlo), 1 (onnx, tflite).
      checkpoint: of a run: newest, best (by --train.best-metric), or a step. Default: the best if
        the run chooses one, else the newest.
    """

    run: tyro.conf.Positional[str]
    format: Literal["stablehlo", "onnx", "tflite"]
    out: Path | None = None
    size: tuple[int, int] | None = None
    any_size: bool = False
    resize_to: tuple[int, int] | None = None
    output: Literal["labels", "probabilities", "logits"] = "labels"
    batch: int | None = None
    checkpoint: str = ""


def export(args: Sequence[str]) -> None:
    """Write a network as one file for other programs."""
    options = parse(ExportOptions, args, "export")
    from seg_jax.export import convert

    path, difference = convert.export(
        options.run,
        options.out,
        format=options.format,
        size=options.size,
        resize_to=options.resize_to,
        output=options.output,
        batch=options.batch,
        any_size=options.any_size,
        checkpoint=options.checkpoint,
    )
    what = "of the labels differ from" if options.output == "labels" else "at most from"
    progress.show(f"wrote {path}; {difference:.2g} {what} the network's on a drawn image")
