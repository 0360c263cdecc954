"""Predict label maps of image files, and write them as files."""

import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from seg_jax import checks, files
from seg_jax import progress as progress_bar
from seg_jax.data import images as image_files
from seg_jax.data import visualize
from seg_jax.experiment import Experiment
from seg_jax.inference import forward, inputs, windows
from seg_jax.kernels.crf import presets

_THREADS = 4  # read and write images while the device computes

Refine = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Failure(NamedTuple):
    """An image without a prediction, and the reason."""

    path: Path
    reason: str


class Outcome(NamedTuple):
    """The label maps written and the failures, each in the order of the images."""

    written: tuple[Path, ...]
    failures: tuple[Failure, ...]


class _Task(NamedTuple):
    image: Path
    label: Path
    overlay: Path
    probabilities: Path | None

    @property
    def results(self) -> tuple[Path, ...]:
        return tuple(filter(None, self[1:]))


def predict(
    experiment: Experiment,
    variables: Any,
    images: Sequence[Path],
    out: Path,
    *,
    classes: Sequence[str],
    palette: np.ndarray,
    probabilities: bool = False,
    refine: Refine | None = None,
    progress: bool = True,
) -> Outcome:
    """Write NAME.png, a palette PNG of class ids, and NAME_overlay.png for every image.

    Both have the original size of the image, rotated as its EXIF orientation says. An image that
    cannot be read or predicted does not stop the others.

    Args:
      experiment: its model, preprocessing and evaluation protocol are used; an image larger than
        the protocol's canvas gets a larger one.
      variables: of the model.
      images: files, folders, patterns, or `-`: see `inputs.find`.
      out: folder for the files; created if it does not exist.
      classes: name of every class, for the legend.
      palette: colour of every class id, uint8 [256 3].
      probabilities: also write NAME.npy, float32 [h w k]; their argmax is the label map.
      refine: given an image, uint8 [h w 3], and its probabilities, float32 [h w k], returns the
        probabilities to use instead; None: the protocol's CRF, if it has one.
      progress: draw a progress bar.

    Raises:
      UserError: there is nothing to predict, `out` cannot be created, two results would have the
        same name, or a result would overwrite an input image.
    """
    windows.check_evaluation(experiment)
    if refine is None and experiment.evaluation.crf:
        refine = presets.refine(experiment.evaluation.crf)
    tasks = _plan(inputs.find(images), Path(out), probabilities=probabilities)
    device = threading.Lock()

    def run(task: _Task) -> Failure | None:
        try:
            image = image_files.read_upright(task.image)
            with device:
                label, shares = _predict_one(experiment, variables, image, probabilities, refine)
            drawn = visualize.overlay(image, label, palette)
            task.label.parent.mkdir(parents=True, exist_ok=True)
            if task.probabilities and shares is not None:
                with files.write_atomically(task.probabilities) as file:
                    np.save(file, shares)
            _save(visualize.label_image(label, palette), task.label)
            _save(visualize.with_legend(drawn, label, palette, classes), task.overlay)
        except (checks.UserError, OSError, MemoryError, jax.errors.JaxRuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            return Failure(task.image, reason.removeprefix(f"{task.image}: "))
        return None

    with futures.ThreadPoolExecutor(_THREADS) as pool:
        bar = progress_bar.bar(
            pool.map(run, tasks), total=len(tasks), desc="predicting", unit="image", shown=progress
        )
        outcomes = list(bar)
    written = (task.label for task, failure in zip(tasks, outcomes, strict=True) if not failure)
    return Outcome(tuple(written), tuple(filter(None, outcomes)))


def _predict_one(
    experiment: Experiment, variables: Any, image: np.ndarray, probabilities: bool,
    refine: Refine | None,
) -> tuple[np.ndarray, np.ndarray | None]:  # fmt: skip
    """Return the label map, uint8 [h w], and the probabilities, float32 [h w k], if needed."""
    height, width = image.shape[:2]
    experiment = windows.covering(experiment, (height, width))
    # Transfer labels (1 byte a pixel), not probabilities (4 k bytes).
    if not probabilities and refine is None:
        return forward.predict_labels(experiment, variables, image), None
    shares = forward.predict_probabilities(experiment, variables, image)
    if refine is not None:
        shares = refine(image, shares)
    return np.argmax(shares, axis=-1).astype(np.uint8), shares


def _plan(found: Sequence[inputs.Found], out: Path, *, probabilities: bool) -> list[_Task]:
    """Return where every result is written; no file may be overwritten."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise checks.UserError(f"--out {out}: cannot create this folder ({error})") from error
    tasks = []
    for path, place in found:
        base = str(out / place)  # a name may contain dots: with_suffix would cut it
        array = Path(f"{base}.npy") if probabilities else None
        tasks.append(_Task(path, Path(f"{base}.png"), Path(f"{base}_overlay.png"), array))
    owner: dict[Path, Path] = {}
    sources = {path.resolve() for path, _ in found}
    for task in tasks:
        for result in task.results:
            if result.resolve() in sources:
                raise checks.UserError(
                    f"{result}: the prediction of {task.image} would overwrite this image; "
                    "choose another folder with --out"
                )
            if result in owner:
                raise checks.UserError(
                    f"{result}: {owner[result]} and {task.image} would both be written here; "
                    "predict them into two folders, or quote a pattern such as 'clips/*/*.png': "
                    "its results keep their folders"
                )
            owner[result] = task.image
    return tasks


def _save(image: Image.Image, path: Path) -> None:
    with files.write_atomically(path) as file:
        image.save(file, format="PNG")
