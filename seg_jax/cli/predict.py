"""`predict`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from seg_jax import checks, progress
from seg_jax.cli.parsing import override, parse
from seg_jax.data.colours import Palette


@dataclasses.dataclass(frozen=True)
class PredictOptions:
    """Write a label map (palette PNG) and an overlay of every image, or a video with the overlay.

    An image that cannot be read does not stop the others, but the exit code is then 2. After the
    images, --evaluation.FIELD VALUE changes the run's protocol, e.g. --evaluation.scales 0.5 1 1.5.

    Attributes:
      run: a run folder, a release, or published weights: a file, or the name of imported ones.
      images: files, folders (e.g. of frames), quoted patterns such as 'clips/**/*.png', or - to
        read a list from standard input, one path per line.
      out: folder for NAME.png and NAME_overlay.png; of a video, NAME_overlay.mp4.
      video: a video, in place of images (needs the extra: pip install "seg_jax[video]").
      video_labels: also write the label map of every frame of the video, NAME/000000.png.
      probabilities: also write NAME.npy, float32 [height width classes].
      crf: constants of a dense CRF, e.g. deeplab_v2_resnet101 (`evaluate --help` lists all), or
        "none". Default: as the run is evaluated.
      checkpoint: of a run: newest, best (by --train.best-metric), or a step. Default: the best if
        the run chooses one, else the newest.
      palette: colours of the classes: voc; safe, which colour-blind readers can tell apart; auto:
        the data set's own, where it has none VOC's for VOC's classes, and else safe.
    """

    run: tyro.conf.Positional[str]
    images: tyro.conf.Positional[tuple[Path, ...]]
    out: Path
    video: Path | None = None
    video_labels: bool = False
    probabilities: bool = False
    crf: str = ""
    checkpoint: str = ""
    palette: Palette = "auto"


def predict(args: Sequence[str]) -> int:
    """Predict label maps of images."""
    args, protocol = _split(args)
    options = parse(PredictOptions, args, "predict")
    from seg_jax import parallel

    parallel.prepare_process()
    if options.video is not None:
        _predict_video(options, protocol)
        return 0
    if options.video_labels:
        raise checks.UserError("--video-labels is of --video; images always have label maps")
    outcome = predict_with(
        options.run,
        options.images,
        options.out,
        crf_name=options.crf,
        checkpoint=options.checkpoint,
        palette_name=options.palette,
        protocol=protocol,
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


def _predict_video(options: PredictOptions, protocol: Sequence[str]) -> None:
    """Predict a video."""
    from seg_jax.inference import predict, video, windows

    assert options.video is not None
    if options.images:
        raise checks.UserError(
            f"--video {options.video} and {options.images[0]}: predict them one after the other"
        )
    if options.probabilities:
        raise checks.UserError("--probabilities is of images: write the video's frames as images")
    chosen, variables, classes, palette = _prepare(
        options.run, options.crf, options.checkpoint, options.palette, protocol
    )
    windows.check_evaluation(chosen)
    if not chosen.data.preprocessing.is_plain:
        raise checks.UserError(
            f"{options.run} takes other images than RGB of 8 bits, videos are so"
        )
    written = video.predict(
        options.video,
        options.out,
        label=lambda image: predict.predict_image(chosen, variables, image),
        classes=classes,
        palette=palette,
        labels=options.video_labels,
    )
    labels = f", label maps in {written.labels}" if written.labels else ""
    progress.show(f"{written.frames} frames predicted into {written.video}{labels}")


@dataclasses.dataclass(frozen=True)
class _NoOptions:
    """Only fields of the experiment."""


def _split(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the verb's own words, and --evaluation.FIELD with the values that follow it."""
    own: list[str] = []
    protocol: list[str] = []
    into = own
    for word in args:
        if word.startswith("--"):
            into = protocol if word.startswith("--evaluation.") else own
        into.append(word)
    return own, protocol


def predict_with(
    source: str | Path,
    images: Sequence[Path],
    out: Path,
    *,
    crf_name: str = "",
    checkpoint: str = "",
    palette_name: str = "auto",
    protocol: Sequence[str] = (),
    **options: Any,
) -> Any:
    """Predict images with a run, a release or published weights.

    Names and colours of the classes come from the release, else from the data set if it is there;
    otherwise they are VOC's if the model has 21 classes, else numbers.

    Args:
      source: what `pretrained.load` accepts.
      images: see `inference.inputs.find`.
      out: folder for the files.
      palette_name: "auto": that of the classes; otherwise see `data.colours.of`.
      protocol: words --evaluation.FIELD VALUE ... that change the experiment's.
      crf_name: of a dense CRF's constants, see `kernels.crf.presets`; empty: the experiment's own.
      checkpoint: of a run, see `pretrained.load`.
      **options: of `inference.predict.predict`.

    Returns:
      `inference.predict.Outcome`.
    """
    from seg_jax.inference import predict

    chosen, variables, classes, palette = _prepare(
        source, crf_name, checkpoint, palette_name, protocol
    )
    return predict.predict(
        chosen, variables, images, out, classes=classes, palette=palette, **options
    )


def _prepare(
    source: str | Path, crf_name: str, checkpoint: str, palette_name: str, protocol: Sequence[str]
) -> tuple[Any, Any, Sequence[str], Any]:
    """Return experiment, variables, names and colours of the classes; see `predict_with`."""
    from seg_jax import pretrained
    from seg_jax.data import colours
    from seg_jax.kernels.crf import presets

    loaded = pretrained.load(source, checkpoint=checkpoint)
    chosen = loaded.experiment
    if crf_name:
        chosen = chosen.with_evaluation(crf=presets.get(crf_name))
    if protocol:
        command = f"predict {source}"
        chosen, _ = override(chosen, protocol, command, _NoOptions, fields=("evaluation",))
    classes, palette = loaded.labels.names, loaded.labels.palette
    if palette_name != "auto":
        palette = colours.of(classes, palette_name)
    return chosen, loaded.variables, classes, palette
