"""ResNet: bottleneck units with shortcuts, plain or dilated, in the variants of the papers.

He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385;
Table 1. The backbone of PSPNet, GCN and DeepLab v2, v3 and v3+.
"""

import functools
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from flax import linen as nn

from seg_jax import checks
from seg_jax.nn import relu, remat, torch_state
from seg_jax.nn.blocks import ConvNorm
from seg_jax.nn.global_conv import GlobalConv
from seg_jax.nn.norm import Norm
from seg_jax.nn.pool import max_pool
from seg_jax.nn.sample_grid import Grid
from seg_jax.nn.width_multiplier import scaled

# Units of blocks 1 to 4. Depths 14 and 26 are not in He et al.: smaller, for tests.
UNITS = {
    14: (1, 1, 1, 1),
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}

Depth = Literal[14, 26, 50, 101, 152]
Variant = Literal["msra", "torchvision", "semseg", "slim"]


class _Variant(NamedTuple):
    strided_unit: Literal["first", "last"]  # of a block
    strided_conv: Literal["conv1", "conv2"]  # of that unit
    dilated: Literal["itself", "from the next unit"]  # which unit gets the rate that replaces it


_VARIANTS = {
    "msra": _Variant("first", "conv1", "itself"),  # the Caffe release: DeepLab v2
    "torchvision": _Variant("first", "conv2", "from the next unit"),
    "semseg": _Variant("first", "conv2", "itself"),  # PSPNet, in Caffe and in PyTorch
    "slim": _Variant("last", "conv2", "from the next unit"),  # TensorFlow: DeepLab v3 and v3+
}


class Unit(NamedTuple):
    """Specification of one bottleneck.

    Attributes:
      block, number: both counted from 1, as in TensorFlow's names.
      channels: of its two inner convolutions at width 1; it returns four times as many.
      stride: of its strided convolution and its shortcut.
      rate: of its 3x3 convolution.
    """

    block: int
    number: int
    channels: int
    stride: int
    rate: int


