"""DeepLab v3: atrous convolution in cascade, or in parallel (ASPP) with image-level features.

Chen, Papandreou, Schroff & Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation",
arXiv:1706.05587. Layer names and constants are those of the authors' release (tensorflow/models,
research/deeplab).
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seg_jax import checks
from seg_jax.backbones import choose, resnet
from seg_jax.backbones.choose import Backbone
from seg_jax.backbones.resnet import ResNet
from seg_jax.nn import torch_state, upsampled
from seg_jax.nn.blocks import ConvNorm, SeparableConv
from seg_jax.nn.conv import Conv
from seg_jax.nn.fcn_head import TORCH_LAYERS, FCNHead
from seg_jax.nn.input_sizes import aligned_sides, check_sides
from seg_jax.nn.norm import Norm
from seg_jax.nn.pool import average_pool, global_average_pool
from seg_jax.nn.resize import resize_align_corners, resize_half_pixel
from seg_jax.nn.width_multiplier import scaled

# Section 4.1. In the release ASPP has this momentum, the ResNets have 0.95.
PAPER_NORM = Norm(momentum=0.9997, epsilon=1e-5)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: parallel 1x1 and atrous 3x3 convolutions and image pooling,
    concatenated and projected (section 3.3, Figure 5).

    Attributes:
      channels: of every branch and of the result.
      rates: of the 3x3 convolutions at output stride 16; doubled at 8, so that they cover the same
        pixels of the image. (): only the 1x1 convolution and image pooling, as on MobileNetV2.
      image_pooling: "whole" averages over the whole map; "crop" over sliding windows of the size of
        the training crop, as the release does on larger images. They are the same on images of
        that size.
      crop: (height, width) in pixels of "crop".
      convolution: of the atrous branches; "separable" in DeepLab v3+.
      dropout: rate after the projection; in the release, not in the paper.
      norm: of every convolution.
      width: factor of `channels`.
    """

    channels: int = 256
    rates: tuple[int, ...] = (6, 12, 18)
    image_pooling: Literal["whole", "crop", "none"] = "whole"
    crop: tuple[int, int] = (513, 513)
    convolution: Literal["standard", "separable"] = "standard"
    dropout: float = 0.1
    norm: Norm = PAPER_NORM
    width: float = 1.0

    @nn.compact
    def __call__(self, x: Any, *, output_stride: int, train: bool) -> Any:
        """Return [n h w channels] for x [n h w c].

        Args:
          x: the last map of the backbone.
          output_stride: image pixels between its samples.
          train: batch norms use the batch, dropout is on; needs the rng "dropout".
        """
        channels = scaled(self.channels, self.width)

        def conv1x1(name):
            return ConvNorm(channels, 1, norm=self.norm, name=name)

        maps = []
        if self.image_pooling != "none":
            pooled = conv1x1("image_pooling")(self._average(x, output_stride), train=train)
            maps.append(resize_align_corners(pooled, x.shape[1:3]))
        maps.append(conv1x1("aspp0")(x, train=train))
        conv = {"standard": ConvNorm, "separable": SeparableConv}[self.convolution]
        for index, rate in enumerate(self._rates(output_stride), start=1):
            branch = conv(channels, 3, rate=rate, norm=self.norm, name=f"aspp{index}")
            maps.append(branch(x, train=train))
        x = conv1x1("concat_projection")(jnp.concatenate(maps, axis=-1), train=train)
        return nn.Dropout(self.dropout, name="dropout")(x, deterministic=not train)

    def _rates(self, output_stride: int) -> tuple[int, ...]:
        rates = [divmod(rate * 16, output_stride) for rate in self.rates]
        if any(rest or not rate for rate, rest in rates):
            raise ValueError(
                f"atrous rates {self.rates} do not scale from output stride 16 to {output_stride}"
            )
        return tuple(rate for rate, _ in rates)

    def _average(self, x: Any, output_stride: int) -> Any:
        checks.one_of(("whole", "crop", "none"), image_pooling=self.image_pooling)
        if self.image_pooling == "whole":
            return global_average_pool(x)
        window = tuple(
            min((side - 1) // output_stride + 1, limit)
            for side, limit in zip(self.crop, x.shape[1:3], strict=True)
        )
        return average_pool(x, window=window, stride=1)


class DeepLabV3(nn.Module):
    """DeepLab v3 with ASPP or with a cascade, and torchvision's variant of it.

        network             backbone                            aspp   head_convs  upsampling
        ASPP (section 3.3)  slim, multi_grid (1, 2, 4)          ASPP   0           align_corners
        cascade (3.2)       slim, same (1, 2, 1), cascade 3     None   0           align_corners
        torchvision         torchvision, output_stride 8        ASPP   1           half_pixel

    See also `torchvision_network`.

    Attributes:
      num_classes: channels of the logits.
      aspp: atrous spatial pyramid pooling; None: the scores are taken from the last block.
      head_convs: 3x3 convolutions between ASPP and the scores.
      aux: auxiliary head on block 3, used only in training.
      aux_dropout: rate before its scores.
      upsampling: alignment of the bilinear upsampling of the scores, in training as well.
      norm: of head_convs and the auxiliary head.
      width: factor of their channel counts.
      backbone: ResNet; any other that gives "c4" and "c5", its samples at the pixels 0, s, 2 s, ...
    """

    num_classes: int = 21
    aspp: ASPP | None = ASPP()
    head_convs: int = 0
    aux: bool = False
    aux_dropout: float = 0.1
    upsampling: Literal["align_corners", "half_pixel"] = "align_corners"
    norm: Norm = PAPER_NORM
    width: float = 1.0
    backbone: Backbone = ResNet(
        101, variant="slim", output_stride=16, multi_grid=(1, 2, 4), norm=PAPER_NORM
    )

    @nn.nowrap
    def with_backbone(self, name: str) -> "DeepLabV3":
        """Return this network on another backbone, see `backbones.choose`."""
        backbone = choose.in_place_of(self.backbone, name)
        if _cascade(self.backbone) and not _cascade(backbone):
            raise ValueError(
                f"the cascade consists of copies of ResNet's block 4, and {name} has none: take "
                "an experiment with ASPP"
            )
        return self.clone(backbone=backbone)

    @property
    def output_stride(self) -> int:
        """Pixels between two predictions before the upsampling."""
        return self.backbone.output_stride

    def legal_sizes(self, side: int) -> tuple[int, ...]:
        """Return the sides nearest to `side` at which corners are scores: see `aligned_sides`."""
        step = self.output_stride
        return aligned_sides(side, upsampling=self.upsampling, output_stride=step)

    @nn.compact
    def __call__(self, image: Any, *, train: bool) -> dict[str, Any]:
        """Return {"out": float32 [n h w k]}; in training also {"aux": ...} if there is such a head.

        Args:
          image: float [n h w c].
          train: batch norms use the batch, dropout is on; needs the rng "dropout".

        Raises:
          ValueError: a side at which the scores would not be aligned; names the nearest legal ones.
        """
        checks.one_of(("align_corners", "half_pixel"), upsampling=self.upsampling)
        check_sides(image, self.legal_sizes)
        features = self.backbone(image, train=train)
        x = features[f"c{5 + _cascade(self.backbone)}"]
        if self.aspp is not None:
            x = self.aspp(x, output_stride=self.output_stride, train=train)
        for index in range(1, self.head_convs + 1):
            conv = ConvNorm(scaled(256, self.width), 3, norm=self.norm, name=f"head_conv{index}")
            x = conv(x, train=train)
        init = nn.initializers.normal(0.01)
        outputs = {"out": Conv(self.num_classes, 1, kernel_init=init, name="logits")(x)}
        if self.aux and (train or self.is_initializing()):
            head = FCNHead(
                self.num_classes, 256, self.aux_dropout, self.norm, self.width, name="aux_head"
            )
            outputs["aux"] = head(features["c4"], train=train)
        half_pixel = self.upsampling == "half_pixel"
        resize = resize_half_pixel if half_pixel else resize_align_corners
        return {
            name: upsampled.upsample(resize, score, image.shape[1:3])
            for name, score in outputs.items()
        }


def _cascade(backbone: Backbone) -> int:
    return backbone.cascade if isinstance(backbone, ResNet) else 0


def torchvision_network(depth: resnet.Depth, *, num_classes: int = 21) -> DeepLabV3:
    """Return torchvision's deeplabv3_resnet50 or deeplabv3_resnet101, with its auxiliary head."""
    return DeepLabV3(
        num_classes=num_classes,
        aspp=ASPP(dropout=0.5, norm=Norm()),
        head_convs=1,
        aux=True,
        upsampling="half_pixel",
        norm=Norm(),
        backbone=ResNet(depth, variant="torchvision", output_stride=8),
    )


_TORCHVISION = {
    "aspp/aspp0": "classifier.0.convs.0.",
    "aspp/aspp1": "classifier.0.convs.1.",
    "aspp/aspp2": "classifier.0.convs.2.",
    "aspp/aspp3": "classifier.0.convs.3.",
    "aspp/image_pooling": "classifier.0.convs.4.",  # pool, conv, norm, ReLU
    "aspp/concat_projection": "classifier.0.project.",
    "head_conv1": "classifier.",
}


def torchvision_layer(module: str) -> str | None:
    """Return torchvision's name of a layer: "aspp/aspp1/bn" -> "classifier.0.convs.1.1"."""
    part, _, layer = module.partition("/")
    if part == "backbone":
        known = resnet.torchvision_layer(layer)
        return known and f"backbone.{known}"
    if part == "aux_head":
        return f"aux_classifier.{TORCH_LAYERS[layer]}"
    if module == "logits":
        return "classifier.4"
    if match := re.fullmatch(r"(.+)/(conv|bn)", module):
        first = {"aspp/image_pooling": 1, "head_conv1": 1}.get(match[1], 0)
        prefix = _TORCHVISION.get(match[1])
        return prefix and f"{prefix}{first + (match[2] == 'bn')}"
    return None


def from_torchvision(model: DeepLabV3, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a DeepLabV3 from torchvision's deeplabv3_resnet50 or 101.

    Raises:
      UserError: other weights; the layers that do not fit are listed.
    """
    state = with_image_pooling_first(state, "classifier.0.project.0.weight")
    return torch_state.import_state(model, state, torchvision_layer)


def with_image_pooling_first(state: Mapping[str, Any], projection: str) -> Mapping[str, Any]:
    """Return a state dict whose ASPP concatenates image pooling first, as in the authors' release;
    in torchvision and its copies it comes last.

    Args:
      state: of a network with five branches.
      projection: name of the tensor [256 1280 1 1] of the projection.
    """
    if projection not in state:
        return state  # the import reports what is missing
    weight = np.asarray(state[projection])
    return {**state, projection: np.roll(weight, weight.shape[1] // 5, axis=1)}
