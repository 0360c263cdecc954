"""The command line's verb `export`: parsing only, as in `__main__`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro


def main(args: Sequence[str]) -> int:
    """Write a network as one file for other programs; return the exit code."""

    def parse(
        run: tyro.conf.Positional[str],
        *,
        format: Literal["stablehlo", "onnx", "tflite"],
        out: Path | None = None,
        size: tuple[int, int] | None = None,
        resize_to: tuple[int, int] | None = None,
        output: Literal["labels", "probabilities", "logits"] = "labels",
        batch: int | None = None,
    ) -> tuple:
        """Write a network as one file from pictures to labels, and FILE.json, which describes it.

        Pictures are uint8, RGB, channels last; they are fitted and normalised inside. The file is
        run by its own runtime and compared with the network before it is kept.

        Args:
          run: a run folder, a release, or published weights: a file, or the name of imported ones.
          format: stablehlo (run by JAX), onnx (by onnxruntime), tflite (by LiteRT).
          out: the file; default: NAME.FORMAT here.
          size: height and width of the pictures; default: what the network sees by its protocol.
          resize_to: height and width that pictures are resized to inside, and scores back from;
            default: as the protocol says, which mostly pads.
          output: labels are uint8 [n h w], the others float32 [n h w classes].
          batch: pictures in a call; default: any number (stablehlo), 1 (onnx, tflite).
        """
        return run, out, {
            "format": format, "size": size, "resize_to": resize_to, "output": output,
            "batch": batch,
        }  # fmt: skip

    run, out, options = tyro.cli(parse, args=args, prog="python -m seg_jax export")
    from seg_jax import deploy

    path, difference = deploy.export(run, out, **options)
    what = "of the labels differ from" if options["output"] == "labels" else "at most from"
    print(f"wrote {path}; {difference:.2g} {what} the network's on a drawn picture")
    return 0
