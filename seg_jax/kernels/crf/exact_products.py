"""Squared distances of an image's pixels as matrix products that are exact in bfloat16.

Colours and coordinates of an image are integers: every factor below has at most 8 significant bits
(squared lengths are split into three parts), and the sums are below 2^24.
"""

import jax
import jax.numpy as jnp

from seg_jax.kernels.crf.block_sparsity import Tiles
from seg_jax.kernels.crf.reference import features

MAX_SIDE = 513  # centred coordinates of 8 bits and a sign
# Of exact_tpu: the sums of a block, float32, beside the distances in vector memory.
MAX_CLASSES = 256
DEPTH = 16  # inner size of the products: at most 9 terms


def check(rgb: jax.Array, *, name: str) -> None:
    """Raise ValueError, naming the implementation, unless distances in rgb [h w 3] are exact."""
    height, width, _ = rgb.shape
    if rgb.dtype != jnp.uint8 or max(height, width) > MAX_SIDE:
        raise ValueError(
            f"implementation='{name}' needs a uint8 image of at most "
            f"{MAX_SIDE} pixels a side, whose distances are exact in bfloat16; got {rgb.dtype} "
            f"{height} x {width}; use implementation='exact'"
        )


def of_image(tiles: Tiles, rgb: jax.Array, *, name: str) -> tuple[tuple[jax.Array, jax.Array], ...]:
    """Return `squares` of an image's pixels: of their centred positions, and of their colours.

    Args:
        tiles: of the image.
        rgb: uint8 [h w 3].
        name: of the implementation, for `check`.
    """
    check(rgb, name=name)
    height, width, _ = rgb.shape
    position, colour = features(rgb)
    position = position - jnp.float32([[width // 2, height // 2]])
    return squares(tiles, position), squares(tiles, colour)


def squares(tiles: Tiles, feature: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return a [blocks tile DEPTH] and b [blocks DEPTH tile], bfloat16: a b = |f_i - f_j|^2.

    The product is (f, |f|^2, 1) . (-2 g, 1, |g|^2), with the squares split into 8-bit parts.
    """
    square = jnp.square(feature).sum(axis=1).astype(jnp.int32)
    pieces = [(square & (0xFF << shift)).astype(jnp.float32) for shift in (0, 8, 16)]
    pieces = jnp.stack(pieces, axis=1)
    ones = jnp.ones_like(pieces)
    pad = ((0, 0), (0, DEPTH - feature.shape[1] - 6))
    a = jnp.pad(jnp.concatenate([feature, pieces, ones], axis=1), pad)
    b = jnp.pad(jnp.concatenate([-2 * feature, ones, pieces], axis=1), pad)
    a, b = (tiles.sort(x.astype(jnp.bfloat16)) for x in (a, b))
    return a, b.transpose(0, 2, 1)
