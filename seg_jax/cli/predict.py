"""`predict`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from seg_jax import progress
from seg_jax.cli.parsing import parse


@dataclasses.dataclass(frozen=True)
class PredictOptions:
    """Write a label map (palette PNG) and an overlay of every image.

    An image that cannot be read does not stop the others, but the exit code is then 2.

    Attributes:
      run: a run folder, a release, or published weights: a file, or the name of imported ones.
      images: files, folders (e.g. of frames), quoted patterns such as 'clips/**/*.png', or - to
        read a list from standard input, one path per line.
      out: folder for NAME.png and NAME_overlay.png.
      probabilities: also write NAME.npy, float32 [height width classes].
      crf: constants of a dense CRF, e.g. deeplab_v2_resnet101 (`evaluate --help` lists all), or
        "none". Default: as the run is evaluated.
      checkpoint: of a run: newest, best (by --train.best-metric), or a step. Default: the best if
        the run chooses one, else the newest.
    """

    run: tyro.conf.Positional[str]
    images: tyro.conf.Positional[tuple[Path, ...]]
    out: Path
    probabilities: bool = False
    crf: str = ""
    checkpoint: str = ""


def predict(args: Sequence[str]) -> int:
    """Predict label maps of images."""
    options = parse(PredictOptions, args, "predict")
    from seg_jax import parallel

    parallel.enable_compilation_cache()
    outcome = predict_with(
        options.run,
        options.images,
        options.out,
        crf_name=options.crf,
        checkpoint=options.checkpoint,
        probabilities=options.probabilities,
    )
    for failure in outcome.failures:
        progress.say(f"{failure.path}: {failure.reason}", error=True)
    failed = f", {len(outcome.failures)} failed" if outcome.failures else ""
    progress.show(
        f"{len(outcome.written)} of {len(outcome.written) + len(outcome.failures)} images "
        f"predicted into {options.out}{failed}"
    )
    return 2 if outcome.failures else 0


def predict_with(
    source: str | Path,
    images: Sequence[Path],
    out: Path,
    *,
    crf_name: str = "",
    checkpoint: str = "",
    **options: Any,
) -> Any:
    """Predict images with a run, a release or published weights.

    Names and colours of the classes come from the release, else from the data set if it is there;
    otherwise they are VOC's if the model has 21 classes, else numbers.

    Args:
      source: what `pretrained.load` accepts.
      images: see `inference.inputs.find`.
      out: folder for the files.
      crf_name: of a dense CRF's constants, see `kernels.crf.presets`; empty: the experiment's own.
      checkpoint: of a run, see `pretrained.load`.
      **options: of `inference.predict.predict`.

    Returns:
      `inference.predict.Outcome`.
    """
    from seg_jax import pretrained
    from seg_jax.inference import predict
    from seg_jax.kernels.crf import presets

    loaded = pretrained.load(source, checkpoint=checkpoint)
    chosen = loaded.experiment
    if crf_name:
        chosen = chosen.with_evaluation(crf=presets.get(crf_name))
    classes, palette = loaded.labels.names, loaded.labels.palette
    return predict.predict(
        chosen, loaded.variables, images, out, classes=classes, palette=palette, **options
    )
