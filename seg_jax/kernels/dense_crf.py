"""The dense CRF as a library function that runs a platform's own kernel where it has one."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from seg_jax.kernels import gpu
from seg_jax.kernels.crf import api
from seg_jax.kernels.crf.exact_products import MAX_CLASSES, MAX_SIDE
from seg_jax.kernels.crf.params import CrfParams
from seg_jax.nn import lowering


def dense_crf(
    unary: Any, rgb: Any, params: CrfParams | None = None, *, implementation: str | None = None
) -> jax.Array:
    """Return the marginals of a fully connected CRF with Gaussian edge potentials.

    Krahenbuhl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
    Potentials", NIPS 2011, Algorithm 1, as DeepLab v1 and v2 apply it. Differentiable with respect
    to `unary` and the weights and compatibility of `params`; under `jit`, `grad` and `vmap`.

        from seg_jax import kernels
        unary = -jnp.log(jnp.maximum(probabilities, 1e-8))
        refined = kernels.dense_crf(unary, rgb)

    The cost of an iteration is proportional to the pairs of pixels that see each other for the
    exact implementations (6 to 13 % of all pairs of most photographs at DeepLab v2's constants),
    and to pixels times classes for the lattice. Memory: the exact ones keep a list of
    (pixels / block)^2 numbers, blocks of 64 pixels (`exact_tpu`: 512).

    Args:
        unary: floating [h w k] or [n h w k], energies -log p; computed in float32.
        rgb: uint8 [h w 3] or [n h w 3], the original image, grey levels in 0..255.
        params: widths in pixels and grey levels, weights, iterations; None: DeepLab v2
            ResNet-101's.
        implementation: one of `crf.IMPLEMENTATIONS`, which never falls back to another; None: the
            one that `choose_dense_crf` returns.

    Returns:
        float32, unary's shape: probabilities, which sum to 1 over the last axis.

    Raises:
        ValueError: shapes, types or ranges do not fit, or the named implementation does not take
            this size, type or number of classes.
        NotImplementedError: the named implementation is not for this platform.
        ModuleNotFoundError: it needs Numba, and that is not installed.
    """
    # What is no image at all is left to `mean_field`, which says so.
    if implementation is None and getattr(unary, "ndim", 0) in (3, 4) and hasattr(rgb, "dtype"):
        traced = any(isinstance(x, Tracer) for x in jax.tree.leaves((unary, rgb, params)))
        implementation = choose_dense_crf(unary.shape, rgb.dtype, traced=traced)
    return api.mean_field(unary, rgb, params, implementation=implementation)


def choose_dense_crf(shape: tuple[int, ...], dtype: Any, *, traced: bool = True) -> str:
    """Return the implementation that `dense_crf` uses on this platform if none is named.

    "exact_tpu" on a TPU and "exact_hopper" on a Hopper GPU for uint8 images of at most 513 pixels a
    side and at most 256 classes; for other images on a TPU "exact", the same sums in plain JAX.
    Everywhere else what `crf.mean_field` chooses on every platform: the permutohedral lattice, in
    Numba on a CPU outside of a trace, else in plain JAX.

    Args:
        shape: of the energies, [h w k] or [n h w k].
        dtype: of the images.
        traced: under `jit`, `grad` or `vmap`.
    """
    platform = lowering.platform()
    fits = (
        np.dtype(dtype) == np.uint8 and max(shape[-3:-1]) <= MAX_SIDE and shape[-1] <= MAX_CLASSES
    )
    if platform == "tpu":
        return "exact_tpu" if fits else "exact"
    if platform == "gpu" and fits and gpu.generation() == gpu.HOPPER:
        return "exact_hopper"
    return api.choose(platform=platform, traced=traced)
