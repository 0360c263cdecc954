"""Label maps of any pictures, as files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image
from tqdm import tqdm

from seg_jax import checkpoint, checks, data, inference, pictures
from seg_jax.data import images as image_files
from seg_jax.evaluate import PROGRESS_BAR
from seg_jax.experiment import Experiment
from seg_jax.types import VOC_CLASSES, voc_palette

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp"}


class Failure(NamedTuple):
    """A picture that has no prediction, and why."""

    path: Path
    reason: str


class _Task(NamedTuple):
    picture: Path
    label: Path
    overlay: Path


def predict(
    experiment: Experiment,
    variables: Any,
    images: Sequence[Path],
    out: Path,
    *,
    classes: Sequence[str],
    palette: np.ndarray,
    progress: bool = True,
) -> tuple[Failure, ...]:
    """Write NAME.png, a palette PNG of class ids, and NAME_overlay.png of every picture.

    Both have the picture's own size, upright where EXIF says that it was taken otherwise. A
    picture that cannot be read or predicted does not stop the others.

    Args:
      experiment: its model, preprocessing and evaluation protocol are used.
      variables: of the model.
      images: files, or folders of them (not those inside).
      out: folder that receives the files; made if it is not there.
      classes: name of every class, for the legend.
      palette: colour of every class id, uint8 [256 3].
      progress: draw a progress bar.

    Returns:
      The pictures that failed.

    Raises:
      UserError: there is nothing to predict, `out` cannot be made, two results would have one
        name, or a result would replace a picture.
    """
    inference.check_protocol(experiment)
    tasks = _plan(_files(images), Path(out))
    failures = []
    for task in tqdm(tasks, desc="predicting", unit="image", disable=not progress, **PROGRESS_BAR):
        try:
            picture = read_upright(task.picture)
            label = inference.predict_labels(experiment, variables, picture)
            drawn = pictures.overlay(picture, label, palette)
            _write(pictures.label_image(label, palette), task.label)
            _write(pictures.with_legend(drawn, label, palette, classes), task.overlay)
        except (checks.UserError, OSError, jax.errors.JaxRuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            failures.append(Failure(task.picture, reason.removeprefix(f"{task.picture}: ")))
    return tuple(failures)


def predict_run(
    run: Path, images: Sequence[Path], out: Path, *, progress: bool = True
) -> tuple[Failure, ...]:
    """Predict pictures with a run's last checkpoint; see `predict`.

    Names and colours of the classes come from the run's data set where it is at hand; without it
    they are VOC's if the model has 21 classes, else numbers.
    """
    experiment, variables, _ = checkpoint.restore_variables(run)
    config = experiment.data
    try:
        source = data.open_source(config.dataset, config.root, config.val_split)
        classes, palette = source.classes, source.palette
    except checks.UserError:
        classes, palette = tuple(f"class {index}" for index in range(256)), voc_palette()
        if getattr(experiment.model, "num_classes", 0) == len(VOC_CLASSES):
            classes = VOC_CLASSES
    return predict(
        experiment, variables, images, out, classes=classes, palette=palette, progress=progress
    )


def read_upright(path: Path) -> np.ndarray:
    """Read a picture as uint8 [h w 3] RGB, turned as its EXIF orientation asks.

    Grey, palette, alpha (dropped) and CMYK pictures are converted; 16-bit ones are refused.
    """
    picture = image_files.read_image(path)
    turns = {
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: x.swapaxes(0, 1)[:, ::-1],
        7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
        8: lambda x: x.swapaxes(0, 1)[::-1],
    }
    turn = turns.get(image_files.exif_orientation(path))
    return np.ascontiguousarray(turn(picture)) if turn else picture


def _files(images: Sequence[Path]) -> list[Path]:
    found = []
    for path in map(Path, images):
        inside = [path]
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise checks.UserError(
                    f"{path}: no pictures in this folder (looked for {', '.join(sorted(SUFFIXES))})"
                )
        found += inside
    if not found:
        raise checks.UserError("no pictures to predict: name files or folders")
    return list(dict.fromkeys(found))


def _plan(files: Sequence[Path], out: Path) -> list[_Task]:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise checks.UserError(f"--out {out}: cannot be made a folder ({error})") from error
    tasks = [_Task(f, out / f"{f.stem}.png", out / f"{f.stem}_overlay.png") for f in files]
    owner: dict[Path, Path] = {}
    pictures_in = {path.resolve() for path in files}
    for task in tasks:
        for result in (task.label, task.overlay):
            if result.resolve() in pictures_in:
                raise checks.UserError(
                    f"{result}: the prediction of {task.picture} would replace this picture; "
                    "choose another folder with --out"
                )
            if result in owner:
                raise checks.UserError(
                    f"{result}: {owner[result]} and {task.picture} would both be written here; "
                    "predict them into two folders"
                )
            owner[result] = task.picture
    return tasks


def _write(image: Image.Image, path: Path) -> None:
    """Write a PNG whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    image.save(unfinished, format="PNG")
    os.replace(unfinished, path)
