"""2x2 blocks of pixels with the columns of a pair side by side in the channels: for TPUs.

[n 2h 2w c] is reshaped to [n h 2 w 2c]: the rows of a pair are planes, its columns halves of the
lanes, of which 64 channels alone would leave half empty. Comparing and selecting then needs neither
strided slices nor the arrays [n h 2 w 2 c] in which TPUs fill 2 of 8 sublanes.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax import numpy as jnp

from seg_jax.nn.conv_geometry import Pair

Array = jax.Array


def split(x: Array, size: Pair) -> list[Array]:
    """Return the four pixels of each block of x [n 2h 2w c], row by row: [n h w c] each.

    `size` is (h, w).
    """
    n, _, _, c = x.shape
    pairs = x.reshape(n, size[0], 2, size[1], 2 * c)
    return [pairs[:, :, i, :, j * c : (j + 1) * c] for i in range(2) for j in range(2)]


def join(pixels: Sequence[Array]) -> Array:
    """Return the image of which `pixels` are what `split` returns: its inverse."""
    n, h, w, c = pixels[0].shape
    rows = [jnp.concatenate(pixels[2 * i : 2 * i + 2], axis=3) for i in range(2)]
    return jnp.stack(rows, axis=2).reshape(n, 2 * h, 2 * w, c)


def spread(values: Array, index: Array, numbers: Sequence[Any]) -> Array:
    """Put values [n h w c] where the index is one of the block's four numbers; zero elsewhere.

    Returns [n 2h 2w c].
    """
    zero = jnp.zeros((), values.dtype)
    return join([jnp.where(index == jnp.asarray(n, index.dtype), values, zero) for n in numbers])