class ResNet(nn.Module):
    """ResNet up to its last block, without the classifier.

    At an output stride below 32, units that would exceed it do not subsample: their stride becomes
    a rate, so that later units see the same pixels. The variants, as their weights were trained:

        variant      stride 2 is in                            a unit without its stride has
        msra         the first 1x1 of a block's first unit     the new rate
        torchvision  the 3x3 of a block's first unit           the old rate
        semseg       the 3x3 of a block's first unit           the new rate
        slim         the 3x3 of blocks 1 to 3's last unit      the old rate

    Attributes:
      depth: 50, 101 or 152; 14 and 26 for tests and quick runs.
      variant: one of the above.
      stem: "7x7"; or "3x3": three convolutions of 64, 64 and 128 channels (PSPNet; TensorFlow's
        resnet_v1_beta). Their weights are not interchangeable.
      output_stride: image pixels between two samples of the last map.
      multi_grid: factors on the block's rate, one for each unit of block 4 and of each block of the
        cascade (DeepLab v3, section 3.2.1). Empty: all 1.
      cascade: copies of block 4 that follow it, 3 for DeepLab v3's blocks 5 to 7 (Figure 3); each
        doubles the stride or the rate once more.
      unit: "bottleneck"; or "gcn": its first two convolutions are replaced by a global convolution
        of size 5 (ResNet-GCN: Large Kernel Matters, section 4.1).
      pool_rounding: of the size after the stem's pool; "ceil" is Caffe's. They differ at image
        sides of 4 k and 4 k - 1.
      norm: of every convolution.
      width: factor on every channel count.
    """

    strided_stem: ClassVar[bool] = True  # see `parallel.compiler`

    depth: Depth = 50
    variant: Variant = "torchvision"
    stem: Literal["7x7", "3x3"] = "7x7"
    output_stride: int = 32
    multi_grid: tuple[int, ...] = ()
    cascade: int = 0
    unit: Literal["bottleneck", "gcn"] = "bottleneck"
    pool_rounding: Literal["floor", "ceil"] = "floor"
    norm: Norm = Norm()
    width: float = 1.0

    @nn.nowrap
    def units(self) -> tuple[Unit, ...]:
        """Return the units in order.

        Raises:
          ValueError: a value that no network of the papers has.
        """
        _check(self)
        variant, counts = _VARIANTS[self.variant], _counts(self)
        units, stride, rate = [], 4, 1
        for block, count in enumerate(counts, start=1):
            has_stride = block > 1 if variant.strided_unit == "first" else block < len(counts)
            strided = {"first": 1, "last": count}[variant.strided_unit]
            for index in range(1, count + 1):
                step = 2 if has_stride and index == strided else 1
                before = rate
                if stride * step > self.output_stride:
                    rate, step = rate * step, 1
                stride *= step
                unit_rate = rate if variant.dilated == "itself" else before
                if block >= 4 and self.multi_grid:
                    unit_rate *= self.multi_grid[index - 1]
                units.append(Unit(block, index, 64 * 2 ** min(block - 1, 3), step, unit_rate))
        return tuple(units)

    @nn.nowrap
    def grid(self, stage: int) -> Grid:
        """Return where the samples of `c<stage>` lie in the image: at the pixels 0, s, 2 s, ..."""
        ends = self.variant == "slim" and 1 < stage < 5  # a block ends with its stride
        return Grid(min(2 ** (stage + ends), self.output_stride))

    @nn.compact
    def __call__(self, image: Any, *, train: bool) -> dict[str, Any]:
        """Return {"c1": the stem before its pool, "c2": block 1, ..., "c5": block 4, ...}.

        A cascade's blocks 5, 6 and 7 are "c6", "c7" and "c8". "low_level" is the decoder's input in
        the DeepLab v3+ release: the residual of block 1's second to last unit (unit 2), after its
        batch norm, before the shortcut is added and before the ReLU.

        Args:
          image: float [n h w c].
          train: batch norms use the batch's statistics and update the running ones.

        Returns:
          float [n h/s w/s c] with strides s = 2, 4, 8, 16, 32, at most `output_stride`; 256, 512,
          1024 and 2048 channels from "c2" to "c5", 256 for "low_level" (stride 4). The variant
          "slim" has strides 2, 8, 16, 32, 32: its blocks end with their stride.
        """
        stem = functools.partial(ResNet._stem, train=train)
        features = {"c1": remat.stage(stem, self, image)}
        # TensorFlow pads "SAME" here: equal at image sides 4 k + 1.
        x = max_pool(features["c1"], window=3, stride=2, padding=1, rounding=self.pool_rounding)
        for block, units in itertools.groupby(self.units(), lambda unit: unit.block):
            run = functools.partial(ResNet._block, units=tuple(units), train=train)
            x, residual = remat.stage(run, self, x)
            if block == 1:
                features["low_level"] = residual
            features[f"c{block + 1}"] = x
        return features

    def _block(self, x: Any, *, units: Sequence[Unit], train: bool) -> tuple[Any, Any]:
        """Return a block's result, and the residual of its second to last unit."""
        run = functools.partial(Bottleneck.__call__, train=train)
        residuals = []
        for unit in units:
            bottleneck = Bottleneck(
                unit,
                _VARIANTS[self.variant].strided_conv,
                self.unit,
                self.norm,
                self.width,
                name=f"block{unit.block}_unit{unit.number}",
            )
            x, residual = remat.block(run, bottleneck, x)
            residuals.append(residual)
        return x, residuals[max(0, len(units) - 2)]

    def _stem(self, x: Any, *, train: bool) -> Any:
        if self.stem == "7x7":
            stem = (("conv1", 64, 7, 2),)
        else:
            stem = (("conv1_1", 64, 3, 2), ("conv1_2", 64, 3, 1), ("conv1_3", 128, 3, 1))
        for name, channels, size, stride in stem:
            channels = scaled(channels, self.width)
            x = ConvNorm(channels, size, stride, norm=self.norm, name=name)(x, train=train)
        return x


