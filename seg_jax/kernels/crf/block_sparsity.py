"""Block sparsity of a narrow Gaussian kernel: Hilbert order, bounding boxes, lists of blocks."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

TILE = 64  # pixels in a block
RADIUS = 4.0  # standard deviations: exp(-8) = 3e-4 of the kernel's peak, and few pairs are there


class Tiles(NamedTuple):
    """Blocks of consecutive pixels along a Hilbert curve through feature space.

    Attributes:
        order: int32 [m], the pixels in this order.
        feature: float32 [blocks TILE d], their features; the last pixel is repeated to the end.
        keys: int32 [blocks blocks], for each block the indices of near blocks, then `blocks`.
        near: int32 [blocks], the number of near blocks.
    """

    order: jax.Array
    feature: jax.Array
    keys: jax.Array
    near: jax.Array

    def sort(self, q: jax.Array) -> jax.Array:
        """Return q, float32 [m k], in blocks [blocks TILE k], padded by zeros."""
        blocks, tile, _ = self.feature.shape
        q = jnp.pad(q[self.order], ((0, blocks * tile - q.shape[0]), (0, 0)))
        return q.reshape(blocks, tile, -1)

    def unsort(self, q: jax.Array) -> jax.Array:
        """Return q, float32 [blocks TILE k], in the original order of the pixels, [m k]."""
        (m,), k = self.order.shape, q.shape[-1]
        return jnp.zeros((m, k), q.dtype).at[self.order].set(q.reshape(-1, k)[:m])


def make(feature: jax.Array, *, radius: float = RADIUS, tile: int = TILE) -> Tiles:
    """Return the blocks of the features, float32 [m d], in units of the kernel's width.

    Two blocks are near unless their bounding boxes are farther apart than `radius`: boxes are
    conservative, so no nearer pair is lost. The lists have room for all blocks: no overflow.
    """
    m, d = feature.shape
    order = jnp.argsort(hilbert_index(feature))
    blocks = -(-m // tile)
    place = jnp.minimum(jnp.arange(blocks * tile), m - 1)
    feature = feature[order][place].reshape(blocks, tile, d)
    low, high = feature.min(axis=1), feature.max(axis=1)
    gap = jnp.maximum(low[:, None] - high[None, :], low[None, :] - high[:, None])
    is_near = jnp.square(jnp.maximum(gap, 0)).sum(axis=-1) <= radius**2
    near = is_near.sum(axis=1, dtype=jnp.int32)
    keys = jnp.argsort(~is_near, axis=1, stable=True).astype(jnp.int32)
    keys = jnp.where(jnp.arange(blocks)[None] < near[:, None], keys, blocks)
    return Tiles(order, feature, keys, near)


def hilbert_index(feature: jax.Array) -> jax.Array:
    """Return the position, uint32 [m], of each feature, float32 [m d], along a Hilbert curve.

    John Skilling, "Programming the Hilbert curve", AIP Conference Proceedings 707, 2004. All axes
    have one scale; 30 bits, so 6 for each of 5 axes.
    """
    d = feature.shape[1]
    bits = 30 // d
    low = feature.min(axis=0)
    extent = jnp.maximum((feature.max(axis=0) - low).max(), 1e-6)
    scaled = (feature - low[None]) / extent * (2**bits - 1)
    axes = [column.astype(jnp.uint32) for column in scaled.T]
    # Inverse undo: from the highest bit, reflect or exchange the lower bits.
    for bit in range(bits - 1, 0, -1):
        lower = jnp.uint32((1 << bit) - 1)
        for i in range(d):
            flip = (axes[i] >> bit & 1) == 1
            exchanged = (axes[0] ^ axes[i]) & lower
            first = jnp.where(flip, axes[0] ^ lower, axes[0] ^ exchanged)
            axes[i] = axes[i] if i == 0 else jnp.where(flip, axes[i], axes[i] ^ exchanged)
            axes[0] = first
    # Gray encode.
    for i in range(1, d):
        axes[i] = axes[i] ^ axes[i - 1]
    last = jnp.zeros_like(axes[0])
    for bit in range(bits - 1, 0, -1):
        last = jnp.where((axes[-1] >> bit & 1) == 1, last ^ jnp.uint32((1 << bit) - 1), last)
    axes = [axis ^ last for axis in axes]
    index = jnp.zeros_like(axes[0])
    for bit in range(bits - 1, -1, -1):
        for axis in axes:
            index = (index << 1) | (axis >> bit & 1)
    return index
