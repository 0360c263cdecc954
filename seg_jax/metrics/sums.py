"""Scores of single images as integers that sum exactly, whatever the order and the grouping."""

import numpy as np

UNIT = 2**32  # a score of 1, as it is summed


def image_sums(scores: np.ndarray) -> np.ndarray:
    """Turn one image's scores, float [k] with NaN for "none", into integers, int64 [2 k+1].

    Row 0 is the score in units of 2^-32, row 1 the number of images it was measured in; column k is
    the image's own score, the mean of its others. Rounding costs 1e-10 and makes sums exact.
    """
    measured = ~np.isnan(scores)
    image = scores[measured].mean() if measured.any() else np.nan
    values = np.append(scores, image)
    counted = ~np.isnan(values)
    return np.stack([np.rint(np.where(counted, values, 0) * UNIT), counted]).astype(np.int64)


def means(sums: np.ndarray) -> np.ndarray:
    """Return the means of summed scores, float64 [...] for int64 [2 ...]; NaN where none is."""
    total, count = sums
    out = np.full(count.shape, np.nan)
    return np.divide(total, count * float(UNIT), out=out, where=count > 0)
