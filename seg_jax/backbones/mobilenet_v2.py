"""MobileNetV2: inverted residuals with linear bottlenecks, plain or dilated.

Sandler, Howard, Zhu, Zhmoginov & Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
CVPR 2018, arXiv:1801.04381; Table 2. Layer names and constants are those of TensorFlow's releases
(tensorflow/models, research/slim and research/deeplab).
"""

import functools
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from flax import linen as nn

from seg_jax import checks
from seg_jax.nn import remat, torch_state
from seg_jax.nn.blocks import ConvNorm, DepthwiseConvNorm
from seg_jax.nn.norm import Norm
from seg_jax.nn.sample_grid import Grid

# Table 2: expansion t, channels c, repetitions n, stride s of the first of them.
_TABLE = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
_INIT = nn.initializers.truncated_normal(0.09)  # of all kernels in the release

RELEASED_NORM = Norm(momentum=0.997, epsilon=1e-3)


def divisible(channels: float, divisor: int) -> int:
    """Return the multiple of `divisor` nearest to `channels`, or the next if over 10 % below it.

    >>> divisible(12.0, 1), divisible(12.0, 8), divisible(11.2, 8), divisible(17.6, 8)
    (12, 16, 16, 16)
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


class Unit(NamedTuple):
    """Specification of one inverted residual block.

    Attributes:
      name: as in TensorFlow: "expanded_conv", "expanded_conv_1", ...
      expansion: factor from the input's channels to the depthwise convolution's.
      channels: of the result at width 1.
      stride, rate: of the depthwise convolution.
      stage: "c<stage>" is the result of the last unit with this stage.
    """

    name: str
    expansion: int
    channels: int
    stride: int
    rate: int
    stage: int


class MobileNetV2(nn.Module):
    """MobileNetV2 up to the last bottleneck, slim's layer_18: 320 channels, no 1x1 to 1280.

    At an output stride below 32, units that would exceed it do not subsample; from the next unit on
    their stride becomes a rate. Convolutions pad symmetrically, as in torchvision; TensorFlow's
    "SAME" is the same at image sides of 32 k + 1 and shifts even maps by one pixel.

    Attributes:
      output_stride: image pixels between two samples of the last map: 8, 16 or 32.
      divisor: every channel count, after `width`, is rounded to a multiple of it. It is 1 in the
        DeepLab release, whose network of half width has 12 channels in places where slim's and
        torchvision's ImageNet networks (divisor 8) have 16. No difference at width 1.
      norm: of every convolution.
      width: factor on every channel count, the release's "depth multiplier".
    """

    strided_stem: ClassVar[bool] = True  # see `parallel.compiler`

    output_stride: int = 16
    divisor: int = 1
    norm: Norm = RELEASED_NORM
    width: float = 1.0

    @nn.nowrap
    def units(self) -> tuple[Unit, ...]:
        """Return the units in order.

        Raises:
          ValueError: an output stride that is not 8, 16 or 32.
        """
        checks.one_of((8, 16, 32), output_stride=self.output_stride)
        units, stride, rate, stage = [], 2, 1, 1
        for expansion, channels, count, first in _TABLE:
            for step in (first, *(1,) * (count - 1)):
                stage += step == 2
                dilated = stride * step > self.output_stride
                name = f"expanded_conv_{len(units)}" if units else "expanded_conv"
                size = (expansion, channels, 1 if dilated else step, rate)
                units.append(Unit(name, *size, stage))
                stride, rate = (stride, rate * step) if dilated else (stride * step, rate)
        return tuple(units)

    @nn.nowrap
    def scaled(self, channels: int) -> int:
        """Return the paper's channel count `channels` scaled to this width."""
        checks.positive(width=self.width, divisor=self.divisor)
        return divisible(max(4, channels * self.width), self.divisor)

    @nn.nowrap
    def grid(self, stage: int) -> Grid:
        """Return where the samples of `c<stage>` lie in the image: at the pixels 0, s, 2 s, ..."""
        return Grid(min(2**stage, self.output_stride))

    @nn.compact
    def __call__(self, image: Any, *, train: bool) -> dict[str, Any]:
        """Return the maps "c1", ..., "c5": the last bottleneck of each stride; and "low_level" for
        the release's decoder: the output of layer_4's depthwise convolution after ReLU6.

        Args:
          image: float [n h w c].
          train: batch norms use the batch's statistics and update the running ones.

        Returns:
          float [n h/s w/s c] with strides s = 2, 4, 8, 16, 32, at most `output_stride`, and 16, 24,
          32, 96 and 320 channels; "low_level" has stride 4 and 144 channels. The bottlenecks are
          linear: they do not end with a ReLU.
        """
        units = self.units()
        conv = ConvNorm(
            self.scaled(32),
            3,
            2,
            norm=self.norm,
            activation="relu6",
            kernel_init=_INIT,
            name="conv",
        )
        x, features = conv(image, train=train), {}
        for stage, group in itertools.groupby(units, lambda unit: unit.stage):
            run = functools.partial(MobileNetV2._stage, units=tuple(group), train=train)
            x, inner = remat.stage(run, self, x)
            features[f"c{stage}"] = x
            if stage == 2:  # layer_3 and layer_4
                features["low_level"] = inner
        return features

    def _stage(self, x: Any, *, units: Sequence[Unit], train: bool) -> tuple[Any, Any]:
        """Return the result of units, and what enters the last one's projection."""
        run, inner = functools.partial(InvertedResidual.__call__, train=train), None
        for unit in units:
            bottleneck = InvertedResidual(
                unit, self.scaled(unit.channels), self.norm, name=unit.name
            )
            x, inner = remat.block(run, bottleneck, x)
        return x, inner


