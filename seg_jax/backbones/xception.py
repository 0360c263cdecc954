"""Aligned Xception as DeepLab v3+ modified it: 41, 65 or 71 convolutions deep.

Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017,
arXiv:1610.02357; modified by Chen et al., arXiv:1802.02611, section 3.2 and Figure 4: deeper, with
separable convolutions of stride 2 for maximum pools, and batch norm after every 3x3 depthwise
convolution.
Layer names and constants are those of the authors' release (tensorflow/models, research/deeplab).
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from flax import linen as nn

from seg_jax import checks
from seg_jax.nn import remat
from seg_jax.nn.blocks import ConvNorm, SeparableConv
from seg_jax.nn.norm import Norm
from seg_jax.nn.sample_grid import Grid
from seg_jax.nn.width_multiplier import scaled

# Channels and stride of each block of the entry flow.
_ENTRY_3 = ((128, 2), (256, 2), (728, 2))
_ENTRY_5 = ((128, 2), (256, 1), (256, 2), (728, 1), (728, 2))
_ENTRY = {41: _ENTRY_3, 65: _ENTRY_3, 71: _ENTRY_5}
_MIDDLE_UNITS = {41: 8, 65: 16, 71: 16}
_INIT = nn.initializers.truncated_normal(0.09)  # of all kernels in the release

RELEASED_NORM = Norm(momentum=0.9997, epsilon=1e-3)

_Shortcut = Literal["conv", "identity", "none"]
_Step = tuple[str, tuple[int, int, int], int, _Shortcut]  # name, channels, stride, shortcut


class Unit(NamedTuple):
    """Specification of one module of three separable convolutions.

    Attributes:
      name: TensorFlow's "entry_flow/block1/unit_1" with underscores.
      channels: of the three convolutions at width 1.
      stride: of the third convolution and of the shortcut.
      rate: of the three depthwise convolutions.
      shortcut: 1x1 convolution with norm, the input itself, or none. ReLUs come before the
        convolutions if there is a shortcut, else after the norms.
      stage: "c<stage>" is the result of the last unit with this stage.
    """

    name: str
    channels: tuple[int, int, int]
    stride: int
    rate: int
    shortcut: _Shortcut
    stage: int


class Xception(nn.Module):
    """Modified aligned Xception up to its 2048 channels, without the classifier.

    At an output stride below 32, units that would exceed it do not subsample; from the next unit on
    their stride becomes a rate: at 16 the exit flow's second block has rate 2; at 8 the middle flow
    (which the paper does not mention) and the exit flow's first block have 2, its second block 4.

    Attributes:
      depth: 65 in the paper; 41 has half the middle flow, 71 two more blocks in the entry flow.
      output_stride: image pixels between two samples of the last map: 8, 16 or 32.
      middle_units: units of the middle flow; None: 8 or 16, depending on the depth.
      norm: after every depthwise and every pointwise convolution.
      width: factor on every channel count.
    """

    strided_stem: ClassVar[bool] = True  # see `parallel.compiler`

    depth: Literal[41, 65, 71] = 65
    output_stride: int = 16
    middle_units: int | None = None
    norm: Norm = RELEASED_NORM
    width: float = 1.0

    @nn.nowrap
    def units(self) -> tuple[Unit, ...]:
        """Return the units in order.

        Raises:
          ValueError: a depth or an output stride that no published network has.
        """
        checks.one_of(_ENTRY, depth=self.depth)
        checks.one_of((8, 16, 32), output_stride=self.output_stride)
        middle = _MIDDLE_UNITS[self.depth] if self.middle_units is None else self.middle_units
        checks.positive(middle_units=middle)
        entry_flow: list[_Step] = [
            (f"entry_flow_block{number}_unit1", (channels, channels, channels), stride, "conv")
            for number, (channels, stride) in enumerate(_ENTRY[self.depth], start=1)
        ]
        middle_flow: list[_Step] = [
            (f"middle_flow_block1_unit{number}", (728, 728, 728), 1, "identity")
            for number in range(1, middle + 1)
        ]
        exit_flow: list[_Step] = [
            ("exit_flow_block1_unit1", (728, 1024, 1024), 2, "conv"),
            ("exit_flow_block2_unit1", (1536, 1536, 2048), 1, "none"),
        ]
        units, stride, rate, stage = [], 2, 1, 1
        for name, channels, step, shortcut in entry_flow + middle_flow + exit_flow:
            stage += step == 2
            dilated = stride * step > self.output_stride
            units.append(Unit(name, channels, 1 if dilated else step, rate, shortcut, stage))
            stride, rate = (stride, rate * step) if dilated else (stride * step, rate)
        return tuple(units)

    @nn.nowrap
    def grid(self, stage: int) -> Grid:
        """Return where the samples of `c<stage>` lie in the image: at the pixels 0, s, 2 s, ..."""
        return Grid(min(2**stage, self.output_stride))

    @nn.compact
    def __call__(self, image: Any, *, train: bool) -> dict[str, Any]:
        """Return the maps "c1" (conv1_2), "c2", "c3", "c4" (the last unit of each stride), "c5"
        (the exit flow), and "low_level" for DeepLab v3+'s decoder.

        "c2" to "c4" do not end with a ReLU: the units begin with one. "low_level" is, as released,
        the second convolution of the unit with input stride 4 and output stride 8
        (entry_flow/block2; block3 of depth 71), after its batch norm and before the ReLU.

        Args:
          image: float [n h w c].
          train: batch norms use the batch's statistics and update the running ones.

        Returns:
          float [n h/s w/s c] with strides s = 2, 4, 8, 16, 32, at most `output_stride`, and 64,
          128, 256, 728 and 2048 channels (depth 71: 64, 256, 728, 728 and 2048); "low_level" has
          stride 4 and 256 channels.
        """
        x = remat.stage(functools.partial(Xception._stem, train=train), self, image)
        features = {"c1": x}
        for stage, units in itertools.groupby(self.units(), lambda unit: unit.stage):
            run = functools.partial(Xception._stage, units=tuple(units), train=train)
            x, second = remat.stage(run, self, x)
            if stage == 3:
                features["low_level"] = second
            features[f"c{stage}"] = x
        return features

    def _stem(self, x: Any, *, train: bool) -> Any:
        for name, channels, stride in (("conv1_1", 32, 2), ("conv1_2", 64, 1)):
            channels = scaled(channels, self.width)
            conv = ConvNorm(
                channels, 3, stride, norm=self.norm, kernel_init=_INIT, name=f"entry_flow_{name}"
            )
            x = conv(x, train=train)
        return x

    def _stage(self, x: Any, *, units: Sequence[Unit], train: bool) -> tuple[Any, Any]:
        """Return the result of units, and the first one's second convolution."""
        run, seconds = functools.partial(XceptionModule.__call__, train=train), []
        for unit in units:
            module = XceptionModule(unit, self.norm, self.width, name=unit.name)
            x, second = remat.block(run, module, x)
            seconds.append(second)
        return x, seconds[0]


