"""Pooling: maximum with the place of the first maximum, its inverse, averages, pyramids.

The gradients are written out: a maximum's goes to the first place where it occurs, as in Caffe,
and none needs XLA's select-and-scatter, whose sums come in no fixed order on GPUs (flax#4233).
"""

import dataclasses
import functools
from typing import Literal

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from seg_jax import checks
from seg_jax.nn.conv import Size, pair
from seg_jax.nn.named_scope import scoped
from seg_jax.nn.resize import apply_separable

Array = jax.Array
Pair = tuple[int, int]
Rounding = Literal["floor", "ceil"]


@dataclasses.dataclass(frozen=True)
class _Windows:
    """Windows on an image: (vertical, horizontal) each; all static."""

    window: Pair
    stride: Pair
    padding: Pair
    size: Pair  # of the image
    outputs: Pair

    def pad(self, x: Array, value: float) -> Array:
        """Return x [n h w c] padded, or cropped, to just what the windows cover."""
        config = [
            (p, (o - 1) * s + k - n - p, 0)
            for p, o, s, k, n in zip(
                self.padding, self.outputs, self.stride, self.window, self.size, strict=True
            )
        ]
        return lax.pad(x, jnp.asarray(value, x.dtype), [(0, 0, 0), *config, (0, 0, 0)])

    def taps(self, padded: Array) -> list[Array]:
        """Return, in row-major order, what each place of the window sees: [n oh ow c] each."""
        (down, right), (rows, columns) = self.stride, self.outputs
        return [
            padded[
                :, i : i + (rows - 1) * down + 1 : down, j : j + (columns - 1) * right + 1 : right
            ]
            for i in range(self.window[0])
            for j in range(self.window[1])
        ]

    def first_inside(self) -> np.ndarray:
        """Return the first tap inside the image, of every window: int32 [1 oh ow 1]."""
        rows, columns = (
            np.maximum(0, p - s * np.arange(o))
            for p, s, o in zip(self.padding, self.stride, self.outputs, strict=True)
        )
        return (rows[:, None] * self.window[1] + columns)[None, :, :, None].astype(np.int32)


def _windows(x: Array, window: Size, stride: Size, padding: Size, rounding: str) -> _Windows:
    if x.ndim != 4:
        raise ValueError(f"x must be [n h w c], got shape {x.shape}")
    checks.one_of(("floor", "ceil"), rounding=rounding)
    window, stride, padding = pair(window), pair(stride), pair(padding)
    checks.positive(window=min(window), stride=min(stride))
    checks.non_negative(padding=min(padding))
    if any(p >= k for p, k in zip(padding, window, strict=True)):
        raise ValueError(f"padding {padding} must be smaller than the window {window}")
    outputs = tuple(
        pooled_size(n, k, s, p, rounding)
        for n, k, s, p in zip(x.shape[1:3], window, stride, padding, strict=True)
    )
    return _Windows(window, stride, padding, x.shape[1:3], outputs)


