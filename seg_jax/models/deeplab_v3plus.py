"""DeepLab v3+: DeepLab v3 as an encoder, and a small decoder that refines object boundaries.

Chen, Zhu, Papandreou, Schroff & Adam, "Encoder-Decoder with Atrous Separable Convolution for
Semantic Image Segmentation", ECCV 2018, arXiv:1802.02611. Layer names and constants are those of
the authors' release (tensorflow/models, research/deeplab).
"""

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from seg_jax import checks
from seg_jax.backbones import choose
from seg_jax.backbones.choose import Backbone
from seg_jax.backbones.vgg import VGG
from seg_jax.backbones.xception import Xception
from seg_jax.models.deeplab_v3 import ASPP, PAPER_NORM
from seg_jax.nn import upsampled
from seg_jax.nn.blocks import ConvNorm, SeparableConv
from seg_jax.nn.conv import Conv
from seg_jax.nn.input_sizes import aligned_sides, check_sides
from seg_jax.nn.norm import Norm
from seg_jax.nn.resize import resize_align_corners, resize_half_pixel
from seg_jax.nn.width_multiplier import scaled


class Decoder(nn.Module):
    """Concatenates the upsampled encoder map with reduced low-level features of stride 4, and
    refines both by convolutions (section 3.1, Figure 2).

    Attributes:
      channels: of the convolutions.
      low_level: the backbone's map that is used. "low_level" is the release's: a map inside a block
        before its ReLU (MobileNetV2: after its ReLU6) and before any shortcut is added; see the
        backbones. "c2", the result of a block, is used by most other implementations: their weights
        have the same shapes but compute another function. slim's ResNets have no "c2" of stride 4,
        VGG has no "low_level".
      low_level_channels: to which a 1x1 convolution reduces them (Table 1).
      convs: number of convolutions (Table 2).
      kernel_size: of these convolutions.
      convolution: "separable" as in the release and, with Xception, in the paper.
      norm: of every convolution.
      width: factor of `channels` and `low_level_channels`.
    """

    channels: int = 256
    low_level: Literal["low_level", "c2"] = "low_level"
    low_level_channels: int = 48
    convs: int = 2
    kernel_size: int = 3
    convolution: Literal["standard", "separable"] = "separable"
    norm: Norm = PAPER_NORM
    width: float = 1.0

    @nn.compact
    def __call__(
        self,
        x: Any,
        features: dict[str, Any],
        *,
        size: tuple[int, int],
        resize: Callable[[Any, tuple[int, int]], Any] = resize_align_corners,
        train: bool,
    ) -> Any:
        """Return [n *size channels] for the map x of the encoder and all maps of the backbone.

        Args:
          x: [n h w c].
          features: of the backbone.
          size: (height, width) of the low-level features.
          resize: upsamples x.
          train: batch norms use the batch.

        Raises:
          ValueError: the low-level features do not have this size.
        """
        checks.one_of(("low_level", "c2"), low_level=self.low_level)
        checks.one_of(("standard", "separable"), convolution=self.convolution)
        if self.low_level not in features:
            raise ValueError('decoder.low_level "low_level" is not there in VGG: set it to "c2"')
        low_level = features[self.low_level]
        if low_level.shape[1:3] != size:
            raise ValueError(
                f"decoder.low_level {self.low_level!r} has {low_level.shape[1:3]} samples, but "
                f'stride 4 needs {size}; use "low_level" with this backbone'
            )
        reduced = scaled(self.low_level_channels, self.width)
        project = ConvNorm(reduced, 1, norm=self.norm, name="feature_projection0")
        x = jnp.concatenate([resize(x, size), project(low_level, train=train)], axis=-1)
        conv = {"standard": ConvNorm, "separable": SeparableConv}[self.convolution]
        channels = scaled(self.channels, self.width)
        for index in range(self.convs):
            refine = conv(channels, self.kernel_size, norm=self.norm, name=f"decoder_conv{index}")
            x = refine(x, train=train)
        return x


class DeepLabV3Plus(nn.Module):
    """DeepLab v3+ on Xception, ResNet or MobileNetV2.

        network               backbone                            aspp               decoder
        Xception-65           Xception()                          separable          separable
        ResNet-101 (Table 3)  slim, multi_grid (1, 2, 4)          standard           standard
        MobileNetV2           MobileNetV2()                       rates ()           None

    The output stride is the backbone's; at 8 instead of 16 the rates in ASPP and in the backbone
    double. The parameters are the same: the papers train at 16 and evaluate at 8.

    Attributes:
      num_classes: channels of the logits.
      aspp: atrous spatial pyramid pooling of the backbone's last map.
      decoder: None: the scores are taken from the encoder, as in DeepLab v3.
      upsampling: alignment of the bilinear upsampling of the encoder's map and of the scores. The
        release aligns corners; implementations in PyTorch mostly do not.
      backbone: Xception, ResNet or MobileNetV2; or VGG (not in the paper).
    """

    num_classes: int = 21
    aspp: ASPP = ASPP(convolution="separable")
    decoder: Decoder | None = Decoder()
    upsampling: Literal["align_corners", "half_pixel"] = "align_corners"
    backbone: Backbone = Xception()

    @nn.nowrap
    def with_backbone(self, name: str) -> "DeepLabV3Plus":
        """Return this network on another backbone, see `backbones.choose`."""
        backbone = choose.in_place_of(self.backbone, name)
        decoder = self.decoder
        if decoder is not None and isinstance(backbone, VGG):
            decoder = decoder.clone(low_level="c2")
        return self.clone(backbone=backbone, decoder=decoder)

    @property
    def output_stride(self) -> int:
        """Pixels between two samples of the encoder's map."""
        return self.backbone.output_stride

    def legal_sizes(self, side: int) -> tuple[int, ...]:
        """Return the sides nearest to `side` at which corners are samples: see `aligned_sides`."""
        step = self.output_stride
        return aligned_sides(side, upsampling=self.upsampling, output_stride=step)

    @nn.compact
    def __call__(self, image: Any, *, train: bool) -> dict[str, Any]:
        """Return {"out": float32 [n h w k]}, the scores interpolated.

        Args:
          image: float [n h w c].
          train: batch norms use the batch, dropout is on; needs the rng "dropout".

        Raises:
          ValueError: a side at which the scores would not be aligned (names the nearest legal
            ones), or low-level features that do not have stride 4.
        """
        checks.one_of(("align_corners", "half_pixel"), upsampling=self.upsampling)
        check_sides(image, self.legal_sizes)
        half_pixel = self.upsampling == "half_pixel"
        resize = resize_half_pixel if half_pixel else resize_align_corners
        features = self.backbone(image, train=train)
        x = self.aspp(features["c5"], output_stride=self.output_stride, train=train)
        if self.decoder is not None:
            height, width = ((side - 1) // 4 + 1 for side in image.shape[1:3])
            x = self.decoder(x, features, size=(height, width), resize=resize, train=train)
        init = nn.initializers.truncated_normal(0.01)
        logits = Conv(self.num_classes, 1, kernel_init=init, name="logits")(x)
        return {"out": upsampled.upsample(resize, logits, image.shape[1:3])}
