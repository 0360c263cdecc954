"""COCO's JSON of instances: polygons and run-length encoded masks, painted as classes.

Polygons are rasterised by pycocotools (an extra, `pip install "seg_jax[import]"`), as COCO's own
evaluation does. Run lengths are decoded here, strictly: they must fill the image exactly.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from seg_jax import files
from seg_jax.checks import UserError
from seg_jax.data.imports.layout import BACKGROUND, MOST_JSON, Import, Item, inside
from seg_jax.data.source import MOST_CLASSES

_MOST_POINTS = 100_000  # of a polygon


def read(path: Path, image_folder: Path, *, split: str = "", prefix: str = "") -> Import:
    """Return an import of one JSON file.

    Instances are painted from the largest to the smallest, so that none covers a smaller one. What
    no instance covers is the class background, with id 0.

    Args:
      path: the JSON file.
      image_folder: of the images that it names.
      split: list of all of them.
      prefix: folder of their ids.

    Raises:
      UserError: it is not such a file, or names images that are not there; it names the file.
    """
    content = files.read_json(path, most=MOST_JSON)
    try:
        categories = {int(entry["id"]): str(entry["name"]) for entry in content["categories"]}
        pictures = {int(entry["id"]): entry for entry in content["images"]}
        annotations = list(content["annotations"])
        names = [name for name in dict.fromkeys(categories.values()) if name != BACKGROUND]
        if len(names) >= MOST_CLASSES:
            raise UserError(f"{path}: {len(names)} categories; at most {MOST_CLASSES - 1}")
        classes = (BACKGROUND, *names)
        of = {number: classes.index(name) for number, name in categories.items()}
        by_image: dict[int, list[Any]] = {number: [] for number in pictures}
        for entry in annotations:
            by_image[int(entry["image_id"])].append((of[int(entry["category_id"])], entry))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"{path}: is no COCO file of instances ({type(error).__name__}: {error}): it has "
            "images, annotations with image_id and category_id, and categories"
        ) from error
    items = []
    for number, picture in pictures.items():
        name = str(picture.get("file_name", "")) if isinstance(picture, dict) else ""
        image = inside(image_folder, name, f"image {number} of {path.name}")
        place = image.relative_to(image_folder).with_suffix("").as_posix()
        items.append(
            Item(f"{prefix}{place}", image, _painter(path, number, by_image[number]), split)
        )
    boxes = sum(not entry.get("segmentation") for entry in annotations if isinstance(entry, dict))
    notes = (f"{path}: {boxes} annotations are boxes without a mask: left out",) if boxes else ()
    return Import(f"COCO ({path.name})", classes, tuple(items), notes=notes)


def _painter(path: Path, number: int, entries: list[Any]) -> Any:
    def label(size: tuple[int, int]) -> np.ndarray:
        parts = []
        for class_id, entry in entries:
            segmentation = entry.get("segmentation") if isinstance(entry, dict) else None
            if segmentation:
                try:
                    parts.append((class_id, mask(segmentation, size)))
                except (ValueError, TypeError, KeyError, OverflowError) as error:
                    raise UserError(
                        f"{path}: image {number}: a segmentation cannot be read ({error})"
                    ) from error
        found = np.zeros(size, np.uint8)
        for class_id, covered in sorted(parts, key=lambda part: -np.count_nonzero(part[1])):
            found[covered] = class_id
        return found

    return label


def mask(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels of a segmentation, bool [h w].

    Args:
      segmentation: a list of polygons [x0, y0, x1, y1, ...], or {"size", "counts"}.
      size: (height, width) of the image.

    Raises:
      ValueError: it is neither, or does not fit the image.
    """
    if isinstance(segmentation, dict):
        if list(segmentation.get("size", [])) != list(size):
            raise ValueError(f"size {segmentation.get('size')} in an image of {list(size)}")
        return decode(segmentation["counts"], size)
    if not isinstance(segmentation, list):
        raise ValueError(f"a {type(segmentation).__name__}")
    try:
        coder = importlib.import_module("pycocotools.mask")
    except ImportError as error:
        raise UserError(
            'COCO\'s polygons are drawn by pycocotools: pip install "seg_jax[import]"'
        ) from error
    height, width = size
    covered = np.zeros(size, bool)
    for polygon in segmentation:
        points = np.array(polygon, np.float64)
        limit = 2 * max(size)  # what lies outside of the image is cut off; far outside is an error
        if points.ndim != 1 or not 6 <= points.size <= _MOST_POINTS or points.size % 2:
            raise ValueError(f"a polygon of {points.size} numbers")
        if not (np.abs(points) <= limit).all():
            raise ValueError("a polygon far outside of the image")
        (drawn,) = coder.frPyObjects([points.tolist()], height, width)
        covered |= decode(drawn["counts"].decode(), size)
    return covered


def decode(counts: Any, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels of run lengths, bool [h w].

    Runs alternate between 0 and 1, beginning with 0, down the columns. As text they are differences
    from the run before the last but one, in groups of 5 bits, little end first, each in a character
    from "0" on, whose bit 5 says that another follows and bit 4 of the last is the sign.

    Raises:
      ValueError: they do not fill the image exactly.
    """
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    total = size[0] * size[1]
    if not isinstance(runs, list) or len(runs) > total + 1:
        raise ValueError("run lengths of another kind")
    if not all(type(run) is int and 0 <= run <= total for run in runs) or sum(runs) != total:
        raise ValueError(f"run lengths that do not add up to {total} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(size[1], size[0]).T


def _unpacked(text: str) -> list[int]:
    runs: list[int] = []
    value, shift = 0, 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64 or shift > 30:
            raise ValueError("a character that is none of run lengths")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            value -= (1 << shift) if code & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise ValueError("run lengths that are cut off")
    return runs