def pooled_size(size: int, window: int, stride: int, padding: int, rounding: Rounding) -> int:
    """Return how many windows fit: rounded down, or (Caffe) up if the last one starts inside.

    "Inside" counts the padding before the image, not that after it, in Caffe and in PyTorch alike.
    (Caffe asks only where there is padding; else it holds by itself unless windows leave gaps.)
    Raises ValueError if not even one fits.
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


@scoped
def max_pool(
    x: Array, *, window: Size = 2, stride: Size = 2, padding: Size = 0, rounding: Rounding = "floor"
) -> Array:
    """Return the largest value of each window of x [n h w c].

    Args:
      x: image.
      window: pixels, or (vertical, horizontal).
      stride: distance of neighbouring windows in pixels.
      padding: pixels on each side, smaller than the window; they never win.
      rounding: "ceil" keeps a last window that is only partly filled (Caffe's rule, in FCN, SegNet,
        DeepLab v1 and v2); "floor" drops it (PyTorch's default).

    The gradient of a window goes to its first maximum in row-major order. A NaN wins its window, so
    that it reaches the loss.
    """
    return _max_pool(x, _windows(x, window, stride, padding, rounding))[0]


@scoped
def max_pool_with_indices(
    x: Array, *, window: Size = 2, stride: Size = 2, padding: Size = 0, rounding: Rounding = "floor"
) -> tuple[Array, Array]:
    """Return `max_pool` of x [n h w c] and the place of each window's first maximum.

    The places are int32 [n h' w' c]: row * w + column in x, for every channel by itself (SegNet).
    Of equal values the first in row-major order wins; after a ReLU whole windows are zero.
    """
    windows = _windows(x, window, stride, padding, rounding)
    y, tap = _max_pool(x, windows)
    tap = tap.astype(jnp.int32)
    (rows, columns), (down, right), (top, left) = windows.outputs, windows.stride, windows.padding
    row = (np.arange(rows, dtype=np.int32) * down - top).reshape(1, -1, 1, 1)
    column = (np.arange(columns, dtype=np.int32) * right - left).reshape(1, 1, -1, 1)
    row, column = row + tap // windows.window[1], column + tap % windows.window[1]
    return y, row * windows.size[1] + column


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: Array, windows: _Windows) -> tuple[Array, Array]:
    """Return the maxima [n oh ow c] and which tap of the window each is, int8 or int32."""
    index_dtype = jnp.int8 if windows.window[0] * windows.window[1] <= 127 else jnp.int32
    taps = windows.taps(windows.pad(x, -jnp.inf))
    best = jnp.full_like(taps[0], -jnp.inf)
    index = jnp.broadcast_to(jnp.asarray(windows.first_inside(), index_dtype), best.shape)
    for number, tap in enumerate(taps):
        better = (tap > best) | jnp.isnan(tap)
        best = jnp.where(better, tap, best)
        index = jnp.where(better, jnp.asarray(number, index_dtype), index)
    return best, index


def _max_pool_forward(x, windows):
    best, index = _max_pool(x, windows)
    return (best, index), index


def _max_pool_backward(windows, index, gradients):
    """Every pixel gathers from the windows that it lies in, about (window / stride)^2 of them.

    Tap stride * block + phase of window o falls on pixel (o + block) * stride + phase: one term a
    block, each a whole image. The indices are shifted rather than the images: XLA:CPU would
    otherwise recompute the forward pass for every term, 50 times slower at 3x3 with stride 2.
    """
    gradient, _ = gradients
    (kh, kw), (down, right) = windows.window, windows.stride
    last_i, last_j = (kh - 1) // down, (kw - 1) // right
    around = ((0, 0), (last_i, last_i), (last_j, last_j), (0, 0))
    gradient, index = jnp.pad(gradient, around), jnp.pad(index, around)
    rows, columns = windows.outputs[0] + last_i, windows.outputs[1] + last_j
    image = None
    for i in range(last_i + 1):
        for j in range(last_j + 1):
            number = np.arange(i * down, (i + 1) * down)[:, None] * kw
            number = number + np.arange(j * right, (j + 1) * right)
            number[kh - i * down :] = -1  # beyond the window: no tap
            number[:, kw - j * right :] = -1
            top, left = last_i - i, last_j - j
            part = (slice(None), slice(top, top + rows), slice(left, left + columns))
            term = _spread(gradient[part], index[part], number)
            image = term if image is None else image + term
    offset = (-windows.padding[0], -windows.padding[1])
    return (_place(_flatten(image), offset, windows.size),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _spread(values: Array, index: Array, number: np.ndarray) -> Array:
    """Blow up values [n h w c] to [n h a w b c]: at phase (i, j) where index is number[i, j]."""
    n, h, w, c = values.shape
    down, right = number.shape
    number = jnp.asarray(number, index.dtype).reshape(1, 1, down, 1, right, 1)
    hit = index.reshape(n, h, 1, w, 1, c) == number
    return jnp.where(hit, values.reshape(n, h, 1, w, 1, c), jnp.zeros((), values.dtype))


def _flatten(image: Array) -> Array:
    """Return [n h*a w*b c] for [n h a w b c]."""
    n, h, a, w, b, c = image.shape
    return image.reshape(n, h * a, w * b, c)


def _place(image: Array, offset: Pair, size: Pair) -> Array:
    """Return an image of this size with `image` at the offset, cropped or padded by zeros."""
    config = [(o, n - o - m, 0) for o, n, m in zip(offset, size, image.shape[1:3], strict=True)]
    return lax.pad(image, jnp.zeros((), image.dtype), [(0, 0, 0), *config, (0, 0, 0)])


@scoped
def max_unpool(y: Array, indices: Array, size: Pair, *, window: Size | None = 2) -> Array:
    """Put each value of y [n h w c] back at its place in an image of zeros [n *size c] (SegNet).

    Args:
      y: values.
      indices: int32 [n h w c], row * size[1] + column, as `max_pool_with_indices` returns them.
      size: (h, w) of the result: that of the pooled image, which may be odd.
      window: of the pooling, which had stride = window and no padding, so that no two windows
        share a pixel; a place outside its own window is then dropped. None takes any places, by a
        slower scatter; of values with the same place one is kept, undefined which.

    Values are written, not added. The gradient picks the pixels of the places.
    """
    if y.shape != indices.shape or y.ndim != 4:
        raise ValueError(f"y {y.shape} and indices {indices.shape} must be the same [n h w c]")
    checks.positive(height=size[0], width=size[1])
    if window is None:
        return _scatter(y, indices, tuple(size))
    down, right = pair(window)
    row = np.arange(y.shape[1]).reshape(1, -1, 1, 1) * down
    column = np.arange(y.shape[2]).reshape(1, 1, -1, 1) * right
    corner = (row * size[1] + column).astype(np.int32)
    number = np.arange(down)[:, None] * size[1] + np.arange(right)
    return _place(_flatten(_spread(y, indices - corner, number)), (0, 0), size)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _scatter(y: Array, indices: Array, size: Pair) -> Array:
    n, h, w, c = y.shape
    flat = jnp.zeros((n, size[0] * size[1], c), y.dtype)
    image, channel = np.arange(n).reshape(-1, 1, 1), np.arange(c).reshape(1, 1, -1)
    flat = flat.at[image, indices.reshape(n, h * w, c), channel].set(
        y.reshape(n, h * w, c), mode="drop"
    )
    return flat.reshape(n, *size, c)


def _scatter_forward(y, indices, size):
    return _scatter(y, indices, size), indices


def _scatter_backward(size, indices, gradient):
    n, h, w, c = indices.shape
    flat = gradient.reshape(n, size[0] * size[1], c)
    picked = jnp.take_along_axis(flat, indices.reshape(n, h * w, c), axis=1)
    return picked.reshape(n, h, w, c), None


_scatter.defvjp(_scatter_forward, _scatter_backward)


@scoped
def average_pool(
    x: Array,
    *,
    window: Size,
    stride: Size,
    padding: Size = 0,
    rounding: Rounding = "floor",
    divisor: Literal["padded", "valid"] = "padded",
) -> Array:
    """Return the mean of each window of x [n h w c]; summed in float32.

    Args:
      x: image.
      window: pixels, or (vertical, horizontal).
      stride: distance of neighbouring windows in pixels.
      padding: zeros on each side, smaller than the window.
      rounding: as in `max_pool`.
      divisor: "padded" counts the padding's zeros, but not what a rounded-up last window has beyond
        it (Caffe, PyTorch's default); "valid" counts pixels of the image only (TensorFlow).
    """
    checks.one_of(("padded", "valid"), divisor=divisor)
    windows = _windows(x, window, stride, padding, rounding)
    wide = windows.pad(x.astype(np.promote_types(x.dtype, np.float32)), 0.0)
    total = lax.reduce_window(
        wide,
        np.zeros((), wide.dtype),  # a jnp.zeros is traced under jit: no sum with a gradient then
        lax.add,
        (1, *windows.window, 1),
        (1, *windows.stride, 1),
        "VALID",
    )
    return (total / _counts(windows, divisor).astype(wide.dtype)).astype(x.dtype)


def _counts(windows: _Windows, divisor: str) -> np.ndarray:
    """Return over how many pixels each window averages: [1 oh ow 1]."""
    counts = []
    for axis in range(2):
        n, k, p = windows.size[axis], windows.window[axis], windows.padding[axis]
        start = np.arange(windows.outputs[axis]) * windows.stride[axis] - p
        low, high = (-p, n + p) if divisor == "padded" else (0, n)
        counts.append(np.minimum(start + k, high) - np.maximum(start, low))
    return np.outer(*counts)[None, :, :, None]


@scoped
def global_average_pool(x: Array) -> Array:
    """Return the mean over the image, [n 1 1 c] for x [n h w c]; summed in float32."""
    wide = x.astype(np.promote_types(x.dtype, np.float32))
    return jnp.mean(wide, axis=(1, 2), keepdims=True).astype(x.dtype)


@scoped
def adaptive_average_pool(x: Array, bins: Size) -> Array:
    """Return the means of a grid of bins x bins windows over x [n h w c] (PSPNet's pyramid).

    Window i covers the pixels floor(i h / bins) to ceil((i + 1) h / bins), as PyTorch's adaptive
    pooling; where bins divides h these are Caffe's windows of h / bins.
    """
    rows, columns = pair(bins)
    checks.positive(bins=min(rows, columns))
    return apply_separable(x, _bin_matrix(x.shape[1], rows), _bin_matrix(x.shape[2], columns))


@functools.cache
def _bin_matrix(size: int, bins: int) -> np.ndarray:
    matrix = np.zeros((bins, size))
    for i in range(bins):
        start, stop = i * size // bins, -(-(i + 1) * size // bins)
        matrix[i, start:stop] = 1 / (stop - start)
    matrix.setflags(write=False)
    return matrix