class InvertedResidual(nn.Module):
    """Inverted residual: 1x1 "expand" and 3x3 "depthwise" with ReLU6, linear 1x1 "project".

    The input is added if the stride is 1 and the channel counts agree.

    Attributes:
      spec: expansion, stride, rate.
      channels: of the result.
      norm: of every convolution.
    """

    spec: Unit
    channels: int
    norm: Norm

    @nn.compact
    def __call__(self, x: Any, *, train: bool) -> tuple[Any, Any]:
        """Return the result [n h/s w/s channels] and the projection's input [n h/s w/s e]."""
        y, norm = x, self.norm
        if self.spec.expansion > 1:
            expanded = divisible(x.shape[-1] * self.spec.expansion, 8)
            expand = ConvNorm(
                expanded, 1, norm=norm, activation="relu6", kernel_init=_INIT, name="expand"
            )
            y = expand(y, train=train)
        depthwise = DepthwiseConvNorm(
            stride=self.spec.stride,
            rate=self.spec.rate,
            norm=norm,
            activation="relu6",
            kernel_init=_INIT,
            name="depthwise",
        )
        inner = depthwise(y, train=train)
        project = ConvNorm(
            self.channels, 1, norm=norm, activation="none", kernel_init=_INIT, name="project"
        )
        y = project(inner, train=train)
        return (x + y if y.shape == x.shape else y), inner


def torchvision_layer(module: str) -> str | None:
    """Return torchvision's name of a layer: "expanded_conv_1/project/bn" -> "features.2.conv.3"."""
    if match := re.fullmatch(r"conv/(conv|bn)", module):
        return f"features.0.{'01'[match[1] == 'bn']}"
    pattern = r"expanded_conv(?:_(\d+))?/(expand|depthwise|project)/(conv|bn)"
    if not (match := re.fullmatch(pattern, module)):
        return None
    unit, part, is_norm = int(match[1] or 0), match[2], match[3] == "bn"
    # The first unit has no expansion; a projection is not nested in the Sequential.
    position = {"expand": 0, "depthwise": 1, "project": 2}[part] - (unit == 0)
    inner = f"{position + is_norm}" if part == "project" else f"{position}.{int(is_norm)}"
    return f"features.{unit + 1}.conv.{inner}"


def from_torchvision(model: MobileNetV2, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a MobileNetV2 from torchvision's mobilenet_v2.

    Every leaf is filled, and every tensor used except those of the 1x1 convolution to 1280 channels
    and of the classifier. torchvision's epsilon is 1e-5, as in `Norm()`; its narrower networks
    (width_mult) have divisor 8.

    Raises:
      UserError: other weights; the layers that do not fit are listed.
    """
    ignore = r"(features\.18|classifier\.1)\..*"
    return torch_state.import_state(model, state, torchvision_layer, ignore=ignore)