class Bottleneck(nn.Module):
    """ReLU(shortcut + residual); the residual is 1x1, 3x3 and 1x1 convolutions with batch norm.

    The shortcut is the input (every second pixel at stride 2) if the channel counts agree, else a
    1x1 convolution of it.

    Attributes:
      spec: channels, stride, rate.
      strided: which convolution has the stride.
      kind: "gcn" replaces the first two convolutions, see `ResNet`.
      norm: of every convolution.
      width: factor on every channel count.
    """

    spec: Unit
    strided: Literal["conv1", "conv2"]
    kind: Literal["bottleneck", "gcn"]
    norm: Norm
    width: float

    @nn.compact
    def __call__(self, x: Any, *, train: bool) -> tuple[Any, Any]:
        """Return result and residual, each [n h/s w/s 4*channels], for x [n h w c]."""
        _, _, channels, stride, rate = self.spec
        inner, outer = scaled(channels, self.width), scaled(4 * channels, self.width)
        if self.kind == "gcn":
            cross = GlobalConv(_gcn_channels(inner), 5, stride, rate, self.norm, name="gcn")
            y = cross(x, train=train)
        else:
            step = {"conv1": 1, "conv2": 1, self.strided: stride}
            y = ConvNorm(inner, 1, step["conv1"], norm=self.norm, name="conv1")(x, train=train)
            y = ConvNorm(inner, 3, step["conv2"], rate, self.norm, name="conv2")(y, train=train)
        last = ConvNorm(outer, 1, norm=self.norm, activation="none", name="conv3")
        residual = last(y, train=train)
        shortcut = x[:, ::stride, ::stride]
        if x.shape[-1] != outer:
            project = ConvNorm(outer, 1, stride, norm=self.norm, activation="none", name="shortcut")
            shortcut = project(x, train=train)
        return relu.of_sum(shortcut + residual), residual


def _gcn_channels(inner: int) -> int:
    """Return the channels g at which a GCN unit has as many weights as a bottleneck.

    The paper requires a similar cost. With 4 m channels in and out, m inner and k = 5:
    2 k (4 m g + g^2) + 4 m g = 4 m^2 + 9 m^2 + 4 m^2, so g = 0.3574 m.
    """
    return max(1, round(0.3574 * inner))


def _counts(model: ResNet) -> tuple[int, ...]:
    counts = UNITS[model.depth]
    return counts + counts[-1:] * model.cascade


def _check(model: ResNet) -> None:
    checks.one_of(UNITS, depth=model.depth)
    checks.one_of(_VARIANTS, variant=model.variant)
    checks.one_of(("7x7", "3x3"), stem=model.stem)
    checks.one_of(("bottleneck", "gcn"), unit=model.unit)
    checks.one_of((0, 1, 2, 3), cascade=model.cascade)
    strides = [4 * 2**i for i in range(4 + model.cascade)]
    checks.one_of(strides, output_stride=model.output_stride)
    units = UNITS[model.depth][-1]
    if len(model.multi_grid) not in (0, units):
        raise ValueError(
            f"multi_grid {model.multi_grid} must have {units} rates, one for each unit of block 4 "
            f"of ResNet-{model.depth}"
        )


def torchvision_layer(module: str) -> str | None:
    """Return torchvision's name of a layer: "block1_unit2/conv3/bn" -> "layer1.1.bn3"."""
    if match := re.fullmatch(r"conv1/(conv|bn)", module):
        return f"{match[1]}1"
    if match := re.fullmatch(r"block(\d)_unit(\d+)/(conv(\d)|shortcut)/(conv|bn)", module):
        block, index, part, number, kind = match.groups()
        layer = {"conv": "downsample.0", "bn": "downsample.1"}[kind]
        return f"layer{block}.{int(index) - 1}.{layer if part == 'shortcut' else kind + number}"
    return None


def from_torchvision(model: ResNet, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a ResNet with the 7x7 stem from torchvision's resnet50/101/152.

    Every leaf is filled, and every tensor used except the classifier's. The weights have the shapes
    of every variant, but only the variant "torchvision" computes the same function.

    Raises:
      UserError: other weights; the layers that do not fit are listed.
    """
    return torch_state.import_state(model, state, torchvision_layer, ignore=r"fc\.(weight|bias)")
