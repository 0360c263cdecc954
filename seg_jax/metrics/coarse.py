"""The truth at a coarse stride: what of a label map is left between scores of one a square."""

import numpy as np

from seg_jax import checks


def at_stride(label: np.ndarray, stride: int, num_classes: int) -> np.ndarray:
    """Scale a label map down by `stride` and back: uint8 [h w], class ids.

    Each class's share of every square of stride x stride pixels (the last ones may be smaller) is
    interpolated bilinearly between the squares' centres; the largest share wins. Void has no share.
    A network of that output stride can come out a little better: it may choose scores whose
    interpolation meets the edges.

    Args:
      label: [h w], class ids; others, as IGNORE, are void.
      stride: pixels between two scores, in both directions.
      num_classes: number of classes.
    """
    checks.positive(stride=stride, num_classes=num_classes)
    rows, columns = (_down_and_up(side, stride) for side in label.shape)
    planes = label == np.arange(num_classes)[:, None, None]
    return np.argmax(rows @ planes.astype(np.float64) @ columns.T, axis=0).astype(np.uint8)


def _down_and_up(side: int, stride: int) -> np.ndarray:
    """Return the matrix [side side] that averages over cells and interpolates between them."""
    cell = np.arange(side) // stride
    down = (cell == np.arange(cell[-1] + 1)[:, None]).astype(np.float64)
    centres = down @ np.arange(side) / down.sum(1)
    up = np.stack([np.interp(np.arange(side), centres, one) for one in np.eye(len(centres))], 1)
    return up @ (down / down.sum(1, keepdims=True))
