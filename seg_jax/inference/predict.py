"""Predict images and write label maps, overlays and probabilities as files."""

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
from seg_jax.data import bands, visualize
from seg_jax.data import images as image_files
from seg_jax.data.preprocessing import Preprocessing
from seg_jax.experiment import Experiment
from seg_jax.inference import forward, inputs, windows
from seg_jax.kernels.crf import presets

_THREADS = 4  # read and write image files while the device computes

Refine = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Failure(NamedTuple):
    """An image that could not be predicted, and the reason."""

    path: Path
    reason: str


class Outcome(NamedTuple):
    """Label maps written and failures, each in the order of the images."""

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
    """Write NAME.png, a palette PNG of class ids, and NAME_overlay.png for each image.

    Both have the image's own size, turned upright as its EXIF orientation says. An image that
    cannot be read or predicted does not stop the others.

    Args:
      experiment: gives model, preprocessing and evaluation protocol; for an image larger than the
        protocol's canvas, the canvas is enlarged.
      variables: of the model.
      images: files, folders, patterns, or `-`: see `inputs.find`.
      out: folder for the results; created if needed.
      classes: names by class id, for the legend.
      palette: colours by class id, uint8 [256 3].
      probabilities: also write NAME.npy, float32 [h w k]; its argmax is the label map.
      refine: maps an image, uint8 [h w 3], and its probabilities, float32 [h w k], to refined
        probabilities; None: the protocol's CRF, if it has one.
      progress: draw a progress bar.

    Raises:
      UserError: there is nothing to predict, `out` cannot be created, two results would have the
        same name, or a result would overwrite an input.
    """
    windows.check_evaluation(experiment)
    if refine is None and experiment.evaluation.crf:
        refine = presets.refine(experiment.evaluation.crf)
    tasks = _plan(inputs.find(images), Path(out), probabilities=probabilities)
    device = threading.Lock()

    def run(task: _Task) -> Failure | None:
        try:
            image = read(task.image, experiment.data.preprocessing)
            with device:
                label, shares = _predict(experiment, variables, image, probabilities, refine)
            drawn = visualize.overlay(visualize.as_rgb(image), label, palette)
            task.label.parent.mkdir(parents=True, exist_ok=True)
            if task.probabilities:
                with files.write_atomically(task.probabilities) as file:
                    np.save(file, np.asarray(shares))
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
        failures = list(bar)
    written = (task.label for task, failed in zip(tasks, failures, strict=True) if failed is None)
    return Outcome(tuple(written), tuple(filter(None, failures)))


def predict_image(
    experiment: Experiment, variables: Any, image: np.ndarray, *, probabilities: bool = False
) -> np.ndarray:
    """Return the label map of one image, uint8 [h w 3], as uint8 [h w], or its probabilities,
    float32 [h w k], under the experiment's protocol with its CRF.
    """
    windows.check_evaluation(experiment)
    crf = experiment.evaluation.crf
    refine = presets.refine(crf) if crf else None
    label, shares = _predict(experiment, variables, image, probabilities, refine)
    return label if shares is None or not probabilities else np.asarray(shares)


def read(path: Path, seen: Preprocessing) -> np.ndarray:
    """Return an image as a network is to see it: uint8 [h w 3] turned upright as its EXIF
    orientation says, or as `bands.read` returns it.
    """
    if bands.is_plain(path, seen.channels, seen.range):
        return image_files.read_upright(path)
    return bands.read(path, seen.channels, seen.range)


def _predict(
    experiment: Experiment, variables: Any, image: np.ndarray, probabilities: bool,
    refine: Refine | None,
) -> tuple[np.ndarray, np.ndarray | None]:  # fmt: skip
    """Return the label map, uint8 [h w], and its probabilities if they were transferred."""
    experiment = windows.covering(experiment, image.shape[:2])
    if not probabilities and refine is None:  # transfer 1 byte a pixel instead of 4 k
        return forward.predict_labels(experiment, variables, image), None
    shares = forward.predict_probabilities(experiment, variables, image)
    if refine is not None:
        shares = refine(image, shares)
    return np.argmax(shares, axis=-1).astype(np.uint8), shares


def _plan(found: Sequence[inputs.Found], out: Path, *, probabilities: bool) -> list[_Task]:
    """Return the paths of all results; raise UserError if one would overwrite anything."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise checks.UserError(
            f"--out {out}: cannot be created as a folder ({error}); choose another"
        ) from error
    tasks = []
    for path, place in found:
        base = str(out / place)  # with_suffix would cut a name that contains dots
        array = Path(f"{base}.npy") if probabilities else None
        tasks.append(_Task(path, Path(f"{base}.png"), Path(f"{base}_overlay.png"), array))
    owner: dict[Path, Path] = {}
    input_files = {path.resolve() for path, _ in found}
    for task in tasks:
        for result in task.results:
            if result.resolve() in input_files:
                raise checks.UserError(
                    f"{result}: the prediction of {task.image} would overwrite this input; "
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
