"""Pooling: maximum with indices and its inverse (unpooling), average, pyramid.

The gradient of a maximum goes to its first position, as in Caffe. The gradients are written out,
without XLA's select-and-scatter, which sums in no fixed order on GPUs (flax#4233); only max pooling
without indices uses it on TPUs (`lowering.choose_max_pool`).
"""

import functools
from typing import Any, Literal

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from seg_jax import checks
from seg_jax.nn import lowering, pool_pairs
from seg_jax.nn.conv import Size, pair
from seg_jax.nn.conv_geometry import Pair
from seg_jax.nn.input_sizes import arrays_for, is_known
from seg_jax.nn.named_scope import scoped
from seg_jax.nn.pool_windows import Rounding, Windows, windows_of
from seg_jax.nn.resize import apply_separable

Array = jax.Array


@scoped
def max_pool(
    x: Array, *, window: Size = 2, stride: Size = 2, padding: Size = 0, rounding: Rounding = "floor"
) -> Array:
    """Return the largest value of each window of x [n h w c].

    Args:
      x: image.
      window: pixels, or (vertical, horizontal).
      stride: distance between neighbouring windows in pixels.
      padding: pixels on each side, smaller than the window; they are never the maximum.
      rounding: "ceil" keeps a last window that is only partly filled (Caffe's rule, in FCN, SegNet,
        DeepLab v1 and v2); "floor" drops it (PyTorch's default).

    The gradient of a window goes to its first maximum in row-major order. The maximum of a window
    with a NaN is NaN, so that it reaches the loss.
    """
    windows = windows_of(x, window, stride, padding, rounding)
    if lowering.choose_max_pool() == "reduce_window":
        return _reduce_window(x, windows)
    return _max_pool(x, windows)[0]


def _reduce_window(x: Array, windows: Windows) -> Array:
    """XLA's maximum of windows; its gradient is a select-and-scatter.

    That selects by ">=" in row-major order, so of equal values the first, as `_max_pool` does; the
    gradient of a window with a NaN may go to another pixel of it than there.
    """
    low = np.array(-np.inf, x.dtype)  # a traced one would not be recognised as a maximum
    return lax.reduce_window(
        windows.crop(x),
        low,
        lax.max,
        (1, *windows.window, 1),
        (1, *windows.stride, 1),
        ((0, 0), *windows.pads(), (0, 0)),
    )


@scoped
def max_pool_with_indices(
    x: Array, *, window: Size = 2, stride: Size = 2, padding: Size = 0, rounding: Rounding = "floor"
) -> tuple[Array, Array]:
    """Return `max_pool` of x [n h w c] and the index of each window's first maximum.

    Indices are int32 [n h' w' c]: row * w + column in x, for each channel separately (SegNet). Of
    equal values the first in row-major order counts; after a ReLU whole windows are zero.
    """
    windows = windows_of(x, window, stride, padding, rounding)
    y, tap = _max_pool(x, windows)
    tap = tap.astype(jnp.int32)
    (rows, columns), (down, right), (top, left) = windows.outputs, windows.stride, windows.padding
    xp = arrays_for(rows, columns)
    row = (xp.arange(rows, dtype=np.int32) * down - top).reshape(1, -1, 1, 1)
    column = (xp.arange(columns, dtype=np.int32) * right - left).reshape(1, 1, -1, 1)
    row, column = row + tap // windows.window[1], column + tap % windows.window[1]
    return y, row * windows.size[1] + column


def _max_and_position(x: Array, windows: Windows) -> tuple[Array, Array]:
    """Return the maxima [n oh ow c] and their positions in the window, int8 or int32."""
    index_dtype = jnp.int8 if windows.window[0] * windows.window[1] <= 127 else jnp.int32
    padded = windows.pad(x, -jnp.inf)
    in_pairs = _in_pairs(windows.window, windows.stride, windows.padding)
    taps = pool_pairs.split(padded, windows.outputs) if in_pairs else windows.taps(padded)
    best = jnp.full_like(taps[0], -jnp.inf)
    index = jnp.broadcast_to(jnp.asarray(windows.first_inside(), index_dtype), best.shape)
    for number, tap in enumerate(taps):
        better = (tap > best) | jnp.isnan(tap)
        best = jnp.where(better, tap, best)
        index = jnp.where(better, jnp.asarray(number, index_dtype), index)
    return best, index


_max_pool = jax.custom_vjp(_max_and_position, nondiff_argnums=(1,))


def _max_pool_forward(x: Array, windows: Windows) -> tuple[tuple[Array, Array], Array]:
    best, index = _max_pool(x, windows)
    return (best, index), index


