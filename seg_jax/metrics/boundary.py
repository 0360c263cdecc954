"""Boundary metrics of one image: trimap mIoU and boundary F1, on the host.

Both are summed as integers over the images of a split, so that a score does not depend on the order
of the images, nor on batches and processes.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from seg_jax.types import IGNORE

TOLERANCE = 0.0075  # of the image diagonal; Csurka et al. 2013, SegNet sec. 4
GCN_PX = 7  # boundary pixels of GCN: at most this far from a boundary (CVPR 2017, Table 5)


def distance_to_boundary(label: np.ndarray) -> np.ndarray:
    """Return the distance of each labelled pixel to the closest pixel of another label.

    Void counts as another label: VOC draws boundaries as a void band. The border of the image is
    not a boundary.

    Args:
      label: integers [h w], class id or IGNORE.

    Returns:
      float64 [h w], Euclidean distance between pixel centres in px, so 1 for a pixel that touches
      the boundary; infinite for void pixels and where the image has one label only.
    """
    distance = np.full(label.shape, np.inf)
    boxes = ndimage.find_objects(label.astype(np.int32) + 1)  # 0 is "no object" there
    for value, box in enumerate(boxes or []):
        if box is None or value == IGNORE:
            continue
        # Grown by a pixel, the box contains the closest pixel of another label for every pixel.
        grown = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        mask = label[grown] == value
        if not mask.all():
            distance[grown][mask] = ndimage.distance_transform_edt(mask)[mask]
    return distance


def trimap_confusion(
    label: np.ndarray, prediction: np.ndarray, num_classes: int, half_widths_px: Sequence[int]
) -> np.ndarray:
    """Return the confusion matrices of the bands around the labelled boundaries.

    The band of half-width r contains the labelled pixels with `distance_to_boundary` <= r; the mIoU
    in it is the trimap score (Krähenbühl and Koltun, NIPS 2011; DeepLab v1, sec. 5: a band around
    the void label). Half-width: a boundary without void has r pixels on each side.

    Args:
      label: integers [h w], class id or IGNORE.
      prediction: integers [h w], class id.
      num_classes: k.
      half_widths_px: the r half-widths, ascending.

    Returns:
      int64 [r k k]; row: truth, column: prediction.
    """
    radii = np.asarray(half_widths_px)
    if np.any(np.diff(radii) <= 0):
        raise ValueError(f"half_widths_px must ascend, got {tuple(half_widths_px)}")
    ring = np.searchsorted(radii, distance_to_boundary(label))  # the first band that holds a pixel
    inside = (ring < len(radii)) & (label != IGNORE)
    truth, found = label[inside].astype(np.int64), prediction[inside].astype(np.int64)
    bins = (ring[inside] * num_classes + truth) * num_classes + found
    counts = np.bincount(bins, minlength=len(radii) * num_classes**2)
    return counts.reshape(len(radii), num_classes, num_classes).cumsum(0)


def boundary_f1(label: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the boundary F1 of every class in one image (Csurka et al., BMVC 2013).

    The boundary of a class is the set of its pixels with a 4-neighbour of another label.
    Precision is the share of predicted boundary pixels within the tolerance (0.75 % of the image
    diagonal, Euclidean, not rounded) of the class's true boundary, recall the share of true ones
    within it of the predicted boundary; F1 = 2 P R / (P + R), or 0 where nothing matches.

    Void in the truth bounds a class, so VOC's void band gives each side its own boundary. A
    predicted boundary pixel in void counts if it matches and is ignored otherwise, because the
    truth is unknown there.

    Args:
      label: integers [h w], class id or IGNORE.
      prediction: integers [h w], class id.
      num_classes: k.

    Returns:
      float64 [k]; NaN for a class that has no boundary in the truth.
    """
    tolerance = TOLERANCE * np.hypot(*label.shape)
    scores = np.full(num_classes, np.nan)
    true_edge, found_edge = _edges(label), _edges(prediction)
    known = label != IGNORE
    for value in np.unique(label[true_edge & known]):
        truth = np.argwhere(true_edge & (label == value))
        found_mask = found_edge & (prediction == value)
        found = np.argwhere(found_mask)
        if not found.size:
            scores[value] = 0.0
            continue
        recalled = cKDTree(found).query(truth)[0] <= tolerance
        matched = cKDTree(truth).query(found)[0] <= tolerance
        counted = matched | known[found_mask]
        precision = matched.sum() / max(counted.sum(), 1)
        recall = recalled.mean()
        total = precision + recall
        scores[value] = 2 * precision * recall / total if total else 0.0
    return scores


def _edges(label: np.ndarray) -> np.ndarray:
    """Return bool [h w]: the pixels with a 4-neighbour of another label."""
    edge = np.zeros(label.shape, bool)
    down, right = label[1:] != label[:-1], label[:, 1:] != label[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge
