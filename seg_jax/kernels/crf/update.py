"""The mean-field update, given the kernels as linear maps. All implementations in JAX share it."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from seg_jax.kernels.crf.params import CrfParams, Normalisation

EPSILON = 1e-20  # as released: a kernel's sum is > 0, but for the lattice not by much

Filter = Callable[[jax.Array], jax.Array]  # float32 [m k] -> [m k], linear: K Q


def mean_field(unary: jax.Array, kernels: Sequence[Filter], params: CrfParams) -> jax.Array:
    """Return the marginals Q of every pixel after `params.iterations` parallel updates.

    Args:
        unary: float32 [m k], energies (-log p) of m pixels and k classes.
        kernels: the bilateral and the spatial kernel, each as Q -> K Q *with* the pair j = i, which
            Eq. 4 excludes but the released code, to which everyone compares, includes.
        params: the weights, normalisation, compatibility and number of updates.

    Returns:
        float32 [m k], rows sum to 1 (Algorithm 1 of Krahenbuhl & Koltun 2011).
    """
    ones = jnp.ones((unary.shape[0], 1), jnp.float32)
    kernels = [normalise(kernel, kernel(ones), params.normalisation) for kernel in kernels]
    weights = (jnp.float32(params.bilateral_weight), jnp.float32(params.spatial_weight))

    def update(q, _):
        # Algorithm 1: message passing (Eq. 5), weighted sum over the kernels (Eq. 2) ...
        message = sum(weight * kernel(q) for weight, kernel in zip(weights, kernels, strict=True))
        # ... compatibility transform, adding the unary, and normalisation (Eq. 4).
        return jax.nn.softmax(-unary - penalty(message, params.compatibility), axis=-1), None

    q = jax.nn.softmax(-unary, axis=-1)
    return jax.lax.scan(update, q, length=params.iterations)[0]


def normalise(kernel: Filter, sums: jax.Array, how: Normalisation) -> Filter:
    """Return the kernel normalised by its `sums` n = K 1, float32 [m 1]."""
    if how == "after":
        return lambda q: kernel(q) / (sums + EPSILON)
    if how == "before":
        return lambda q: kernel(q / (sums + EPSILON))
    if how == "symmetric":
        root = jax.lax.rsqrt(sums + EPSILON)
        return lambda q: root * kernel(q * root)
    return kernel


def penalty(message: jax.Array, compatibility: jax.Array) -> jax.Array:
    """Return sum_l' mu(l, l') message(l'), float32 [m k], for a scalar, vector or matrix mu."""
    mu = jnp.asarray(compatibility, jnp.float32)
    if mu.ndim == 2:
        return jnp.einsum("ml,kl->mk", message, mu, precision="highest")
    # Potts: c (sum of all - own); the sum is the same for every class and drops out of the softmax.
    return -message * (mu if mu.ndim == 0 else mu[None, :])
