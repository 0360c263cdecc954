"""Convolutions: dense, atrous, depthwise, transposed. Images [n h w c], kernels [kh kw cin cout].

All are cross-correlations (the kernel is not flipped), as in Caffe, PyTorch and TensorFlow. They
compute in the dtype of their input, which the kernel must share.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
from jax import numpy as jnp

from seg_jax import checks
from seg_jax.nn import lowering
from seg_jax.nn.conv_geometry import Geometry, Pair, image_size, kernel_size

Array = jax.Array
Size = int | Pair
Padding = int | str | tuple[Pair, Pair]
Initializer = Callable[..., Array]


def pair(value: Size) -> Pair:
    """Return (vertical, horizontal) for one number or a pair of them."""
    vertical, horizontal = (value, value) if isinstance(value, int) else value
    return vertical, horizontal


def same_padding(kernel_size: Pair, rate: Pair) -> tuple[Pair, Pair]:
    """Return the symmetric padding rate * (k - 1) / 2 that keeps the size at stride 1.

    It is symmetric at any stride, unlike TensorFlow's "SAME", which shifts an even-sized image by
    one pixel at stride 2. Raises ValueError for an even kernel, which has no such padding.
    """
    if not all(k % 2 for k in kernel_size):
        raise ValueError(
            f'padding="same" needs an odd kernel, got kernel_size={kernel_size}; '
            "give the padding in pixels: ((top, bottom), (left, right))"
        )
    vertical, horizontal = (r * (k - 1) // 2 for k, r in zip(kernel_size, rate, strict=True))
    return (vertical, vertical), (horizontal, horizontal)


def _pad_pairs(padding: Padding, kernel_size: Pair, rate: Pair) -> tuple[Pair, Pair]:
    if padding == "same":
        return same_padding(kernel_size, rate)
    if isinstance(padding, int):
        padding = ((padding, padding), (padding, padding))
    if isinstance(padding, str):
        raise ValueError(f'padding must be pixels or "same", got {padding!r}')
    for before_after in padding:
        checks.non_negative(padding=min(before_after))
    return padding


def _geometry(x: Array, kernel: Array, stride: Size, rate: Size, padding: Padding) -> Geometry:
    stride, rate = pair(stride), pair(rate)
    checks.positive(stride=min(stride), rate=min(rate))
    geometry = Geometry(stride, rate, _pad_pairs(padding, kernel_size(kernel), rate))
    geometry.output_size(image_size(x), kernel_size(kernel))  # raises where the kernel does not fit
    return geometry


def conv(
    x: Array, kernel: Array, *, stride: Size = 1, rate: Size = 1, padding: Padding = 0
) -> Array:
    """Convolve x [n h w cin] with kernel [kh kw cin cout] -> [n h' w' cout].

    h' = floor((h + padding - (kh - 1) rate - 1) / stride) + 1. With rate r the taps are r pixels
    apart: y[i] = sum_k x[i + r k] w[k] (DeepLab v2, Eq. 1).

    Args:
      x: image.
      kernel: weights, in the dtype of x.
      stride: output step in pixels, or (vertical, horizontal).
      rate: distance between neighbouring taps in pixels, or (vertical, horizontal).
      padding: zeros on each side in pixels; "same" for rate * (k - 1) / 2 (odd kernels); or
        ((top, bottom), (left, right)).

    Raises:
      ValueError: the channels differ, the kernel does not fit, or "same" with an even kernel.
    """
    _check_channels(x, kernel, kernel.shape[2])
    geometry = _geometry(x, kernel, stride, rate, padding)
    run = lowering.choose_conv(image_size(x), kernel.shape, geometry)
    return run(x, kernel, geometry)


def depthwise_conv(
    x: Array, kernel: Array, *, stride: Size = 1, rate: Size = 1, padding: Padding = 0
) -> Array:
    """Convolve each channel separately: x [n h w c], kernel [kh kw 1 c*m] -> [n h' w' c*m].

    Output channel i * m + j reads input channel i. Arguments and errors as in `conv`.
    """
    if x.ndim != 4 or kernel.shape[2] != 1 or kernel.shape[3] % x.shape[3]:
        raise ValueError(
            f"x {x.shape} does not fit the depthwise kernel {kernel.shape}: "
            "expected [n h w c] and [kh kw 1 c*m]"
        )
    geometry = _geometry(x, kernel, stride, rate, padding)
    return lowering.choose_depthwise()(x, kernel, geometry)


def transposed_conv(
    x: Array, kernel: Array, *, stride: Size, padding: int | tuple[Pair, Pair] = 0
) -> Array:
    """Apply a transposed convolution: x [n h w cin], kernel [kh kw cin cout] -> [n h' w' cout].

    h' = (h - 1) stride + kh - 2 padding, and y[i stride + k - padding] += x[i] w[k]. This is the
    gradient with respect to its input of a `conv` with this stride and padding and the kernel's
    channel axes swapped. Caffe's and PyTorch's "deconvolution".

    Args:
      x: image.
      kernel: weights, in the dtype of x.
      stride: distance in the output between neighbouring pixels of x, or (vertical, horizontal).
      padding: pixels to crop from each side of the output, or ((top, bottom), (left, right)).

    Raises:
      ValueError: the channels differ, or the padding crops the whole output.
    """
    _check_channels(x, kernel, kernel.shape[2])
    stride = pair(stride)
    checks.positive(stride=min(stride))
    pads = _pad_pairs(padding, kernel_size(kernel), (1, 1))
    sizes = zip(x.shape[1:3], stride, kernel.shape[:2], pads, strict=True)
    if any((n - 1) * s + k <= sum(pad) for n, s, k, pad in sizes):
        raise ValueError(
            f"padding {pads} crops the whole output: the input is {x.shape[1]}x{x.shape[2]}, "
            f"stride {stride}, kernel {kernel.shape[:2]}"
        )
    return lowering.choose_transposed()(x, kernel, stride, pads)


def _check_channels(x: Array, kernel: Array, expected: int) -> None:
    if x.ndim != 4 or x.shape[3] != expected:
        raise ValueError(
            f"x {x.shape} does not fit kernel {kernel.shape}: "
            f"expected [n h w {expected}] for a kernel [kh kw {expected} cout]"
        )


class Conv(nn.Module):
    """Convolution with the parameters "kernel" [kh kw cin features] and "bias" [features].

    Attributes:
      features: output channels.
      kernel_size: pixels, or (vertical, horizontal).
      stride: output step in pixels, or (vertical, horizontal).
      rate: distance between neighbouring taps in pixels, or (vertical, horizontal).
      padding: see `conv`.
      use_bias: add a bias per output channel.
      kernel_init: by default that of He et al. 2015 (Caffe's "msra") as a truncated normal:
        variance 2 / fan_in.
      bias_init: by default zeros.
    """

    features: int
    kernel_size: Size = 3
    stride: Size = 1
    rate: Size = 1
    padding: Padding = "same"
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.he_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return [n h' w' features] for x [n h w c]."""
        known = self.get_variable("params", "kernel")
        checks.network_input(x, None if known is None else known.shape[2])
        shape = (*pair(self.kernel_size), x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        y = conv(x, kernel, stride=self.stride, rate=self.rate, padding=self.padding)
        return _add_bias(self, y) if self.use_bias else y


class AtrousConv(nn.Module):
    """Atrous convolution: y[i] = sum_k x[i + r k] w[k] with rate r (DeepLab v2, Eq. 1).

    Attributes as in `Conv`; the rate must be given.
    """

    features: int
    rate: Size
    kernel_size: Size = 3
    padding: Padding = "same"
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.he_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return [n h w features] for x [n h w c] (with "same" padding)."""
        shape = (*pair(self.kernel_size), x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        y = conv(x, kernel, rate=self.rate, padding=self.padding)
        return _add_bias(self, y) if self.use_bias else y


class TransposedConv(nn.Module):
    """Transposed convolution with the parameters "kernel" [kh kw cin features] and "bias".

    Attributes as in `Conv`; padding crops the output, see `transposed_conv`.
    """

    features: int
    kernel_size: Size
    stride: Size
    padding: int | tuple[Pair, Pair] = 0
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.he_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return [n (h-1)*stride+k-2*padding .. features] for x [n h w c]."""
        shape = (*pair(self.kernel_size), x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        y = transposed_conv(x, kernel, stride=self.stride, padding=self.padding)
        return _add_bias(self, y) if self.use_bias else y


class DepthwiseConv(nn.Module):
    """Depthwise convolution; parameters "kernel" [kh kw 1 c*multiplier] and "bias".

    Attributes as in `Conv`; multiplier is the number of output channels per input channel.
    """

    kernel_size: Size = 3
    stride: Size = 1
    rate: Size = 1
    multiplier: int = 1
    padding: Padding = "same"
    use_bias: bool = False
    kernel_init: Initializer = nn.initializers.he_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return [n h' w' c*multiplier] for x [n h w c]."""
        shape = (*pair(self.kernel_size), 1, x.shape[-1] * self.multiplier)
        kernel = self.param("kernel", self.kernel_init, shape)
        y = depthwise_conv(x, kernel, stride=self.stride, rate=self.rate, padding=self.padding)
        return _add_bias(self, y) if self.use_bias else y


def _add_bias(module: Conv | AtrousConv | TransposedConv | DepthwiseConv, y: Array) -> Array:
    bias = module.param("bias", module.bias_init, (y.shape[-1],))
    return y + jnp.reshape(bias, (1, 1, 1, -1))
