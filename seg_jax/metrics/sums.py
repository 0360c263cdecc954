"""Scores of single images as integers, whose sums are exact in any order and grouping."""

import numpy as np

UNIT = 2**32  # a score of 1 as an integer


def image_sums(scores: np.ndarray) -> np.ndarray:
    """Convert the scores of one image, float [k] with NaN for "none", to integers, int64 [2 k+1].

    Row 0 is the score in units of 2^-32, row 1 the number of images it was measured in; column k is
    the score of the image: the mean of its others. Rounding costs 1e-10 and makes sums exact.
    """
    measured = ~np.isnan(scores)
    image = scores[measured].mean() if measured.any() else np.nan
    values = np.append(scores, image)
    counted = ~np.isnan(values)
    return np.stack([np.rint(np.where(counted, values, 0) * UNIT), counted]).astype(np.int64)


def means(sums: np.ndarray) -> np.ndarray:
    """Return the means of summed scores, float64 [...] for int64 [2 ...]; NaN if not measured."""
    total, count = sums
    out = np.full(count.shape, np.nan)
    return np.divide(total, count * float(UNIT), out=out, where=count > 0)
