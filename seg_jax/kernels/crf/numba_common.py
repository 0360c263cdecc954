"""What the implementations on the host share: threads, batches, features, normalisation, update."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from seg_jax.kernels.crf import lattice_numba_kernels
from seg_jax.kernels.crf.params import CrfParams, Normalisation
from seg_jax.kernels.crf.update import EPSILON

_VECTOR = 8  # classes are padded to a multiple of it
_MIN_PIXELS = 4096  # fewer are done before a thread has begun
_PADDING = 1e9  # energy of a padded class: its probability is exactly 0


def mean_field(one: Callable, unary, rgb, params: CrfParams, *, name: str, instead: str):
    """Return one(unary, rgb, params, chunks) for every image of a batch, as a JAX array.

    Raises:
        ValueError: inside jit, grad or vmap, where the values are not known; it names `instead`.
    """
    if any(isinstance(x, Tracer) for x in jax.tree.leaves((unary, rgb, params))):
        raise ValueError(
            f"implementation={name!r} needs values, and was called inside jit, grad or vmap; "
            f"use implementation={instead!r}, which is the same filter"
        )
    unary, rgb = np.asarray(unary), np.asarray(rgb)
    threads = _threads()
    with ThreadPoolExecutor(threads) as pool:
        run = Chunks(pool, threads)
        return jnp.asarray(
            np.stack([one(*pair, params, run) for pair in zip(unary, rgb, strict=True)])
        )


def _threads() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Chunks:
    """Runs a kernel whose first arguments are `begin, end` over [0, size) on all threads."""

    def __init__(self, pool: ThreadPoolExecutor, threads: int):
        self.pool, self.threads = pool, threads

    def __call__(self, kernel, size: int, *arguments, pixels: int = 1) -> list:
        """Return the results of the chunks; each of the `size` rows is so many pixels."""
        if self.threads == 1 or size * pixels < _MIN_PIXELS:
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


def features(rgb: np.ndarray, params: CrfParams) -> tuple[np.ndarray, np.ndarray]:
    """Return the bilateral features, float32 [m 5], and the positions (x, y), float32 [m 2]."""
    y, x = np.mgrid[: rgb.shape[0], : rgb.shape[1]].astype(np.float32)
    position = np.stack([x, y], axis=-1).reshape(-1, 2)
    colour = rgb.reshape(-1, 3).astype(np.float32) / np.float32(params.bilateral_rgb)
    return np.concatenate([position / np.float32(params.bilateral_px), colour], axis=1), position


def factors(
    sums: np.ndarray, how: Normalisation, unnormalised: float = 1.0
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return what to multiply with before and after a kernel of `sums` K 1, float32 [m].

    The first is None where it is 1; the second is `unnormalised` where nothing is normalised.
    """
    sums = sums + np.float32(EPSILON)
    root = 1 / np.sqrt(sums)
    return {
        "after": (None, 1 / sums),
        "before": (1 / sums, np.ones_like(sums)),
        "symmetric": (root, root),
        "none": (None, np.full_like(sums, unnormalised)),
    }[how]


def weights(params: CrfParams) -> tuple[float, float]:
    """Return the kernels' weights, times the compatibility where that is one number."""
    mu = np.asarray(params.compatibility, np.float32)
    scale = float(mu) if mu.ndim == 0 else 1.0
    return scale * float(params.bilateral_weight), scale * float(params.spatial_weight)


def update(
    unary: np.ndarray,
    send: Callable[[np.ndarray, np.ndarray], None],
    params: CrfParams,
    run: Chunks,
) -> np.ndarray:
    """Return the marginals after all updates, float32 [h w k], of the energies `unary`.

    Args:
        unary: float32 [h w k].
        send: send(q, message) writes the normalised kernels' weighted sum, with `weights`, of q
            into message; both float32 [h*w padded], where the classes beyond k are zero.
        params: the rest of the CRF.
        run: the threads.
    """
    classes = unary.shape[-1]
    mu = np.asarray(params.compatibility, np.float32)
    padded = -(-classes // _VECTOR) * _VECTOR
    softmax = lattice_numba_kernels.passes(padded).softmax
    energy = np.full((unary[..., 0].size, padded), _PADDING, np.float32)
    energy[:, :classes] = unary.reshape(-1, classes)
    message, q = np.zeros_like(energy), np.empty_like(energy)
    run(softmax, len(q), energy, message, q)
    for _ in range(params.iterations):
        send(q, message)
        if mu.ndim == 1:
            message[:, :classes] *= mu
        elif mu.ndim == 2:
            message[:, :classes] = -message[:, :classes] @ mu.T
        run(softmax, len(q), energy, message, q)
    return q[:, :classes].reshape(unary.shape)
