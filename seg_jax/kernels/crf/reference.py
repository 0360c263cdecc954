"""The definition: all pairs of pixels, O(N^2) in time and memory. For small images and tests.

Philipp Krahenbuhl and Vladlen Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian
Edge Potentials", NIPS 2011.
"""

import jax
import jax.numpy as jnp

from seg_jax.kernels.crf.params import CrfParams
from seg_jax.kernels.crf.update import mean_field as update_all

MAX_PIXELS = 10_000  # two float32 [N N]: 0.8 GB


def mean_field(unary: jax.Array, rgb: jax.Array, params: CrfParams) -> jax.Array:
    """Return the marginals of a batch: float32 [n h w k] energies and [n h w 3] images (0..255).

    Raises:
        ValueError: the image has more than MAX_PIXELS pixels.
    """
    _, height, width, _ = unary.shape
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"implementation='reference' holds all pairs of pixels: {height} x {width} is more "
            f"than {MAX_PIXELS} pixels; use implementation='exact' or 'lattice'"
        )
    return _mean_field(unary, rgb, params)


@jax.jit
def _mean_field(unary, rgb, params):
    return jax.lax.map(lambda pair: _one(*pair, params), (unary, rgb))


def _one(unary, rgb, params):
    position, colour = features(rgb)
    bilateral = jnp.concatenate(
        [position / params.bilateral_px, colour / params.bilateral_rgb], axis=1
    )
    kernels = [gaussian(bilateral), gaussian(position / params.spatial_px)]
    q = update_all(
        unary.reshape(-1, unary.shape[-1]), [lambda q, k=k: multiply(k, q) for k in kernels], params
    )
    return q.reshape(unary.shape)


def features(rgb: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return position (x, y), float32 [m 2], and colour, float32 [m 3], of every pixel."""
    height, width, _ = rgb.shape
    y, x = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    position = jnp.stack([x.ravel(), y.ravel()], axis=1).astype(jnp.float32)
    return position, rgb.reshape(-1, 3).astype(jnp.float32)


def gaussian(feature: jax.Array) -> jax.Array:
    """Return the kernel of Eq. 3, exp(-|f_i - f_j|^2 / 2), float32 [m m], its diagonal included."""
    # One feature at a time: differences, not the expansion |a|^2 - 2 a b + |b|^2, which cancels.
    squares = sum(jnp.square(column[:, None] - column[None, :]) for column in feature.T)
    return jnp.exp(-0.5 * squares)


def multiply(kernel: jax.Array, q: jax.Array) -> jax.Array:
    """Return K Q in full float32 (accelerators default to less)."""
    return jnp.matmul(kernel, q, precision="highest")
