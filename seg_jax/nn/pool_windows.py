"""Where pooling windows lie: sizes, padding, and the pixels at each position of the windows."""

import dataclasses
from typing import Any, Literal

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from seg_jax import checks
from seg_jax.nn.conv import Size, pair
from seg_jax.nn.conv_geometry import Pair, image_size
from seg_jax.nn.input_sizes import arrays_for

Array = jax.Array
Rounding = Literal["floor", "ceil"]


@dataclasses.dataclass(frozen=True)
class Windows:
    """Geometry of pooling windows: static pairs (vertical, horizontal)."""

    window: Pair
    stride: Pair
    padding: Pair
    size: Pair  # of the image
    outputs: Pair

    def pad(self, x: Array, value: float) -> Array:
        """Return x [n h w c] padded or cropped to exactly the area that the windows cover."""
        config = [
            (p, (o - 1) * s + k - n - p, 0)
            for p, o, s, k, n in zip(
                self.padding, self.outputs, self.stride, self.window, self.size, strict=True
            )
        ]
        return lax.pad(x, jnp.asarray(value, x.dtype), [(0, 0, 0), *config, (0, 0, 0)])

    def pads(self) -> tuple[Pair, Pair]:
        """Return the pixels before and after the image that windows cover, none below zero."""
        ends = [
            max((o - 1) * s + k - n - p, 0)
            for p, o, s, k, n in zip(
                self.padding, self.outputs, self.stride, self.window, self.size, strict=True
            )
        ]
        return (self.padding[0], ends[0]), (self.padding[1], ends[1])

    def crop(self, x: Array) -> Array:
        """Return x [n h w c] without the last rows and columns that no window covers."""
        rows, columns = (
            min(n, (o - 1) * s + k - p)
            for p, o, s, k, n in zip(
                self.padding, self.outputs, self.stride, self.window, self.size, strict=True
            )
        )
        return x[:, :rows, :columns]

    def taps(self, padded: Array) -> list[Array]:
        """Return, for each position in the window in row-major order, its inputs [n oh ow c]."""
        (down, right), (rows, columns) = self.stride, self.outputs
        return [
            padded[
                :, i : i + (rows - 1) * down + 1 : down, j : j + (columns - 1) * right + 1 : right
            ]
            for i in range(self.window[0])
            for j in range(self.window[1])
        ]

    def first_inside(self) -> Any:
        """Return the first position inside the image of every window: int32 [1 oh ow 1]."""
        xp = arrays_for(*self.outputs)
        rows, columns = (
            xp.maximum(0, p - s * xp.arange(o))
            for p, s, o in zip(self.padding, self.stride, self.outputs, strict=True)
        )
        return (rows[:, None] * self.window[1] + columns[None])[None, :, :, None].astype(np.int32)


def windows_of(x: Array, window: Size, stride: Size, padding: Size, rounding: Rounding) -> Windows:
    """Return the windows of an image x [n h w c]; arguments as in `pool.max_pool`.

    Raises ValueError if one is wrong, or if no window fits.
    """
    if x.ndim != 4:
        raise ValueError(f"x must be [n h w c], got shape {x.shape}")
    checks.one_of(("floor", "ceil"), rounding=rounding)
    window, stride, padding = pair(window), pair(stride), pair(padding)
    checks.positive(window=min(window), stride=min(stride))
    checks.non_negative(padding=min(padding))
    if any(p >= k for p, k in zip(padding, window, strict=True)):
        raise ValueError(f"padding {padding} must be smaller than the window {window}")
    rows, columns = (
        pooled_size(n, k, s, p, rounding)
        for n, k, s, p in zip(x.shape[1:3], window, stride, padding, strict=True)
    )
    return Windows(window, stride, padding, image_size(x), (rows, columns))


def pooled_size(size: int, window: int, stride: int, padding: int, rounding: Rounding) -> int:
    """Return how many windows fit: rounded down, or (Caffe) up if the last one starts inside.

    "Inside" includes the padding before the image but not that after it, in Caffe and in PyTorch.
    (Caffe checks this only if there is padding; without, it can fail only if windows leave gaps.)
    Raises ValueError if no window fits.
    """
    room = size + 2 * padding - window
    if rounding == "ceil":
        outputs = -(-room // stride) + 1
        outputs -= (outputs - 1) * stride >= size + padding
    else:
        outputs = room // stride + 1
    if room < 0 and rounding == "floor" or outputs < 1:
        raise ValueError(
            f"an image side of {size} with padding {padding} is smaller than the window {window}"
        )
    return outputs
