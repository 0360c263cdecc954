"""Global convolution of Large Kernel Matters: a k x k kernel from 1 x k and k x 1 convolutions.

Peng, Zhang, Yu, Luo & Sun, "Large Kernel Matters: Improve Semantic Segmentation by Global
Convolutional Network", CVPR 2017, arXiv:1703.02719; section 3.1 and Figure 2 B.
"""

from flax import linen as nn
from jax import Array

from seg_jax.nn.blocks import ConvNorm
from seg_jax.nn.conv import Conv, Size
from seg_jax.nn.norm import Norm


class GlobalConv(nn.Module):
    """(k x 1, then 1 x k) + (1 x k, then k x 1): every output sees k x k inputs.

    It has 2 k features (c + features) weights for c input channels; a dense kernel has
    k^2 c features.

    Attributes:
      features: channels of the result, and between the two convolutions of a path.
      kernel_size: k in pixels; odd.
      stride: output step in pixels; each convolution applies it along its kernel.
      rate: distance between neighbouring taps in pixels.
      norm: None, as in the segmentation network: convolutions with a bias, without norm or ReLU.
        Otherwise batch norm and a ReLU follow each, as in the units of ResNet-GCN.
    """

    features: int
    kernel_size: int
    stride: int = 1
    rate: int = 1
    norm: Norm | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Return [n h/s w/s features] for x [n h w c]."""
        column = [(n, 1) for n in (self.kernel_size, self.stride, self.rate)]
        row = [(1, n) for n in (self.kernel_size, self.stride, self.rate)]
        left = self._conv(x, *column, name="left_column", train=train)
        left = self._conv(left, *row, name="left_row", train=train)
        right = self._conv(x, *row, name="right_row", train=train)
        right = self._conv(right, *column, name="right_column", train=train)
        return left + right

    def _conv(
        self, x: Array, size: Size, stride: Size, rate: Size, *, name: str, train: bool
    ) -> Array:
        if self.norm is None:  # no ReLU either: He et al.'s variance, which assumes one, is wrong
            init = nn.initializers.lecun_normal()
            return Conv(self.features, size, stride, rate, kernel_init=init, name=name)(x)
        return ConvNorm(self.features, size, stride, rate, self.norm, name=name)(x, train=train)
