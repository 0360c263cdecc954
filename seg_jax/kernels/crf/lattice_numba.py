"""The permutohedral lattice on the host, compiled by Numba: the default on a CPU.

Same filter as `lattice`, but vertices are found with a hash table, and the passes are loops over
rows of classes, which are faster than XLA's gathers on a CPU. Vertices are numbered in the order in
which the pixels, row by row, touch them, so that neighbours in the image are neighbours in memory;
the splat is transposed (a sum for every vertex), so that threads never write to the same row; the
normalisation is folded into the weights.
"""

import jax
import numpy as np

from seg_jax.kernels.crf import lattice_numba_kernels, numba_common
from seg_jax.kernels.crf.numba_common import Chunks
from seg_jax.kernels.crf.params import CrfParams, Normalisation


def mean_field(unary, rgb, params: CrfParams) -> jax.Array:
    """Return the marginals of a batch: float32 [n h w k] energies and [n h w 3] images (0..255).

    Raises:
        ValueError: inside jit, grad or vmap, where the values are not known.
    """
    return numba_common.mean_field(
        _one, unary, rgb, params, name="lattice_numba", instead="lattice"
    )


class _Lattice:
    """The lattice vertices around the features, float32 [m d], and the passes between them."""

    def __init__(self, feature: np.ndarray, run: Chunks):
        self.run, (self.pixels, d) = run, feature.shape
        keys = np.empty((self.pixels, d + 1), np.int64)
        self.weight = np.empty(keys.shape, np.float32)
        if not min(run(lattice_numba_kernels.locate, self.pixels, feature, keys, self.weight)):
            raise ValueError(
                "a width of the CRF is too small for the lattice's keys: the features span more "
                "than 2000 cells; use a larger bilateral_px, bilateral_rgb or spatial_px"
            )
        self.index = np.empty(keys.shape, np.int32)
        vertex_key, table = lattice_numba_kernels.number(keys, self.index)
        self.count = vertex_key.size
        self.chains = run.each(
            lambda axis: lattice_numba_kernels.chains(axis, d, vertex_key, table), range(d + 1)
        )
        self.start, self.pixel, self.slot = lattice_numba_kernels.transpose(self.index, self.count)

    def normalise(self, how: Normalisation, weight: float) -> None:
        """Fold the normalisation by n = K 1 and the kernel's weight into the passes' weights."""
        self.splat_weight = self.weight.reshape(-1)[self.slot]
        sums = np.empty((self.pixels, 1), np.float32)
        rows = self.filter(np.ones_like(sums))
        self.run(
            lattice_numba_kernels.passes(1).gather, self.pixels, self.index, self.weight, rows, sums
        )
        # The released code's constant, which the sums cancel elsewhere.
        constant = 1 / (1 + 0.5 ** (self.index.shape[1] - 1))
        before, after = numba_common.factors(sums[:, 0], how, constant)
        if before is not None:
            self.splat_weight *= before[self.pixel]
        self.slice_weight = self.weight * (np.float32(weight) * after)[:, None]

    def filter(self, q: np.ndarray) -> np.ndarray:
        """Return the blurred vertex values, float32 [count k], of q [m k]."""
        kernels = lattice_numba_kernels.passes(q.shape[1])
        rows = np.empty((self.count, q.shape[1]), np.float32)
        self.run(kernels.splat, self.count, self.start, self.pixel, self.splat_weight, q, rows)
        for order, link, start in self.chains:
            self.run(kernels.blur, start.size - 1, start, order, link, rows)
        return rows


def _one(unary: np.ndarray, rgb: np.ndarray, params: CrfParams, run: Chunks) -> np.ndarray:
    bilateral, position = numba_common.features(rgb, params)
    lattices = [_Lattice(f, run) for f in (bilateral, position / np.float32(params.spatial_px))]
    for lattice, weight in zip(lattices, numba_common.weights(params), strict=True):
        lattice.normalise(params.normalisation, weight)

    def send(q, message):
        parts = [(each.index, each.slice_weight, each.filter(q)) for each in lattices]
        gather = lattice_numba_kernels.passes(q.shape[1]).gather_two
        run(gather, len(q), *parts[0], *parts[1], message)

    return numba_common.update(unary, send, params, run)
