"""The permutohedral lattice on the host, compiled by Numba: the default on a CPU.

Same filter as `lattice`, but the vertices are found with a hash table and the passes are loops
over rows of classes, which XLA's CPU gathers do not match. The vertices are numbered in the order
in which the pixels, row by row, touch them, so that neighbours in the picture are neighbours in
memory; the splat is transposed (a sum for every vertex), so that threads never write to the same
row; the normalisation is folded into the weights.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from seg_jax.kernels.crf.params import CrfParams, Normalisation
from seg_jax.kernels.crf.update import EPSILON

try:
    from seg_jax.kernels.crf import host_kernels
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"implementation='host' of the CRF needs Numba ({error}): pip install numba"
    ) from error

_VECTOR = 8  # classes are padded to a multiple of it
_MIN_ROWS = 4096  # fewer are done before a thread has begun
_PADDING = 1e9  # energy of a padded class: its probability is exactly 0


def mean_field(unary, rgb, params: CrfParams) -> jax.Array:
    """Return the marginals of a batch: float32 [n h w k] energies and [n h w 3] pictures (0..255).

    Raises:
        ValueError: inside jit, grad or vmap, where the values are not known.
        ModuleNotFoundError: Numba is not installed.
    """
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((unary, rgb, params))):
        raise ValueError(
            "implementation='host' needs values, and was called inside jit, grad or vmap; "
            "use implementation='lattice', which is the same filter"
        )
    unary, rgb = np.asarray(unary), np.asarray(rgb)
    threads = _threads()
    with ThreadPoolExecutor(threads) as pool:
        run = _Chunks(pool, threads)
        return jnp.asarray(
            np.stack([_one(*pair, params, run) for pair in zip(unary, rgb, strict=True)])
        )


def _threads() -> int:
    """Return the number of cores that this process may use, where the system says it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class _Chunks:
    """Runs a kernel whose first arguments are `begin, end` over [0, size) on all threads."""

    def __init__(self, pool: ThreadPoolExecutor, threads: int):
        self.pool, self.threads = pool, threads

    def __call__(self, kernel, size: int, *arguments):
        if self.threads == 1 or size < _MIN_ROWS:
            return [kernel(0, size, *arguments)]
        # More chunks than threads: a core that others use as well does not hold everybody up.
        bounds = np.linspace(0, size, 4 * self.threads + 1).astype(np.int64)
        tasks = [
            self.pool.submit(kernel, begin, end, *arguments)
            for begin, end in zip(bounds[:-1], bounds[1:], strict=True)
        ]
        return [task.result() for task in tasks]

    def each(self, function, items):
        """Return function(item) of all items."""
        return list(self.pool.map(function, items))


class _Lattice:
    """The vertices that the features, float32 [m d], touch, and the passes between them."""

    def __init__(self, feature: np.ndarray, run: _Chunks):
        self.run, (self.pixels, d) = run, feature.shape
        keys = np.empty((self.pixels, d + 1), np.int64)
        self.weight = np.empty(keys.shape, np.float32)
        if not min(run(host_kernels.locate, self.pixels, feature, keys, self.weight)):
            raise ValueError(
                "a width of the CRF is too small for the lattice's keys: the features span more "
                "than 2000 cells; use a larger bilateral_px, bilateral_rgb or spatial_px"
            )
        self.index = np.empty(keys.shape, np.int32)
        vertex_key, table = host_kernels.number(keys, self.index)
        self.count = vertex_key.size
        self.chains = run.each(
            lambda axis: host_kernels.chains(axis, d, vertex_key, table), range(d + 1)
        )
        self.start, self.pixel, self.slot = host_kernels.transpose(self.index, self.count)

    def normalise(self, how: Normalisation, weight: float) -> None:
        """Fold the normalisation by n = K 1 and the kernel's weight into the passes' weights."""
        self.splat_weight = self.weight.reshape(-1)[self.slot]
        sums = np.empty((self.pixels, 1), np.float32)
        rows = self.filter(np.ones_like(sums))
        self.run(host_kernels.passes(1).gather, self.pixels, self.index, self.weight, rows, sums)
        sums = sums[:, 0] + np.float32(EPSILON)
        root = 1 / np.sqrt(sums)
        before, after = {
            "after": (None, 1 / sums),
            "before": (1 / sums, np.ones_like(sums)),
            "symmetric": (root, root),
            # The released code's constant, which the sums cancel elsewhere.
            "none": (None, np.full_like(sums, 1 / (1 + 0.5 ** (self.index.shape[1] - 1)))),
        }[how]
        if before is not None:
            self.splat_weight *= before[self.pixel]
        self.slice_weight = self.weight * (np.float32(weight) * after)[:, None]

    def filter(self, q: np.ndarray) -> np.ndarray:
        """Return the blurred vertex values, float32 [count k], of q [m k]."""
        kernels = host_kernels.passes(q.shape[1])
        rows = np.empty((self.count, q.shape[1]), np.float32)
        self.run(kernels.splat, self.count, self.start, self.pixel, self.splat_weight, q, rows)
        for order, link, start in self.chains:
            self.run(kernels.blur, start.size - 1, start, order, link, rows)
        return rows


def _one(unary: np.ndarray, rgb: np.ndarray, params: CrfParams, run: _Chunks) -> np.ndarray:
    height, width, classes = unary.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    position = np.stack([x, y], axis=-1).reshape(-1, 2)
    colour = rgb.reshape(-1, 3).astype(np.float32) / np.float32(params.bilateral_rgb)
    bilateral = np.concatenate([position / np.float32(params.bilateral_px), colour], axis=1)
    lattices = [_Lattice(f, run) for f in (bilateral, position / np.float32(params.spatial_px))]
    mu = np.asarray(params.compatibility, np.float32)
    scale = float(mu) if mu.ndim == 0 else 1.0
    for lattice, weight in zip(
        lattices, (params.bilateral_weight, params.spatial_weight), strict=True
    ):
        lattice.normalise(params.normalisation, scale * float(weight))
    padded = -(-classes // _VECTOR) * _VECTOR
    kernels = host_kernels.passes(padded)
    energy = np.full((height * width, padded), _PADDING, np.float32)
    energy[:, :classes] = unary.reshape(-1, classes)
    message, q = np.zeros_like(energy), np.empty_like(energy)
    run(kernels.softmax, len(q), energy, message, q)
    for _ in range(params.iterations):
        rows = [lattice.filter(q) for lattice in lattices]
        run(
            kernels.gather_two,
            len(q),
            *(
                part
                for lattice, values in zip(lattices, rows, strict=True)
                for part in (lattice.index, lattice.slice_weight, values)
            ),
            message,
        )
        if mu.ndim == 1:
            message[:, :classes] *= mu
        elif mu.ndim == 2:
            message[:, :classes] = -message[:, :classes] @ mu.T
        run(kernels.softmax, len(q), energy, message, q)
    return q[:, :classes].reshape(unary.shape)
