"""U-Net's border weight map (Ronneberger et al. 2015, equation 2)."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import ndimage

from seg_jax.types import IGNORE


def unet_border(label: np.ndarray, *, w0: float = 10.0, sigma_px: float = 5.0) -> np.ndarray:
    """Return w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2)), float32 [h w].

    d1 and d2 are the distances, in pixels, from x to the nearest and the second nearest cell (0
    inside a cell). A cell is a 4-connected component of one class other than 0. With fewer than
    two cells the second term is 0. w_c balances the classes, see `class_balance`. The weight of
    void pixels is 0.

    Args:
      label: uint8 [h w], class id or IGNORE.
      w0: height of the border term.
      sigma_px: its width in pixels.
    """
    border = border_term(label, w0=w0, sigma_px=sigma_px)
    weight = class_balance(label) + border
    weight[label == IGNORE] = 0.0
    return weight.astype(np.float32)


def class_balance(label: np.ndarray) -> np.ndarray:
    """Return w_c, float64 [h w]: n / (k n_c) at a pixel of class c.

    n is the number of valid pixels, k of the classes that occur, n_c of the pixels of class c. So
    every class has the same total weight, and the mean over the valid pixels is 1. The paper asks
    for such a balance and gives no formula.
    """
    counts = np.bincount(label.ravel(), minlength=256).astype(np.float64)
    counts[IGNORE] = 0
    present = counts > 0
    weight = np.zeros(256)
    weight[present] = counts.sum() / (present.sum() * counts[present])
    return weight[label]


def border_term(label: np.ndarray, *, w0: float, sigma_px: float) -> np.ndarray:
    """Return the second term of equation 2, float64 [h w].

    A cell contributes up to the distance at which the term falls below 1e-7.
    """
    nearest = np.full((2, *label.shape), np.inf)  # d1 <= d2
    reach = math.ceil(sigma_px * math.sqrt(2 * math.log(max(w0, 1e-6) / 1e-7)))
    for components, number, (rows, columns) in _cells(label):
        window = np.s_[
            max(0, rows.start - reach) : rows.stop + reach,
            max(0, columns.start - reach) : columns.stop + reach,
        ]
        distance = np.asarray(ndimage.distance_transform_edt(components[window] != number))
        d1, d2 = nearest[(0, *window)], nearest[(1, *window)]
        np.minimum(d2, np.maximum(d1, distance), out=d2)
        np.minimum(d1, distance, out=d1)
    return w0 * np.exp(-((nearest[0] + nearest[1]) ** 2) / (2 * sigma_px**2))


def _cells(label: np.ndarray) -> Iterator[tuple[np.ndarray, int, tuple[slice, slice]]]:
    """Yield every cell as a map of components [h w], its number there, and its bounding box."""
    for class_id in np.unique(label):
        if class_id in (0, IGNORE):
            continue
        labelled: Any = ndimage.label(label == class_id)
        components, _ = labelled
        for number, box in enumerate(ndimage.find_objects(components), start=1):
            yield components, number, box