class XceptionModule(nn.Module):
    """Three separable convolutions, plus a shortcut.

    Attributes:
      spec: channels, stride, rate, shortcut.
      norm: of every convolution.
      width: factor on every channel count.
    """

    spec: Unit
    norm: Norm
    width: float

    @nn.compact
    def __call__(self, x: Any, *, train: bool) -> tuple[Any, Any]:
        """Return the module's output [n h/s w/s c3] and its second convolution's [n h w c2]."""
        inside = self.spec.shortcut == "none"  # where the ReLUs are
        y, results = x, []
        for number, channels in enumerate(self.spec.channels, start=1):
            conv = SeparableConv(
                scaled(channels, self.width),
                # Padded symmetrically: TensorFlow's "SAME" shifts maps of even size by a pixel.
                stride=self.spec.stride if number == 3 else 1,
                rate=self.spec.rate,
                norm=self.norm,
                activation="relu" if inside else "none",
                depthwise_init=_INIT,
                pointwise_init=_INIT,
                name=f"separable_conv{number}",
            )
            y = conv(y if inside else nn.relu(y), train=train)
            results.append(y)
        if self.spec.shortcut == "conv":
            shortcut = ConvNorm(
                y.shape[-1],
                kernel_size=1,
                stride=self.spec.stride,
                norm=self.norm,
                activation="none",
                kernel_init=_INIT,
                name="shortcut",
            )
            x = shortcut(x, train=train)
        return (y if inside else y + x), results[1]
