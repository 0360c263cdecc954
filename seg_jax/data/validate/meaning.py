"""Find splits on which a perfect score would mean nothing, from the pixels of their masks."""

import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from seg_jax.checks import UserError
from seg_jax.data import images, palettes
from seg_jax.data.source import Source
from seg_jax.types import IGNORE

# What is decoded before a training: VOC's train list has 273 million pixels, a second or two.
MOST_PIXELS = 300_000_000
_MOST_FILES = 5_000  # of which the header is read
_BUNCH = 32  # masks that are decoded before the pixels are counted again


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the masks of a split say.

    Attributes:
      warnings: what makes training on it, or its score, meaningless; most serious first.
      read: masks that were decoded.
      complete: they are all of the split's. Otherwise nothing is said about absent classes.
      totals: pixels of those by mask value, int64 [256].
    """

    warnings: tuple[str, ...]
    read: int
    complete: bool
    totals: np.ndarray


@dataclasses.dataclass
class _Mask:
    file: images.File
    pixels: int
    palette: bytes  # as its header has it


def look(source: Source, *, most_pixels: int = MOST_PIXELS) -> Finding:
    """Decode a split's masks, of a large one an even share, and return what they say.

    Masks whose palettes differ are looked at first: of every palette that occurs in a header at
    least one mask is decoded, if the limit allows.

    Args:
      source: the split.
      most_pixels: that are decoded.

    Raises:
      UserError: a mask cannot be read, has a value that is neither a class nor void, or the
        palettes contradict each other or the data set's.
    """
    count = len(source)
    order = np.random.default_rng(0).permutation(count)[:_MOST_FILES].tolist()
    totals, colors, read, pixels = np.zeros(256, np.int64), [], 0, 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        masks = list(pool.map(lambda index: _header(source.files(index)[1]), order))
        first = {mask.palette: mask for mask in reversed(masks)}
        rest = [mask for mask in masks if first[mask.palette] is not mask]
        chosen = [*first.values(), *rest]
        for start in range(0, count, _BUNCH):
            bunch = []
            for mask in chosen[start : start + _BUNCH]:
                pixels += mask.pixels
                if pixels <= most_pixels or not (bunch or read):  # at least one
                    bunch.append(mask)
            for mask, (values, used) in zip(
                bunch, pool.map(lambda mask: _values(source, mask.file), bunch), strict=True
            ):
                totals += values
                if used is not None:
                    colors.append((mask.file, used))
            read += len(bunch)
            if pixels > most_pixels:
                break
    if source.mask_palette is None and (problem := palettes.disagreement(colors)):
        raise UserError(problem)
    complete = read == count
    warnings = score_warnings(source, totals, complete=complete)
    return Finding(tuple(warnings), read, complete, totals)


def _header(file: images.File) -> _Mask:
    with images.open_image(file) as image:
        palette = image.getpalette("RGB") if image.mode == "P" else None
        return _Mask(file, image.width * image.height, bytes(palette or ()))


def _values(source: Source, file: images.File) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a mask's pixels by value, int64 [256], and the colours that it uses, [256 3]."""
    label, palette = images.read_label_and_palette(file)
    values = np.bincount(label.ravel(), minlength=256)
    unknown = [value for value in np.flatnonzero(values) if int(value) not in source.label_ids]
    if unknown:
        raise UserError(f"{file}: {source.explain(np.array(unknown))}")
    if palette is None:
        return values, None
    if source.mask_palette is not None:
        palettes.insist(file, label, palette, source.mask_palette, source.classes)
    return values, palettes.used_colors(values, palette)


def score_warnings(source: Source, totals: np.ndarray, *, complete: bool = True) -> list[str]:
    """Return the warnings, most serious first.

    Args:
      source: the split.
      totals: pixels by mask value, int64 [256].
      complete: they are of all masks: classes without a pixel are named.
    """
    if not totals.any():
        return []
    if is_0_and_255(source, totals):
        two = len(source.classes) == 2
        remedy = (
            f"--data.map 255=1 makes it {source.classes[1]}" if two else "name it in --data.map"
        )
        return [
            "the masks hold only 0 and 255, and 255 is read as void, so that one class is left and "
            f"every score is perfect; if 255 is a class, {remedy}, as does a line '255 NAME' in a "
            "numbered classes.txt"
        ]
    return class_warnings(source.classes, class_pixels(source, totals), complete=complete)


def is_0_and_255(source: Source, totals: np.ndarray) -> bool:
    """Return whether masks hold only 0 and 255, and 255 is void; `totals` as `score_warnings`."""
    used = set(np.flatnonzero(totals).tolist())
    return used == {0, IGNORE} and source.label_ids.get(IGNORE) == IGNORE


def class_pixels(source: Source, totals: np.ndarray) -> np.ndarray:
    """Return the pixels of every class, int64 [k], from those by mask value, [256]."""
    of_class = np.zeros(len(source.classes), np.int64)
    for value, class_id in source.label_ids.items():
        if class_id != IGNORE:
            of_class[class_id] += totals[value]
    return of_class


def class_warnings(
    classes: Sequence[str], pixels: np.ndarray, *, complete: bool = True
) -> list[str]:
    """Return the warnings that follow from the pixels of each class in the truth alone.

    Args:
      classes: names by class id.
      pixels: of each class, void left out, [k].
      complete: classes without a pixel are named.
    """
    present = np.flatnonzero(pixels).tolist()
    if not present:
        return [
            "every pixel is void: nothing can be learnt or scored; give the values of the masks "
            "that are classes a line in classes.txt, or an entry in --data.map"
        ]
    if len(classes) == 1:
        return [
            f"there is one class, {classes[0]}: whatever is predicted is right, and every "
            "score is perfect; add the background as a class in classes.txt"
        ]
    if len(present) == 1:
        two = len(classes) == 2 and present == [0]
        remedy = "; if the masks are 0 and 255, --data.map 255=1 is missing" if two else ""
        return [
            f"every pixel that is not void is {classes[present[0]]}: predicting it everywhere "
            f"scores perfectly; are the values of the masks those of the classes?{remedy}"
        ]
    absent = [name for name, count in zip(classes, pixels, strict=True) if not count]
    return [f"classes that never occur: {', '.join(absent)}"] if absent and complete else []