def _max_pool_backward(
    windows: Windows, index: Array, gradients: tuple[Array, Array]
) -> tuple[Array]:
    """Each pixel gathers the gradients of the about (window / stride)^2 windows that contain it.

    Position stride * block + phase of window o is pixel (o + block) * stride + phase: one term per
    block, each a whole image. The indices are shifted rather than the images: XLA:CPU would
    otherwise recompute the forward pass for every term, 50 times slower at 3x3 with stride 2.
    """
    gradient, _ = gradients
    if _in_pairs(windows.window, windows.stride, windows.padding):
        return (_place(pool_pairs.spread(gradient, index, range(4)), (0, 0), windows.size),)
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
            number[kh - i * down :] = -1  # outside the window
            number[:, kw - j * right :] = -1
            top, left = last_i - i, last_j - j
            part = (slice(None), slice(top, top + rows), slice(left, left + columns))
            term = _spread(gradient[part], index[part], number)
            image = term if image is None else image + term
    assert image is not None  # a window has a tap
    offset = (-windows.padding[0], -windows.padding[1])
    return (_place(_flatten(image), offset, windows.size),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _in_pairs(window: Pair, stride: Pair, padding: Pair) -> bool:
    """Whether the windows are those of `pool_pairs`, and it is cheaper on `lowering.platform()`."""
    geometry = window == stride == (2, 2) and padding == (0, 0)
    return geometry and lowering.choose_blocks_of_two() == "pairs"


def _spread(values: Array, index: Array, number: np.ndarray) -> Array:
    """Expand values [n h w c] to [n h a w b c]: nonzero at (i, j) where index is number[i, j]."""
    n, h, w, c = values.shape
    down, right = number.shape
    numbers = jnp.asarray(number, index.dtype).reshape(1, 1, down, 1, right, 1)
    hit = index.reshape(n, h, 1, w, 1, c) == numbers
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
    """Put each value of y [n h w c] back at its index in an image of zeros [n *size c] (SegNet).

    Args:
      y: values.
      indices: int32 [n h w c], row * size[1] + column, as `max_pool_with_indices` returns them.
      size: (h, w) of the result, i.e. of the input of the pooling; may be odd.
      window: of the pooling, which must have had stride = window and no padding, so that windows do
        not overlap; an index outside its window is dropped. None accepts any indices, by a slower
        scatter; of several values with the same index an undefined one is kept.

    Values are written, not added. The gradient reads the pixels at the indices.
    """
    if y.shape != indices.shape or y.ndim != 4:
        raise ValueError(f"y {y.shape} and indices {indices.shape} must be the same [n h w c]")
    checks.positive(height=size[0], width=size[1])
    if window is None:
        return _scatter(y, indices, tuple(size))
    down, right = pair(window)
    xp = arrays_for(*size)
    row = xp.arange(y.shape[1]).reshape(1, -1, 1, 1) * down
    column = xp.arange(y.shape[2]).reshape(1, 1, -1, 1) * right
    corner = (row * size[1] + column).astype(np.int32)
    number = xp.arange(down)[:, None] * size[1] + xp.arange(right)[None]
    if _in_pairs((down, right), (down, right), (0, 0)):
        image = pool_pairs.spread(y, indices - corner, [0, 1, size[1], size[1] + 1])
        return _place(image, (0, 0), size)
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


def _scatter_forward(y: Array, indices: Array, size: Pair) -> tuple[Array, Array]:
    return _scatter(y, indices, size), indices


def _scatter_backward(size: Pair, indices: Array, gradient: Array) -> tuple[Array, None]:
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
      stride: distance between neighbouring windows in pixels.
      padding: zeros on each side, smaller than the window.
      rounding: as in `max_pool`.
      divisor: "padded" counts the padding, but not the part of a last "ceil" window beyond it
        (Caffe, PyTorch's default); "valid" counts only pixels of the image (TensorFlow).
    """
    checks.one_of(("padded", "valid"), divisor=divisor)
    windows = windows_of(x, window, stride, padding, rounding)
    wide = windows.pad(x.astype(np.promote_types(x.dtype, np.float32)), 0.0)
    zero = np.zeros((), wide.dtype)  # a traced jnp.zeros is not recognised as a sum: no gradient
    seen, step = (1, *windows.window, 1), (1, *windows.stride, 1)
    total = lax.reduce_window(wide, zero, lax.add, seen, step, "VALID")
    return (total / _counts(windows, divisor).astype(wide.dtype)).astype(x.dtype)


def _counts(windows: Windows, divisor: str) -> Any:
    """Return the number of pixels that each window averages over: [1 oh ow 1]."""
    counts, xp = [], arrays_for(*windows.outputs)
    for axis in range(2):
        n, k, p = windows.size[axis], windows.window[axis], windows.padding[axis]
        start = xp.arange(windows.outputs[axis]) * windows.stride[axis] - p
        low, high = (-p, n + p) if divisor == "padded" else (0, n)
        counts.append(xp.minimum(start + k, high) - xp.maximum(start, low))
    return xp.outer(*counts)[None, :, :, None]


@scoped
def global_average_pool(x: Array) -> Array:
    """Return the mean over the image, [n 1 1 c] for x [n h w c]; summed in float32."""
    wide = x.astype(np.promote_types(x.dtype, np.float32))
    return jnp.mean(wide, axis=(1, 2), keepdims=True).astype(x.dtype)


@scoped
def adaptive_average_pool(x: Array, bins: Size) -> Array:
    """Return the means of a grid of bins x bins windows over x [n h w c] (PSPNet's pyramid).

    Window i covers the pixels floor(i h / bins) to ceil((i + 1) h / bins), as in PyTorch's adaptive
    pooling; if bins divides h, these are Caffe's windows of h / bins.
    """
    rows, columns = pair(bins)
    checks.positive(bins=min(rows, columns))
    vertical, horizontal = (
        (_bin_matrix if is_known(size) else _bins_symbolic)(size, count)
        for size, count in zip(x.shape[1:3], (rows, columns), strict=True)
    )
    return apply_separable(x, vertical, horizontal)


def _bins_symbolic(size: Any, bins: int) -> Array:
    """Return `_bin_matrix` of a symbolic size."""
    number = jnp.arange(bins)
    start, stop = number * size // bins, -(-(number + 1) * size // bins)
    place = jnp.arange(size)[None]
    inside = (place >= start[:, None]) & (place < stop[:, None])
    return jnp.where(inside, 1 / (stop - start)[:, None].astype(np.float32), np.float32(0))


@functools.cache
def _bin_matrix(size: int, bins: int) -> np.ndarray:
    matrix = np.zeros((bins, size))
    for i in range(bins):
        start, stop = i * size // bins, -(-(i + 1) * size // bins)
        matrix[i, start:stop] = 1 / (stop - start)
    matrix.setflags(write=False)
    return matrix
