"""Label maps of any pictures, as files."""

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

_THREADS = 4  # that read and write pictures while the device works

Refine = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Failure(NamedTuple):
    """A picture that has no prediction, and why."""

    path: Path
    reason: str


class Outcome(NamedTuple):
    """What became of the pictures, each in their order: label maps written, and failures."""

    written: tuple[Path, ...]
    failures: tuple[Failure, ...]


class _Task(NamedTuple):
    picture: Path
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
    """Write NAME.png, a palette PNG of class ids, and NAME_overlay.png of every picture.

    Both have the picture's own size, upright where EXIF says that it was taken otherwise. A
    picture that cannot be read or predicted does not stop the others.

    Args:
      experiment: its model, preprocessing and evaluation protocol are used; a picture larger than
        the protocol's canvas is seen on a larger one.
      variables: of the model.
      images: files, folders, patterns, or `-`: see `picture_files.find`.
      out: folder that receives the files; made if it is not there.
      classes: name of every class, for the legend.
      palette: colour of every class id, uint8 [256 3].
      probabilities: also write NAME.npy, float32 [h w k], whose largest are the label map.
      refine: given a picture, uint8 [h w 3], and its probabilities, float32 [h w k], returns the
        probabilities to use instead; None: the protocol's CRF, if it has one.
      progress: draw a progress bar.

    Raises:
      UserError: there is nothing to predict, `out` cannot be made, two results would have one
        name, or a result would replace a picture.
    """
    windows.check_evaluation(experiment)
    if refine is None and experiment.evaluation.crf:
        refine = presets.refine(experiment.evaluation.crf)
    tasks = _plan(inputs.find(images), Path(out), probabilities=probabilities)
    device = threading.Lock()

    def run(task: _Task) -> Failure | None:
        try:
            picture = image_files.read_upright(task.picture)
            with device:
                label, shares = _answer(experiment, variables, picture, probabilities, refine)
            drawn = visualize.overlay(picture, label, palette)
            task.label.parent.mkdir(parents=True, exist_ok=True)
            if task.probabilities:
                with files.write_atomically(task.probabilities) as file:
                    np.save(file, shares)
            _save(visualize.label_image(label, palette), task.label)
            _save(visualize.with_legend(drawn, label, palette, classes), task.overlay)
        except (checks.UserError, OSError, MemoryError, jax.errors.JaxRuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            return Failure(task.picture, reason.removeprefix(f"{task.picture}: "))
        return None

    with futures.ThreadPoolExecutor(_THREADS) as pool:
        bar = progress_bar.bar(
            pool.map(run, tasks), total=len(tasks), desc="predicting", unit="image", shown=progress
        )
        answers = list(bar)
    written = (task.label for task, answer in zip(tasks, answers, strict=True) if answer is None)
    return Outcome(tuple(written), tuple(filter(None, answers)))


def _answer(
    experiment: Experiment, variables: Any, picture: np.ndarray, probabilities: bool,
    refine: Refine | None,
) -> tuple[np.ndarray, np.ndarray | None]:  # fmt: skip
    """Return the label map, uint8 [h w], and what it was chosen from if that left the device."""
    experiment = windows.covering(experiment, picture.shape[:2])
    if not probabilities and refine is None:  # a byte a pixel comes from the device, not 4 k
        return forward.predict_labels(experiment, variables, picture), None
    shares = forward.predict_probabilities(experiment, variables, picture)
    if refine is not None:
        shares = refine(picture, shares)
    return np.argmax(shares, axis=-1).astype(np.uint8), shares


def _plan(found: Sequence[inputs.Found], out: Path, *, probabilities: bool) -> list[_Task]:
    """Say where everything goes; nothing may be written over."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise checks.UserError(f"--out {out}: cannot be made a folder ({error})") from error
    tasks = []
    for path, place in found:
        base = str(out / place)  # a name may hold dots: with_suffix would cut it
        array = Path(f"{base}.npy") if probabilities else None
        tasks.append(_Task(path, Path(f"{base}.png"), Path(f"{base}_overlay.png"), array))
    owner: dict[Path, Path] = {}
    pictures_in = {path.resolve() for path, _ in found}
    for task in tasks:
        for result in task.results:
            if result.resolve() in pictures_in:
                raise checks.UserError(
                    f"{result}: the prediction of {task.picture} would replace this picture; "
                    "choose another folder with --out"
                )
            if result in owner:
                raise checks.UserError(
                    f"{result}: {owner[result]} and {task.picture} would both be written here; "
                    "predict them into two folders, or quote a pattern such as 'clips/*/*.png': "
                    "its results keep their folders"
                )
            owner[result] = task.picture
    return tasks


def _save(image: Image.Image, path: Path) -> None:
    with files.write_atomically(path) as file:
        image.save(file, format="PNG")
