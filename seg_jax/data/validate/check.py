"""Read a data set whole, report every problem, and measure it.

Errors stand in `problems`; what is worth knowing, such as a score that would mean nothing, in
`notes`.
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from seg_jax import data, progress
from seg_jax.checks import UserError
from seg_jax.data import bands, class_weights, images, palettes
from seg_jax.data.images import File
from seg_jax.data.source import Source, is_file, leaves, list_problems, size_mismatch
from seg_jax.data.validate.check_report import Report, SplitReport
from seg_jax.data.validate.meaning import score_warnings
from seg_jax.types import IGNORE

# Tried first, because other layouts fit more folders: camvid's fits any that has a train.txt.
_TRIED_FIRST = ("synthetic_voc", "voc2012", "folder")


@dataclasses.dataclass
class _Reading:
    """What is found in one image and its mask."""

    problems: list[str] = dataclasses.field(default_factory=list)
    size: tuple[int, int] | None = None
    values: np.ndarray | None = None  # pixels by mask value, int64 [256]
    rotated: bool = False
    colors: np.ndarray | None = None  # of the mask's values in its palette, int16 [256 3]; -1: none

    @property
    def complete(self) -> bool:
        return self.size is not None and self.values is not None


def check(
    dataset: str,
    root: Path | None = None,
    splits: Sequence[str] | None = None,
    *,
    adapt: Callable[[Source], Source] = lambda source: source,
) -> Report:
    """Read every image and mask of the splits.

    Args:
      dataset: one of `seg_jax.data.names()`.
      root: the data set's folder; None: the default one.
      splits: names of lists; None: all that the folder has.
      adapt: returns a split as it is to be read, e.g. with other meanings of mask values.

    Raises:
      UserError: only where there is no data to report on: an unknown name, no folder.
    """
    folder = data.find_root(dataset, root)
    reader = data.reader(dataset)
    reports, sources, problems = [], [], []
    known: dict[tuple, _Reading] = {}  # trainval has the same files as train and val
    for split in splits or reader.splits(folder):
        try:
            source = adapt(reader(folder, split))
        except UserError as error:
            problems.append(str(error))
            continue
        sources.append(source)
        reports.append(check_source(source, known=known))
    problems += _overlaps(sources)
    return Report(dataset, str(folder), tuple(reports), tuple(problems))


def recognise(root: Path) -> str:
    """Return the name of the data set whose layout the folder has; UserError if there is none."""
    if not root.is_dir() or not any(root.iterdir()):
        raise UserError(f"{root.absolute()}: no such folder, or an empty one")
    others = [name for name in data.names() if name not in _TRIED_FIRST]
    for dataset in (*_TRIED_FIRST, *others):
        try:
            data.reader(dataset).splits(root)
        except UserError:
            continue
        return dataset
    raise UserError(
        f"{root} has the layout of no known data set: a VOCdevkit (ImageSets/Segmentation), CamVid "
        "(train.txt, trainannot/), ISBI 2012 (train-volume.tif, or image/ and label/), Cityscapes "
        "(leftImg8bit/, gtFine/), ADE20K (images/, annotations/), packed (dataset_info.json), or "
        "your own (images/, masks/, classes.txt)"
    )


def check_source(source: Source, *, known: dict[tuple, _Reading] | None = None) -> SplitReport:
    """Read every image and mask of a split, several at a time.

    Args:
      source: the split.
      known: readings of other splits, to which those of this one are added.
    """
    problems = list_problems(source)
    there = [
        index
        for index in range(len(source))
        if source.records is not None or _is_there(source, index)
    ]
    readings = _read_all(source, there, {} if known is None else known)
    for reading in readings:
        problems += reading.problems
    good = [i for i, reading in zip(there, readings, strict=True) if reading.complete]
    values = np.array([r.values for r in readings if r.complete], np.int64).reshape(-1, 256)
    problems += _value_problems(source, [source.label_file(i) for i in good], values)
    colors = [(source.label_file(i), r.colors) for i, r in zip(there, readings, strict=True)]
    if source.mask_palette is None:
        found = palettes.disagreement([(file, c) for file, c in colors if c is not None])
        problems += [found] if found else []
    statistics = class_weights.statistics(source.classes, _by_class(source, values))
    sizes = np.array([reading.size for reading in readings if reading.size])
    return SplitReport(
        split=source.split,
        description=source.description,
        checksum=source.checksum,
        images=len(source),
        readable=len(good),
        sizes=(
            (tuple(sizes.min(0).tolist()), tuple(sizes.max(0).tolist())) if len(sizes) else None
        ),
        size_counts=tuple(
            Counter(reading.size for reading in readings if reading.size).most_common()
        ),
        void=statistics[-1],
        classes=statistics[:-1],
        problems=tuple(problems),
        notes=tuple(_notes(source, values, sum(reading.rotated for reading in readings))),
    )


def _is_there(source: Source, index: int) -> bool:
    paths = source.image_paths[index], source.label_paths[index]
    inside = source.allow_outside or not any(map(leaves, paths))
    return inside and all(is_file(source.root / path) for path in paths)


def _read_all(source: Source, indices: list[int], known: dict) -> list[_Reading]:
    def key(index: int) -> tuple:
        page = source.pages[index] if source.pages else None
        return source.image_file(index), source.label_file(index), page

    fresh = [index for index in indices if key(index) not in known]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        readings = pool.map(lambda index: _read(source, *source.files(index)), fresh)
        name = f"reading {source.name} {source.split}"
        bar = progress.bar(readings, total=len(fresh), desc=name, unit="image", leave=True)
        known.update(zip(map(key, fresh), bar, strict=True))
    return [known[key(index)] for index in indices]


def _read(source: Source, image_file: File, label_file: File) -> _Reading:
    reading = _Reading()
    try:
        reading.size = source.read_image(image_file).shape[:2]
        plain = bands.is_plain(image_file, source.channels, source.range)
        reading.rotated = plain and images.exif_orientation(image_file) != 1
    except UserError as error:
        reading.problems.append(str(error))
    try:
        label, palette = images.read_label_and_palette(label_file)
    except UserError as error:
        reading.problems.append(str(error))
        return reading
    reading.values = np.bincount(label.ravel(), minlength=256)
    if palette is not None:
        reading.colors = palettes.used_colors(reading.values, palette)
        try:
            if source.mask_palette is not None:
                palettes.insist(label_file, label, palette, source.mask_palette, source.classes)
        except UserError as error:
            reading.problems.append(str(error))
    if reading.size and reading.size != label.shape:
        reading.problems.append(size_mismatch(label_file, label.shape, reading.size))
    return reading


def _by_class(source: Source, values: np.ndarray) -> np.ndarray:
    """Return pixels by class, void last, int64 [n k+1], from pixels by mask value [n 256]."""
    pixels = np.zeros((len(values), source.num_classes + 1), np.int64)
    for value, class_id in source.label_ids.items():
        pixels[:, -1 if class_id == IGNORE else class_id] += values[:, value]
    return pixels


def _value_problems(source: Source, files: list[Path], values: np.ndarray) -> list[str]:
    """Return a message for every mask value that is not a class or void, and its likely meaning.

    Args:
      source: the split.
      files: the masks.
      values: pixels by mask and value, [n 256].
    """
    bad = [value for value in np.flatnonzero(values.sum(0)) if value not in source.label_ids]
    if len(bad) > 32:
        masks = np.flatnonzero(values[:, bad].any(1))
        return [
            f"{files[masks[0]]}: {len(bad)} different label values that are "
            f"not class ids, in {len(masks)} masks: such masks were resized with interpolation, "
            "saved as JPEG, or hold no class ids; export them again"
        ]
    problems = []
    for value in bad:
        masks = np.flatnonzero(values[:, value])
        share = values[:, value].sum() / values.sum()
        problems.append(
            f"{files[masks[0]]}: {source.explain(np.array([value]))} "
            f"({_guess(int(value), source.num_classes, len(masks) / len(values))}in {len(masks)} "
            f"of {len(values)} masks, {100 * share:.2g} % of the pixels)"
        )
    return problems


def _guess(value: int, num_classes: int, image_share: float) -> str:
    if value == num_classes and image_share > 0.5:
        return "just above the last class and in most masks: void, as CamVid's 11, or ids from 1; "
    if value in (150, 220, 250, 254):
        return "a common mark for void; "
    return ""


def _notes(source: Source, values: np.ndarray, rotated: int) -> list[str]:
    notes = []
    total = values.sum(0)
    for value, class_id in source.label_ids.items():
        if class_id == IGNORE and value != IGNORE and total[value]:
            share = 100 * total[value] / total.sum()
            notes.append(
                f"mask value {value} is void in this data set: {share:.2g} % of the pixels, read "
                f"as {IGNORE}, in no loss and no metric"
            )
    notes += score_warnings(source, total)
    if rotated:
        notes.append(
            f"{rotated} images carry an EXIF rotation, which is not applied: the masks must fit "
            "the stored pixels"
        )
    return notes


def _overlaps(sources: list[Source]) -> list[str]:
    """Return a message if train and val share ids."""
    by_split = {source.split: source for source in sources}
    if not {"train", "val"} <= by_split.keys():
        return []
    shared = sorted(set(by_split["train"].ids) & set(by_split["val"].ids))
    if not shared:
        return []
    return [
        f"{len(shared)} ids are in both train and val, e.g. {shared[0]!r}: take them out of one"
    ]
