"""All pairs within a radius on the host, compiled by Numba: `exact` in seconds.

The pixels are in the leaves of a k-d tree through the five features, 16 in each. Leaves whose boxes
are farther apart than `RADIUS` are skipped; for the others the weight of every pair is computed,
sixteen in one vector, anew at every iteration: storing all would take gigabytes. Only the classes
that occur in a leaf are multiplied: see `NEGLIGIBLE`.
"""

from collections.abc import Callable

import jax
import numpy as np
from scipy.ndimage import correlate1d

from seg_jax.kernels.crf import exact_numba_kernels as kernels
from seg_jax.kernels.crf import numba_common
from seg_jax.kernels.crf.exact_numba_kernels import AXES, GROUP
from seg_jax.kernels.crf.numba_common import Chunks
from seg_jax.kernels.crf.params import CrfParams, Normalisation

# Standard deviations. With the 4 of `exact`, whose larger tiles happen to include many farther
# pairs, a probability of a photograph changed by 4e-4; with 4.5 by 6e-5.
RADIUS = 4.5
_SPATIAL_RADIUS = 6.0  # a weight beyond is less than half a unit in the last place of the peak

# Probabilities count as 0 if together they change no kernel's message, in units of energy, by more
# than this in one iteration: most classes do not occur, and most leaves have one or two.
NEGLIGIBLE = 1e-5


def mean_field(unary, rgb, params: CrfParams) -> jax.Array:
    """Return the marginals of a batch: float32 [n h w k] energies and [n h w 3] images (0..255).

    The definition, except for pairs more than `RADIUS` standard deviations apart and `NEGLIGIBLE`
    probabilities, which together change a probability by at most 2e-4 and no label.

    Raises:
        ValueError: inside jit, grad or vmap, where the values are not known.
    """
    return numba_common.mean_field(_one, unary, rgb, params, name="exact_numba", instead="exact")


def _one(unary: np.ndarray, rgb: np.ndarray, params: CrfParams, run: Chunks) -> np.ndarray:
    height, width, classes = unary.shape
    feature, _ = numba_common.features(rgb, params)
    filters = [_Near(feature, run), _separable(height, width, params.spatial_px, run)]
    terms = [
        _Term(each, height * width, weight, params.normalisation)
        for each, weight in zip(filters, numba_common.weights(params), strict=True)
    ]

    def send(q, message):
        message[:] = 0
        for term in terms:
            term.add(q[:, :classes], message)

    return numba_common.update(unary, send, params, run)


class _Term:
    """A kernel with its normalisation and weight."""

    def __init__(self, kernel: Callable, pixels: int, weight: float, how: Normalisation):
        self.kernel = kernel
        sums = kernel(np.ones((pixels, 1), np.float32))[:, 0]
        self.before, after = numba_common.factors(sums, how)
        self.after = np.float32(weight) * after
        self.gain = np.abs(self.after * sums).max()

    def add(self, q: np.ndarray, message: np.ndarray) -> None:
        """Add the message of q, float32 [m k], to the first columns of `message`."""
        if self.before is not None:
            q = q * self.before[:, None]
        # The error is at most a row sum of the kernel times the largest of these values.
        classes = np.flatnonzero(self.gain * q.max(axis=0) >= NEGLIGIBLE)
        if classes.size:
            q = q[:, classes]
            q[self.gain * q < NEGLIGIBLE] = 0
            message[:, classes] += self.after[:, None] * self.kernel(q)


class _Near:
    """The bilateral kernel over pairs of near leaves, q float32 [m k] -> K q [m k]."""

    def __init__(self, feature: np.ndarray, run: Chunks):
        self.run, self.order = run, kernels.order(feature)
        # The last pixel is repeated to the end of its leaf: the box does not grow.
        leaves = -(-len(feature) // GROUP)
        place = np.minimum(np.arange(leaves * GROUP), len(feature) - 1)
        leaf = feature[self.order][place].reshape(leaves, GROUP, AXES)
        low, high = (np.ascontiguousarray(x.T) for x in (leaf.min(axis=1), leaf.max(axis=1)))
        counts, listed = zip(
            *run(kernels.near, leaves, low, high, np.float32(RADIUS), pixels=GROUP), strict=True
        )
        self.near = np.cumsum(np.concatenate([[0], *counts])), np.concatenate(listed)
        to_base_2 = np.float32(np.sqrt(np.log2(np.e) / 2))  # the kernel is 2^-|a - b|^2
        self.leaf = np.ascontiguousarray(leaf.swapaxes(1, 2)) * to_base_2

    def __call__(self, q: np.ndarray) -> np.ndarray:
        (m, columns), leaves = q.shape, len(self.leaf)
        padded = np.zeros((leaves * GROUP, columns), np.float32)
        padded[:m] = q[self.order]
        dense = padded.reshape(leaves, GROUP, columns).swapaxes(1, 2)
        there = dense.any(axis=2)
        start = np.cumsum(np.concatenate([[0], there.sum(axis=1)]), dtype=np.int32)
        sparse = start, np.nonzero(there)[1].astype(np.int32), dense[there]
        out = np.empty(dense.shape, np.float32)
        self.run(kernels.multiply, leaves, self.leaf, *self.near, *sparse, out, pixels=GROUP)
        result = np.empty_like(q)
        result[self.order] = out.swapaxes(1, 2).reshape(-1, columns)[:m]
        return result


def _separable(
    height: int, width: int, px: float, run: Chunks
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the spatial Gaussian of width `px`, q float32 [h*w k] -> K q [h*w k]."""
    reach = int(np.ceil(_SPATIAL_RADIUS * float(px)))
    weights = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / float(px)))

    def blur(plane):
        for axis in range(2):
            plane = correlate1d(plane, weights, axis, mode="constant")
        return plane.reshape(-1)

    def apply(q):
        return np.stack(run.each(blur, np.ascontiguousarray(q.T).reshape(-1, height, width)), 1)

    return apply
