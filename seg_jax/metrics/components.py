"""Connected components of masks."""

from typing import Any

import numpy as np
from scipy import ndimage


def components(mask: np.ndarray, structure: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """Return the component of each pixel, int [h w] with 0 outside, and their number.

    Args:
      mask: bool [h w].
      structure: 3x3 neighbourhood; None: 4-connected.
    """
    found: Any = ndimage.label(mask, structure)  # typed as int or tuple
    labels, count = found
    return labels, count
