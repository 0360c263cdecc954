"""All pairs within a radius, without approximation: block-sparse message passing in plain JAX.

The bilateral kernel is narrow in colour, so after sorting the pixels along a Hilbert curve through
the five features, most pairs of blocks are too far apart to matter (see `block_sparsity`). The
spatial kernel is separable: two small matrix products. The reference for images of any size; takes
minutes on a CPU core, the lattice a second.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from seg_jax.kernels.crf import block_sparsity as blocked
from seg_jax.kernels.crf import update
from seg_jax.kernels.crf.block_sparsity import Tiles
from seg_jax.kernels.crf.params import CrfParams
from seg_jax.kernels.crf.reference import features
from seg_jax.kernels.crf.update import Filter

_GROUP = 8  # blocks of keys for one step of the loop: 64 x 512 pairs


def mean_field(unary: jax.Array, rgb: jax.Array, params: CrfParams) -> jax.Array:
    """Return the marginals of a batch: float32 [n h w k] energies and [n h w 3] images (0..255).

    The definition, except for pairs more than `block_sparsity.RADIUS` standard deviations apart,
    which changes a probability by at most 2e-4 and no label.
    """
    return run(unary, rgb, params, bilateral)


@partial(jax.jit, static_argnames=("bilateral", "tile"))
def run(
    unary: jax.Array,
    rgb: jax.Array,
    params: CrfParams,
    bilateral: Callable[..., Filter],
    *,
    tile: int = blocked.TILE,
) -> jax.Array:
    """Run a batch with `bilateral(tiles, rgb, params)` as the bilateral kernel of each image.

    Its tiles have blocks of `tile` pixels.
    """

    def one(pair):
        position, colour = features(pair[1])
        feature = [position / params.bilateral_px, colour / params.bilateral_rgb]
        tiles = blocked.make(jnp.concatenate(feature, axis=1), tile=tile)
        height, width = pair[1].shape[:2]
        kernels = [
            bilateral(tiles, pair[1], params),
            separable(height, width, params.spatial_px),
        ]
        q = update.mean_field(pair[0].reshape(-1, unary.shape[-1]), kernels, params)
        return q.reshape(unary.shape[1:])

    return lax.map(one, (unary, rgb))


def bilateral(tiles: Tiles, rgb: jax.Array, params: CrfParams) -> Filter:
    """Return the bilateral kernel, q float32 [h*w k] -> K q; uses only the tiles."""
    return lambda q: tiles.unsort(multiply(tiles, tiles.sort(q)))


def separable(height: int, width: int, px: jax.Array) -> Filter:
    """Return the spatial Gaussian of width `px` over all pixels, q [h*w k] -> [h*w k]."""

    def table(size):
        x = jnp.arange(size, dtype=jnp.float32) / px
        return jnp.exp(-0.5 * jnp.square(x[:, None] - x[None, :]))

    rows, columns = table(height), table(width)

    def apply(q):
        q = q.reshape(height, width, -1)
        q = jnp.einsum("yv,vxk->yxk", rows, q, precision="highest")
        q = jnp.einsum("xu,yuk->yxk", columns, q, precision="highest")
        return q.reshape(height * width, -1)

    return apply


@jax.custom_vjp
def multiply(tiles: Tiles, q: jax.Array) -> jax.Array:
    """Return K Q for q in blocks, float32 [blocks TILE k], over the pairs that `tiles` lists.

    Differentiable in q; the tiles are constants.
    """
    blocks, tile, d = tiles.feature.shape
    # After the last block: a block of zeros, for the end of every list.
    q = jnp.concatenate([q, jnp.zeros_like(q[:1])])
    feature = jnp.concatenate([tiles.feature, tiles.feature[-1:]])
    group = min(_GROUP, blocks)
    keys = jnp.pad(tiles.keys, ((0, 0), (0, -blocks % group)), constant_values=blocks)

    def row(inputs):
        own, keys, count = inputs

        def add(step, total):
            here = lax.dynamic_slice_in_dim(keys, step * group, group)
            others = feature[here].reshape(group * tile, d)
            # Differences, one axis after the other: the expanded square cancels.
            square = sum(
                jnp.square(own[:, axis, None] - others[None, :, axis]) for axis in range(d)
            )
            values = q[here].reshape(group * tile, -1)
            return total + jnp.matmul(jnp.exp(-0.5 * square), values, precision="highest")

        total = jnp.zeros_like(q[0])  # under shard_map it varies as q does
        return lax.fori_loop(0, -(-count // group), add, total)

    return lax.map(row, (tiles.feature, keys, tiles.near))


def _forward(tiles, q):
    return multiply(tiles, q), tiles


def _backward(tiles, gradient):
    # K is symmetric, and so is the list of pairs.
    return None, multiply(tiles, gradient)


multiply.defvjp(_forward, _backward)
