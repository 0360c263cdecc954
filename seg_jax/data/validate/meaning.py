"""Find splits on which a perfect score would mean nothing, from the pixels of their masks."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from seg_jax.data import images
from seg_jax.data.source import Source
from seg_jax.types import IGNORE


def warnings(source: Source, *, most: int = 0) -> tuple[str, ...]:
    """Read a split's masks and return what makes training on it, or its score, meaningless.

    Empty for sound data. Training and evaluation can show it at their start.

    Args:
      source: the split.
      most: masks that are read, spread evenly over the list; 0: all (VOC's 1,464 take a second or
        two). Where not all are read, nothing is said about classes that do not occur.

    Raises:
      UserError: a mask cannot be read.
    """
    count = len(source)
    read = (
        range(count) if not most or most >= count else np.linspace(0, count - 1, most).astype(int)
    )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        values = pool.map(lambda index: _pixels(source.files(int(index))[1]), read)
        totals = sum(values, np.zeros(256, np.int64))
    return tuple(score_warnings(source, totals, complete=len(read) == count))


def _pixels(file: images.File) -> np.ndarray:
    return np.bincount(images.read_label(file).ravel(), minlength=256)


def score_warnings(source: Source, totals: np.ndarray, *, complete: bool = True) -> list[str]:
    """Return the warnings, most serious first.

    Args:
      source: the split.
      totals: pixels by mask value, int64 [256].
      complete: they are of all masks: classes without a pixel are named.
    """
    if not totals.any():
        return []
    of_class = np.zeros(len(source.classes), np.int64)
    for value, class_id in source.label_ids.items():
        if class_id != IGNORE:
            of_class[class_id] += totals[value]
    present = np.flatnonzero(of_class).tolist()
    used = set(np.flatnonzero(totals).tolist())
    if used == {0, IGNORE} and source.label_ids.get(IGNORE) == IGNORE:
        return [
            "the masks hold only 0 and 255, and 255 is read as void, so that one class is left and "
            "every score is perfect; if 255 is a class, number the lines of classes.txt and add "
            "a line '255 NAME'"
        ]
    if not present:
        return [
            "every pixel is void: nothing can be learnt or scored; give the values of the masks "
            "that are classes a line in classes.txt"
        ]
    if len(source.classes) == 1:
        return [
            f"there is one class, {source.classes[0]}: whatever is predicted is right, and every "
            "score is perfect; add the background as a class in classes.txt"
        ]
    if len(present) == 1:
        return [
            f"every pixel that is not void is {source.classes[present[0]]}: predicting it "
            "everywhere scores perfectly; are the values of the masks those of classes.txt?"
        ]
    absent = [name for name, pixels in zip(source.classes, of_class, strict=True) if not pixels]
    return [f"classes that never occur: {', '.join(absent)}"] if absent and complete else []
