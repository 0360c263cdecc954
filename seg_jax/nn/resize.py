"""Bilinear resizing in the two conventions, and bilinear upsampling by transposed convolution.

Interpolation is linear and separable, so each is two products with small constant matrices. Their
gradient is two products with the transposed matrices: no scatter, hence bit-identical on every run.

The matrices are constants where the sizes are numbers, and are computed with the image where they
are not yet (`jax.export` with symbolic shapes).
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import numpy as jnp

from seg_jax import checks
from seg_jax.nn import lowering
from seg_jax.nn.conv import transposed_conv
from seg_jax.nn.input_sizes import is_known
from seg_jax.nn.named_scope import scoped

Array = jax.Array
# What is done with x [n h w c] and matrices [a h] and [b w]: `apply_separable`, or another that
# takes the same arguments (`nn.upsampled.Upsampled` keeps them for later).
Apply = Callable[[Array, Any, Any], Any]


@scoped
def resize_half_pixel(x: Array, size: tuple[int, int], *, apply: Apply | None = None) -> Any:
    """Resize x [n h w c] bilinearly to [n *size c]; pixel centres lie at i + 1/2.

    Output i reads the input at (i + 1/2) in/out - 1/2, clamped to the image, without antialiasing:
    PyTorch's align_corners=False.
    """
    return _resize(x, size, half_pixel_matrix, apply)


@scoped
def resize_align_corners(x: Array, size: tuple[int, int], *, apply: Apply | None = None) -> Any:
    """Resize x [n h w c] bilinearly to [n *size c]; corner pixels stay corner pixels.

    Output i reads the input at i (in - 1)/(out - 1): Caffe's Interp layer, TensorFlow's and
    PyTorch's align_corners=True. With sizes k * stride + 1, every input pixel coincides with an
    output pixel. A single output pixel reads input 0.
    """
    return _resize(x, size, align_corners_matrix, apply)


@scoped
def upsample_from_corner(
    x: Array, stride: int, size: tuple[int, int], *, apply: Apply | None = None
) -> Any:
    """Upsample x [n h w c] bilinearly to [n *size c]; its samples lie at the pixels 0, s, 2 s, ...

    With sizes k * stride + 1 this is `resize_align_corners`. At all others the pixels beyond the
    last sample repeat it.
    """
    vertical, horizontal = (
        _from_corner_matrix(old, stride, new)
        if is_known(old, new)
        else _rational(jnp.minimum(jnp.arange(new), (old - 1) * stride), stride, old)
        for old, new in zip(x.shape[1:3], size, strict=True)
    )
    return (apply or apply_separable)(x, vertical, horizontal)


@functools.cache
def _from_corner_matrix(size: int, stride: int, new_size: int) -> np.ndarray:
    return _interpolation(np.minimum(np.arange(new_size) / stride, size - 1), size)


def _resize(x, size, matrix, apply):
    if x.ndim != 4:
        raise ValueError(f"x must be [n h w c], got shape {x.shape}")
    checks.positive(height=size[0], width=size[1])
    if x.shape[1:3] == tuple(size):
        return x
    vertical, horizontal = (
        matrix(old, new) if is_known(old, new) else _SYMBOLIC[matrix](old, new)
        for old, new in zip(x.shape[1:3], size, strict=True)
    )
    return (apply or apply_separable)(x, vertical, horizontal)


@functools.cache
def half_pixel_matrix(size: int, new_size: int) -> np.ndarray:
    """Return the interpolation matrix [new_size size] of `resize_half_pixel`, float64."""
    position = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    return _interpolation(np.clip(position, 0, size - 1), size)


@functools.cache
def align_corners_matrix(size: int, new_size: int) -> np.ndarray:
    """Return the interpolation matrix [new_size size] of `resize_align_corners`, float64."""
    step = (size - 1) / (new_size - 1) if new_size > 1 else 0.0
    return _interpolation(np.arange(new_size) * step, size)


def _interpolation(position: np.ndarray, size: int) -> np.ndarray:
    """Return a matrix whose row o is the hat function of width 1 around position[o]."""
    matrix = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(size)))
    matrix.setflags(write=False)
    return matrix


def _rational(numerator: Any, denominator: Any, size: Any) -> Array:
    """Return `_interpolation` at numerator / denominator, int32, of a symbolic size, as float32.

    Differences of integers are exact, so that an entry is off by its last bit at most.
    """
    place = jnp.arange(size)[None] * denominator
    distance = jnp.abs(numerator[:, None] - place).astype(np.float32)
    return jnp.maximum(np.float32(0), 1 - distance / jnp.asarray(denominator, np.float32))


def _half_pixel_symbolic(size: Any, new_size: Any) -> Array:
    """Return `half_pixel_matrix` of symbolic sizes: ((2 i + 1) size - new_size) / (2 new_size)."""
    numerator = (2 * jnp.arange(new_size) + 1) * size - new_size
    last = 2 * new_size * (size - 1)
    return _rational(jnp.clip(numerator, 0, last), 2 * new_size, size)


def _align_corners_symbolic(size: Any, new_size: Any) -> Array:
    """Return `align_corners_matrix` of symbolic sizes."""
    return _rational(jnp.arange(new_size) * (size - 1), new_size - 1, size)


_SYMBOLIC = {
    half_pixel_matrix: _half_pixel_symbolic,
    align_corners_matrix: _align_corners_symbolic,
}


def apply_separable(x: Array, vertical: Any, horizontal: Any) -> Array:
    """Apply matrices vertical [a h] and horizontal [b w] to the rows and columns of x [n h w c].

    Computed in float32 at full precision; the result [n a b c] has the dtype of x.
    """
    dtype = np.promote_types(x.dtype, np.float32)
    run = lowering.choose_separable()
    y = run(x.astype(dtype), vertical.astype(dtype), horizontal.astype(dtype))
    return y.astype(x.dtype)


def _bilinear_profile(size: int) -> np.ndarray:
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    return 1 - np.abs(np.arange(size) - centre) / factor


def bilinear_kernel(size: int) -> np.ndarray:
    """Return FCN's bilinear upsampling filter [size size], float64.

    With f = (size + 1) // 2 and centre c = f - 1 (odd size) or f - 1/2 (even):
    (1 - |i - c|/f)(1 - |j - c|/f), as in the FCN release's net surgery.
    """
    checks.positive(size=size)
    return np.outer(_bilinear_profile(size), _bilinear_profile(size))


@scoped
def upsample_bilinear_fixed(
    x: Array, *, kernel_size: int, stride: int, apply: Apply | None = None
) -> Any:
    """Upsample each channel of x [n h w c] by a transposed convolution with `bilinear_kernel`.

    FCN's fixed "deconvolution": [n (h-1)*stride+kernel_size (w-1)*stride+kernel_size c], to be
    cropped by the caller; kernel_size is 2 * stride in the release.
    """
    checks.positive(kernel_size=kernel_size, stride=stride)
    vertical, horizontal = (
        (_upsampling_matrix if is_known(size) else _upsampling_symbolic)(size, kernel_size, stride)
        for size in x.shape[1:3]
    )
    return (apply or apply_separable)(x, vertical, horizontal)


@functools.cache
def _upsampling_matrix(size: int, kernel_size: int, stride: int) -> np.ndarray:
    matrix = np.zeros(((size - 1) * stride + kernel_size, size))
    for i in range(size):
        matrix[i * stride : i * stride + kernel_size, i] = _bilinear_profile(kernel_size)
    matrix.setflags(write=False)
    return matrix


def _upsampling_symbolic(size: Any, kernel_size: int, stride: int) -> Array:
    """Return `_upsampling_matrix` of a symbolic size."""
    profile = jnp.asarray(_bilinear_profile(kernel_size), np.float32)
    place = jnp.arange((size - 1) * stride + kernel_size)[:, None] - jnp.arange(size)[None] * stride
    inside = (place >= 0) & (place < kernel_size)
    return jnp.where(inside, profile[jnp.clip(place, 0, kernel_size - 1)], np.float32(0))


def bilinear_init(key: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    """Initialise a kernel [k k c c] with the bilinear filter on its diagonal, zero elsewhere."""
    del key
    kh, kw, cin, cout = shape
    if kh != kw or cin != cout:
        raise ValueError(f"bilinear upsampling needs a kernel [k k c c], got {shape}")
    return jnp.asarray(bilinear_kernel(kh)[:, :, None, None] * np.eye(cin), dtype)


class LearnedDoubling(nn.Module):
    """`upsample_from_corner` with stride 2, learned: a transposed 3x3 convolution, initialised as
    bilinear.

    Attributes:
      features: channels of the input and of the output.
    """

    features: int

    @nn.compact
    def __call__(self, x: Array, size: tuple[int, int]) -> Array:
        """Return [n *size features] for x [n h w features]."""
        x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
        up = LearnedUpsample(self.features, 3, 2, name="up")(x)
        return up[:, 1 : 1 + size[0], 1 : 1 + size[1]]


class LearnedUpsample(nn.Module):
    """Learned upsampling: a transposed convolution initialised as bilinear (FCN, 3.3).

    Attributes:
      features: channels of the input and of the output.
      kernel_size: pixels; 2 * stride in the FCN release.
      stride: upsampling factor.
    """

    features: int
    kernel_size: int
    stride: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return [n (h-1)*stride+k (w-1)*stride+k features] for x [n h w features]."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", bilinear_init, shape)
        return transposed_conv(x, kernel, stride=self.stride)
