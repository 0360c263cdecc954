"""Building blocks of the papers: convolution + batch norm + activation, dense and separable."""

from typing import Literal

import flax.linen as nn
import jax
from jax import numpy as jnp

from seg_jax import checks
from seg_jax.nn import norm as norms
from seg_jax.nn.conv import Conv, DepthwiseConv, Initializer, Padding, Size
from seg_jax.nn.norm import Norm

Array = jax.Array
Activation = Literal["relu", "relu6", "none"]


def activate(x: Array, activation: Activation) -> Array:
    """Apply max(x, 0), min(max(x, 0), 6), or nothing."""
    checks.one_of(("relu", "relu6", "none"), activation=activation)
    if activation == "none":
        return x
    return nn.relu(x) if activation == "relu" else jnp.clip(x, 0, 6)


class ConvNorm(nn.Module):
    """Convolution without bias ("conv"), batch norm ("bn"), activation.

    Attributes:
      features, kernel_size, stride, rate, padding, kernel_init: see `Conv`.
      norm: settings of the batch norm.
      activation: applied after the norm.
    """

    features: int
    kernel_size: Size = 3
    stride: Size = 1
    rate: Size = 1
    norm: Norm = Norm()
    activation: Activation = "relu"
    padding: Padding = "same"
    kernel_init: Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Return [n h' w' features] for x [n h w c]."""
        x = Conv(
            self.features,
            self.kernel_size,
            self.stride,
            self.rate,
            self.padding,
            use_bias=False,
            kernel_init=self.kernel_init,
            name="conv",
        )(x)
        return activate(norms.layer(self.norm, name="bn")(x, train=train), self.activation)


class DepthwiseConvNorm(nn.Module):
    """Depthwise convolution without bias ("conv"), batch norm ("bn"), activation.

    Attributes as in `ConvNorm`.
    """

    kernel_size: Size = 3
    stride: Size = 1
    rate: Size = 1
    norm: Norm = Norm()
    activation: Activation = "relu"
    padding: Padding = "same"
    kernel_init: Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Return [n h' w' c] for x [n h w c]."""
        x = DepthwiseConv(
            self.kernel_size,
            self.stride,
            self.rate,
            padding=self.padding,
            kernel_init=self.kernel_init,
            name="conv",
        )(x)
        return activate(norms.layer(self.norm, name="bn")(x, train=train), self.activation)


class SeparableConv(nn.Module):
    """Depthwise convolution and norm ("depthwise"), then 1x1 convolution and norm ("pointwise").

    DeepLab v3+'s atrous separable convolution (section 3.1) for a rate above 1, each part with its
    own batch norm as in its modified Xception.

    Attributes:
      features: output channels.
      kernel_size, stride, rate: of the depthwise part.
      norm: settings of both batch norms.
      activation: after each of the two norms; "none" where it is applied before the block.
      depthwise_init, pointwise_init: initialisers of the kernels; by default those of DeepLab v3+'s
        release for its ASPP and decoder.
    """

    features: int
    kernel_size: Size = 3
    stride: Size = 1
    rate: Size = 1
    norm: Norm = Norm()
    activation: Activation = "relu"
    depthwise_init: Initializer = nn.initializers.truncated_normal(0.33)
    pointwise_init: Initializer = nn.initializers.truncated_normal(0.06)

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Return [n h' w' features] for x [n h w c]."""
        x = DepthwiseConvNorm(
            self.kernel_size,
            self.stride,
            self.rate,
            self.norm,
            self.activation,
            kernel_init=self.depthwise_init,
            name="depthwise",
        )(x, train=train)
        return ConvNorm(
            self.features,
            kernel_size=1,
            norm=self.norm,
            activation=self.activation,
            kernel_init=self.pointwise_init,
            name="pointwise",
        )(x, train=train)
