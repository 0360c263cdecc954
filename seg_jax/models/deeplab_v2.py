"""DeepLab v2: atrous spatial pyramid pooling on VGG-16 and ResNet-101, and fused image scales.

Chen, Papandreou, Kokkinos, Murphy & Yuille, "DeepLab: Semantic Image Segmentation with Deep
Convolutional Nets, Atrous Convolution, and Fully Connected CRFs", PAMI 2018, arXiv:1606.00915.
Layer names and constants are those of the authors' released networks. The dense CRF is not part of
the network.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from seg_jax import checks
from seg_jax.backbones.choose import Backbone
from seg_jax.backbones.resnet import ResNet
from seg_jax.backbones.vgg import DEEPLAB_POOLS, DEEPLAB_RATES, VGG
from seg_jax.models.deeplab_v1 import rate_at, upsample_scores
from seg_jax.nn import upsampled
from seg_jax.nn.conv import Conv
from seg_jax.nn.input_sizes import check_sides, is_known, nearest_sides
from seg_jax.nn.norm import Norm
from seg_jax.nn.resize import resize_align_corners
from seg_jax.nn.width_multiplier import scaled

# DeepLab v1's LargeFOV trunk, but without its pool5a.
VGG16 = VGG(pools=DEEPLAB_POOLS, rates=DEEPLAB_RATES)
# The authors' Caffe ResNet: stride in the first 1x1 of a block, rates 2 and 4 in all units of
# blocks 3 and 4, a pool of rounded-up size, and batch norm frozen with its scale and bias.
RESNET101 = ResNet(
    depth=101,
    variant="msra",
    output_stride=8,
    pool_rounding="ceil",
    norm=Norm(statistics="frozen", epsilon=1e-5),
)
ASPP_S, ASPP_L = (2, 4, 8, 12), (6, 12, 18, 24)  # section 4.1.2


class DeepLabV2(nn.Module):
    """DeepLab v2: LargeFOV, ASPP, and multi-scale inputs.

        network              rates     fc_channels  scales          backbone
        LargeFOV (VGG-16)    (12,)     1024         (1,)            VGG16
        ASPP-S (VGG-16)      ASPP_S    1024         (1,)            VGG16
        ASPP-L (VGG-16)      ASPP_L    1024         (1,)            VGG16
        ASPP (ResNet-101)    ASPP_L    0            (1, 0.75, 0.5)  RESNET101

    Attributes:
      num_classes: channels of the logits.
      rates: of the parallel branches, whose scores are added (ASPP, Figure 4), at output stride 8;
        they cover the same pixels at others.
      fc_channels: of each branch's fc6 and fc7; 0: a branch is a single 3x3 convolution to the
        scores, as on ResNet-101.
      scales: of the image. The same network scores each; the scores of the smaller ones are
        interpolated to the grid of the first, then the maximum is taken for each class.
      dropout: rate after fc6 and fc7.
      width: factor of fc6's and fc7's channel counts.
      backbone: with output stride s, 8 in the paper, and samples at the pixels 0, s, 2 s, ...
    """

    num_classes: int = 21
    rates: tuple[int, ...] = ASPP_L
    fc_channels: int = 1024
    scales: tuple[float, ...] = (1.0,)
    dropout: float = 0.5
    width: float = 1.0
    backbone: Backbone = VGG16

    @property
    def output_stride(self) -> int:
        """Pixels between two predictions before the upsampling: 8 as published."""
        return self.backbone.output_stride

    def legal_sizes(self, side: int) -> tuple[int, ...]:
        """Return the sides nearest to `side` at which the scores of all scales are aligned.

        The corners of the image must be scores at every scale: 8 k + 1 px, or 32 k + 1 (the
        release's 32 k - 31: 321, 513) if scales of 0.75 and 0.5 are fused.
        """
        shrunk = (Fraction(scale).limit_denominator(100).denominator for scale in self.scales)
        return nearest_sides(side, step=self.output_stride * math.lcm(*shrunk), rest=1)

    @nn.compact
    def __call__(self, image: Any, *, train: bool) -> dict[str, Any]:
        """Return {"out": float32 [n h w k]}, and {"scale<s>": float32 [n h w k]} for each scale s
        if there are several: the scores before the maximum, which get a loss each.

        Scores are interpolated to the image's size with aligned corners (Caffe's Interp layer):
        every eighth pixel (8/s of "scale<s>") is exactly a score.

        Args:
          image: float [n h w c].
          train: dropout is on; needs the rng "dropout".

        Raises:
          ValueError: a side at which the scores are not aligned; names the nearest legal ones.
        """
        _check(self)
        check_sides(image, self.legal_sizes)
        score = self._scorer(train=train)
        fused, outputs = None, {}
        for scale in self.scales:
            scores = score(_shrink(image, scale)).astype(jnp.float32)
            if len(self.scales) > 1:
                outputs[f"scale{scale:g}"] = upsampled.upsample(
                    resize_align_corners, scores, image.shape[1:3]
                )
            if fused is None:
                fused = scores
            else:
                fused = jnp.maximum(fused, resize_align_corners(scores, fused.shape[1:3]))
        return {"out": upsample_scores(fused, self.output_stride), **outputs}

    def _scorer(self, *, train: bool) -> Callable[[Any], Any]:
        """Return a function image [n h w c] -> scores [n h/8 w/8 k] that shares its layers."""
        branches = [self._branch(number, train=train) for number in range(len(self.rates))]

        def score(image):
            x = self.backbone(image, train=train)["c5"]
            expected = tuple((side - 1) // self.output_stride + 1 for side in image.shape[1:3])
            if x.shape[1:3] != expected:
                raise ValueError(
                    f"backbone: its c5 has {x.shape[1]}x{x.shape[2]} cells, but an output stride of"
                    f" {self.output_stride} needs {expected[0]}x{expected[1]}; use VGG16 or "
                    "RESNET101"
                )
            return sum(branch(x) for branch in branches)

        return score

    def _branch(self, number: int, *, train: bool) -> Callable[[Any], Any]:
        """Build one branch of ASPP: atrous fc6, fc7 and fc8, or a single convolution."""
        rate = rate_at(self.rates[number], self.output_stride)
        init = nn.initializers.normal(0.01)  # of every last layer, in all releases
        if not self.fc_channels:
            return Conv(self.num_classes, 3, rate=rate, kernel_init=init, name=f"fc1_c{number}")
        suffix = f"_{number + 1}" if len(self.rates) > 1 else ""
        channels = scaled(self.fc_channels, self.width)
        dropout = {"rate": self.dropout, "deterministic": not train}
        return nn.Sequential(
            [
                Conv(channels, 3, rate=rate, name=f"fc6{suffix}"),
                nn.relu,
                nn.Dropout(**dropout, name=f"drop6{suffix}"),
                Conv(channels, 1, name=f"fc7{suffix}"),
                nn.relu,
                nn.Dropout(**dropout, name=f"drop7{suffix}"),
                Conv(self.num_classes, 1, kernel_init=init, name=f"fc8{suffix}"),
            ]
        )


def _shrink(image: Any, scale: float) -> Any:
    """Resize as Caffe's Interp layer: 321 px at 0.75 and 0.5 become 241 and 161."""
    height, width = (_scaled(side, scale) for side in image.shape[1:3])
    return resize_align_corners(image, (height, width))


def _scaled(side: Any, scale: float) -> Any:
    if is_known(side):
        return round((side - 1) * scale) + 1
    share = Fraction(scale).limit_denominator(100)  # legal sides are multiples, see `legal_sizes`
    return (side - 1) * share.numerator // share.denominator + 1


def _check(model: DeepLabV2) -> None:
    checks.positive(**{f"rates[{i}]": rate for i, rate in enumerate(model.rates)})
    if not model.rates or model.scales[:1] != (1.0,):
        raise ValueError(
            f"rates {model.rates} must not be empty, and scales {model.scales} must begin with 1: "
            "the others are fused on its grid"
        )
