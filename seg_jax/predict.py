"""Label maps of any pictures, as files."""

import dataclasses
import os
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image
from tqdm import tqdm

from seg_jax import checks, crf, inference, picture_files, pictures, pretrained
from seg_jax.data import images as image_files
from seg_jax.evaluate import PROGRESS_BAR
from seg_jax.experiment import Experiment

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
    inference.check_protocol(experiment)
    if refine is None and experiment.evaluation.crf:
        refine = crf.refine(experiment.evaluation.crf)
    tasks = _plan(picture_files.find(images), Path(out), probabilities=probabilities)
    device = threading.Lock()

    def run(task: _Task) -> Failure | None:
        try:
            picture = image_files.read_upright(task.picture)
            with device:
                label, shares = _answer(experiment, variables, picture, probabilities, refine)
            drawn = pictures.overlay(picture, label, palette)
            task.label.parent.mkdir(parents=True, exist_ok=True)
            if task.probabilities:
                _write(task.probabilities, lambda file: np.save(file, shares))
            _save(pictures.label_image(label, palette), task.label)
            _save(pictures.with_legend(drawn, label, palette, classes), task.overlay)
        except (checks.UserError, OSError, MemoryError, jax.errors.JaxRuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            return Failure(task.picture, reason.removeprefix(f"{task.picture}: "))
        return None

    with futures.ThreadPoolExecutor(_THREADS) as pool:
        bar = {"desc": "predicting", "unit": "image", "disable": not progress, **PROGRESS_BAR}
        answers = list(tqdm(pool.map(run, tasks), total=len(tasks), **bar))
    written = (task.label for task, answer in zip(tasks, answers, strict=True) if answer is None)
    return Outcome(tuple(written), tuple(filter(None, answers)))


def predict_with(
    source: str | Path, images: Sequence[Path], out: Path, *, crf_name: str = "", **options: Any
) -> Outcome:
    """Predict pictures with what `pretrained.load` takes: a run, a release, published weights.

    The dense CRF is the one that `crf.get` knows by `crf_name`; empty: the experiment's own.
    Names and colours of the classes come with a release, else from the data set where it is at
    hand; without it they are VOC's if the model has 21 classes, else numbers. `predict` takes the
    options.
    """
    loaded = pretrained.load(source)
    experiment = loaded.experiment
    if crf_name:
        evaluation = dataclasses.replace(experiment.evaluation, crf=crf.get(crf_name))
        experiment = dataclasses.replace(experiment, evaluation=evaluation)
    classes, palette = loaded.labels.names, loaded.labels.palette
    return predict(
        experiment, loaded.variables, images, out, classes=classes, palette=palette, **options
    )


def covering(experiment: Experiment, size: tuple[int, int]) -> Experiment:
    """Return the experiment, with a larger canvas if its own does not cover `size` (height, width).

    The sides are those that the model takes at the next multiples of `evaluation.bucket`, so that
    pictures of many sizes mean a handful of compilations.
    """
    evaluation = experiment.evaluation
    canvas = evaluation.canvas
    if evaluation.protocol != "whole" or canvas is None:
        return experiment
    if size[0] <= canvas[0] and size[1] <= canvas[1]:
        return experiment
    legal = getattr(experiment.model, "legal_sizes", lambda side: (side,))
    sides = (max(legal(-(-side // evaluation.bucket) * evaluation.bucket)) for side in size)
    larger = dataclasses.replace(evaluation, canvas=tuple(sides))
    return dataclasses.replace(experiment, evaluation=larger)


def _answer(
    experiment: Experiment, variables: Any, picture: np.ndarray, probabilities: bool,
    refine: Refine | None,
) -> tuple[np.ndarray, np.ndarray | None]:  # fmt: skip
    """Return the label map, uint8 [h w], and what it was chosen from if that left the device."""
    experiment = covering(experiment, picture.shape[:2])
    if not probabilities and refine is None:  # a byte a pixel comes from the device, not 4 k
        return inference.predict_labels(experiment, variables, picture), None
    shares = inference.predict_probabilities(experiment, variables, picture)
    if refine is not None:
        shares = refine(picture, shares)
    return np.argmax(shares, axis=-1).astype(np.uint8), shares


def _plan(found: Sequence[picture_files.Found], out: Path, *, probabilities: bool) -> list[_Task]:
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
    _write(path, lambda file: image.save(file, format="PNG"))


def _write(path: Path, content: Callable[[Any], None]) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    with unfinished.open("wb") as file:
        content(file)
    os.replace(unfinished, path)
