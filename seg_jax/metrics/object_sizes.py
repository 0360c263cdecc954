"""IoU of single objects, by their size."""

from collections.abc import Sequence

import numpy as np

from seg_jax.metrics.components import components
from seg_jax.metrics.sums import UNIT
from seg_jax.types import IGNORE

# COCO's upper limits of the area, in pixels, of "small" and "medium" objects.
SIZES_PX = (32**2, 96**2)
SIZE_NAMES = ("small", "medium", "large")
_EIGHT = np.ones((3, 3), int)


def object_iou(
    label: np.ndarray, prediction: np.ndarray, classes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return class, area and IoU of every object of one image.

    An object is an 8-connected component of a class in the truth. It is compared with the predicted
    components of its class that touch it, without their pixels on other objects of that class:
    IoU = hit / (area + pixels of these components outside of all objects). So one predicted region
    over two objects is correct for both, and a region that touches no object is not counted (it
    lowers mIoU). Void belongs to no object and no prediction.

    Args:
      label: integers [h w], class id or IGNORE.
      prediction: integers [h w], class id.
      classes: ids of the classes whose components are objects.

    Returns:
      int64 [n], int64 [n] in pixels, float64 [n].
    """
    found_of = np.where(label == IGNORE, -1, prediction.astype(np.int64))
    parts = [
        _of_class(label == value, found_of == value, value)
        for value in np.unique(label)
        if value in classes
    ]
    none = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    if not parts:
        return none
    value, area, iou = map(np.concatenate, zip(*parts, strict=True))
    return value, area, iou


def _of_class(truth: np.ndarray, found: np.ndarray, value: int) -> tuple[np.ndarray, ...]:
    objects, count = components(truth, _EIGHT)
    regions, region_count = components(found, _EIGHT)
    both = truth & found
    pairs = objects[both].astype(np.int64) * (region_count + 1) + regions[both]
    touching, hits = np.unique(pairs, return_counts=True)
    of_object, of_region = np.divmod(touching, region_count + 1)
    outside = np.bincount(regions[found & ~truth], minlength=region_count + 1)
    hit = np.bincount(of_object, hits, count + 1)[1:]
    wrong = np.bincount(of_object, outside[of_region], count + 1)[1:]
    area = np.bincount(objects[truth], minlength=count + 1)[1:]
    return np.full(count, value, np.int64), area, hit / (area + wrong)


def object_sums(found: tuple[np.ndarray, np.ndarray, np.ndarray], num_classes: int) -> np.ndarray:
    """Turn one image's `object_iou` into summable integers, int64 [2 3 k].

    Row 0 is the summed IoU in units of 2^-32, row 1 the number of objects; by size and class.
    """
    value, area, iou = found
    sums = np.zeros((2, len(SIZE_NAMES), num_classes), np.int64)
    size = np.searchsorted(SIZES_PX, area, side="right")
    np.add.at(sums[0], (size, value), np.rint(iou * UNIT).astype(np.int64))
    np.add.at(sums[1], (size, value), 1)
    return sums
