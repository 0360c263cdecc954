"""The errors of the ISBI 2012 challenge, on label maps: class 0 is membrane, class 1 a cell.

The challenge thresholded probabilities at ten levels and averaged the best score of each section;
here the label map is scored, i.e. only the level 1/2, which can only be worse.
"""

import collections
import functools

import numpy as np

from seg_jax.metrics.components import components


def errors(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return pixel, Rand and warping error, float64 [3], of integers [h w] in {0, 1}."""
    truth, found = label == 1, prediction == 1
    return np.array(
        [np.mean(truth != found), rand_error(truth, found), warping_error(truth, found)]
    )


def rand_error(truth: np.ndarray, found: np.ndarray) -> float:
    """Return 1 - F of the Rand index over pairs of pixels in true cells, for bool [h w].

    Cells are 4-connected. With n_ij pixels in true cell i and found cell j, F is
    2 sum n_ij^2 / (sum_i n_i^2 + sum_j n_j^2) over the pixels of true cells; a pixel of them that
    was found to be membrane is a cell of its own (Arganda-Carreras et al., Frontiers in
    Neuroanatomy 2015, "foreground-restricted Rand", alpha = 1/2, as in SNEMI3D's script).
    """
    cells, _ = components(truth)
    regions, count = components(found)
    pairs = cells[truth].astype(np.int64) * (count + 1) + regions[truth]
    together, n_ij = np.unique(pairs, return_counts=True)
    region = together % (count + 1)
    alone = n_ij[region == 0].sum()
    both = (n_ij[region > 0].astype(float) ** 2).sum() + alone
    by_cell = (np.bincount(cells[truth]).astype(float) ** 2).sum()
    by_region = (np.bincount(regions[truth])[1:].astype(float) ** 2).sum() + alone
    total = by_cell + by_region
    return float(1 - 2 * both / total) if total else 0.0


def warping_error(truth: np.ndarray, found: np.ndarray) -> float:
    """Return the share of pixels that differ after the truth was warped to the result, bool [h w].

    Differing pixels of the truth are flipped one by one if that does not change the topology (Jain
    et al., CVPR 2010), i.e. if the pixel is simple; cells are 4-connected, membranes 8-connected,
    and the outside of the image is membrane. The remaining errors are merged, split and lost cells,
    holes, and membranes that do not touch their true position. The order is greedy, from the top;
    another one may leave a few more or less.
    """
    warped = np.pad(truth, 1)
    target = np.pad(found, 1)
    width = warped.shape[1]
    flat, goal = bytearray(warped.tobytes()), target.tobytes()
    around = [row * width + column for row, column in _RING]
    inner = np.zeros(warped.shape, bool)
    inner[1:-1, 1:-1] = True
    waiting = collections.deque(np.flatnonzero((warped != target) & inner).tolist())
    queued = set(waiting)
    inner = inner.ravel().tobytes()
    while waiting:
        pixel = waiting.popleft()
        queued.discard(pixel)
        if flat[pixel] == goal[pixel]:
            continue
        code = 0
        for bit, offset in enumerate(around):
            code |= flat[pixel + offset] << bit
        if not _is_simple(code):
            continue
        flat[pixel] ^= 1
        for offset in around:
            near = pixel + offset
            if inner[near] and flat[near] != goal[near] and near not in queued:
                queued.add(near)
                waiting.append(near)
    left = np.frombuffer(bytes(flat), bool).reshape(warped.shape) != target
    return float(left[1:-1, 1:-1].mean())


# The eight neighbours in a circle, as (row, column); even places are 4-neighbours.
_RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


@functools.cache
def _is_simple(code: int) -> bool:
    """Return whether a pixel with these neighbours (bit set: cell) can be flipped without changing
    the topology: exactly one 4-connected cell and one 8-connected membrane touch it.
    """
    patch = np.zeros((3, 3), bool)
    for bit, (row, column) in enumerate(_RING):
        patch[1 + row, 1 + column] = code >> bit & 1
    cells, _ = components(patch)
    membrane = ~patch
    membrane[1, 1] = False
    _, membranes = components(membrane, np.ones((3, 3)))
    touching = {cells[1 + row, 1 + column] for row, column in _RING[::2]} - {0}
    return len(touching) == 1 and membranes == 1
