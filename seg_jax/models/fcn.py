"""FCN: a fully convolutional classifier; scores are upsampled and fused with finer layers' scores.

Long, Shelhamer & Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015,
arXiv:1411.4038; Shelhamer, Long & Darrell, PAMI 2017, arXiv:1605.06211. Layer names and constants
are those of the authors' released networks (voc-fcn32s, voc-fcn16s, voc-fcn8s, voc-fcn8s-atonce).
"""

from typing import Any, Literal

from flax import linen as nn

from seg_jax import checks
from seg_jax.backbones import choose
from seg_jax.backbones.choose import Backbone
from seg_jax.backbones.vgg import VGG
from seg_jax.nn import upsampled
from seg_jax.nn.conv import Conv
from seg_jax.nn.resize import (
    LearnedDoubling,
    LearnedUpsample,
    upsample_bilinear_fixed,
    upsample_from_corner,
)
from seg_jax.nn.sample_grid import Grid
from seg_jax.nn.width_multiplier import scaled

_STAGE = {"pool4": 4, "pool3": 3}  # of the backbone, in the order in which they are fused
_UPSCORES = ("upscore2", "upscore_pool4")


class FCN(nn.Module):
    """FCN-32s, FCN-16s and FCN-8s: any image size in, logits of the same size out.

    The image is padded so much that the upsampled scores cover it; crops then align every map with
    it. The crops are computed from the layers' coordinates (`crop_offsets`), so that a network with
    another padding or fc6 kernel is aligned as exactly as the released one.

    On a backbone other than VGG (not in the papers) nothing needs padding or cropping: its maps
    have samples at the pixels 0, s, 2 s, ..., and scores are interpolated between them.

    Attributes:
      num_classes: channels of the logits.
      skips: pooling layers that are scored and fused: none in FCN-32s, pool4 in FCN-16s, pool4
        and pool3 in FCN-8s; of another backbone than VGG, its maps of stride 16 and 8.
      pool4_scale: factor of pool4 before it is scored; 0.01 in the network trained at once.
      pool3_scale: factor of pool3 before it is scored; 0.0001 in the network trained at once.
      upsampling: of scores between two fusions: "fixed" bilinear (released), or "learned" from a
        bilinear start (CVPR 2015, section 4.3). The last upsampling is bilinear in both.
      fc6_kernel: side of fc6; 7 covers pool5 of a 224 px image, as in the classifier.
      fc_channels: of fc6 and fc7, VGG's fully connected layers. 0: there are none, as in the
        classifiers that end with a global average; not with VGG.
      dropout: rate after fc6 and fc7.
      width: factor of fc6's and fc7's channel counts.
      backbone: with output stride 32; VGG's conv1_1_padding must be at least 16 * fc6_kernel - 31.
    """

    num_classes: int = 21
    skips: tuple[Literal["pool4", "pool3"], ...] = ("pool4", "pool3")
    pool4_scale: float = 1.0
    pool3_scale: float = 1.0
    upsampling: Literal["fixed", "learned"] = "fixed"
    fc6_kernel: int = 7
    fc_channels: int = 4096
    dropout: float = 0.5
    width: float = 1.0
    backbone: Backbone = VGG(conv1_1_padding=100)

    @nn.nowrap
    def with_backbone(self, name: str) -> "FCN":
        """Return this FCN on another backbone, see `backbones.choose`."""
        if name == "vgg16" and not isinstance(self.backbone, VGG):
            return self.clone(backbone=FCN.backbone, fc_channels=FCN.fc_channels)
        backbone = choose.in_place_of(self.backbone, name, output_stride=32)
        return self.clone(
            backbone=backbone, fc_channels=self.fc_channels if isinstance(backbone, VGG) else 0
        )

    @property
    def output_stride(self) -> int:
        """Pixels between two predictions before the last upsampling: 32, 16 or 8."""
        return 32 >> len(self.skips)

    @property
    def crop_offsets(self) -> dict[str, int]:
        """Rows and columns cropped before each skip's scores and before the upsampled "score"; with
        VGG only.
        """
        offsets = {}
        grid = self.backbone.grid(5).conv(self.fc6_kernel)
        for skip in self.skips:
            grid = grid.transposed(4, stride=2)
            offsets[skip] = self.backbone.grid(_STAGE[skip]).offset_of(grid)
        stride = self.output_stride
        offsets["score"] = grid.transposed(2 * stride, stride=stride).offset_of(Grid())
        return offsets

    @nn.compact
    def __call__(self, image: Any, *, train: bool) -> dict[str, Any]:
        """Return {"out": float32 [n h w k]}.

        Args:
          image: float [n h w c], h and w of any size that the padding allows.
          train: dropout is on; needs the rng "dropout".

        Raises:
          ValueError: skips or padding for which no crop exists, or an image that is too small.
        """
        _check(self)
        height, width = image.shape[1:3]
        if not isinstance(self.backbone, VGG):
            return {"out": self._fuse_from_corner(image, train=train)}
        _check_size(self, height, width)
        offsets = self.crop_offsets
        features = self.backbone(image, train=train)
        score = self._classify(features["c5"], train=train)
        for skip, name in zip(self.skips, _UPSCORES, strict=False):
            score = self._double(score, name=name)
            fine = self._score_skip(features, skip)
            fine = _crop(fine, offsets[skip], *score.shape[1:3])
            # After a small fc6 the skip may end a row earlier; the last crop drops such rows.
            score = _crop(score, 0, *fine.shape[1:3]) + fine
        stride = self.output_stride
        out = upsampled.upsample(
            upsample_bilinear_fixed, score, kernel_size=2 * stride, stride=stride
        )
        return {"out": upsampled.crop(out, offsets["score"], height, width)}

    def _fuse_from_corner(self, image: Any, *, train: bool) -> Any:
        """Return the logits [n h w k] for maps with samples at the pixels 0, s, 2 s, ..."""
        features = self.backbone(image, train=train)
        score = self._classify(features["c5"], train=train)
        for skip, name in zip(self.skips, _UPSCORES, strict=False):
            fine = self._score_skip(features, skip)
            size = fine.shape[1:3]
            if self.upsampling == "learned":
                score = LearnedDoubling(self.num_classes, name=name)(score, size)
            else:
                score = upsample_from_corner(score, 2, size)
            score = score + fine
        size = image.shape[1:3]
        return upsampled.upsample(upsample_from_corner, score, self.output_stride, size)

    def _classify(self, x: Any, *, train: bool) -> Any:
        if self.fc_channels:
            channels = scaled(self.fc_channels, self.width)
            padding = 0 if isinstance(self.backbone, VGG) else "same"
            x = nn.relu(Conv(channels, self.fc6_kernel, padding=padding, name="fc6")(x))
            x = nn.Dropout(self.dropout, name="drop6")(x, deterministic=not train)
            x = nn.relu(Conv(channels, 1, name="fc7")(x))
            x = nn.Dropout(self.dropout, name="drop7")(x, deterministic=not train)
        return self._score(x, name="score_fr")

    def _score_skip(self, features: dict[str, Any], skip: str) -> Any:
        pooled = features[f"c{_STAGE[skip]}"] * getattr(self, f"{skip}_scale")
        return self._score(pooled, name=f"score_{skip}")

    def _score(self, x: Any, *, name: str) -> Any:
        # CVPR 2015, section 4.2: zero at first, so that a new skip does not change the coarser net.
        return Conv(self.num_classes, 1, kernel_init=nn.initializers.zeros, name=name)(x)

    def _double(self, score: Any, *, name: str) -> Any:
        if self.upsampling == "learned":
            return LearnedUpsample(self.num_classes, 4, 2, name=name)(score)
        return upsample_bilinear_fixed(score, kernel_size=4, stride=2)


def _crop(x: Any, offset: int, height: int, width: int) -> Any:
    return x[:, offset : offset + height, offset : offset + width]


def _check(model: FCN) -> None:
    if model.skips != tuple(_STAGE)[: len(model.skips)]:
        raise ValueError(
            f"skips {model.skips} must be (), ('pool4',) or ('pool4', 'pool3'): "
            "scores are fused from coarse to fine"
        )
    strides = [model.backbone.grid(stage).stride for stage in (3, 4, 5)]
    if strides != [8, 16, 32]:
        raise ValueError(
            f"backbone: its last three maps have strides of {[int(s) for s in strides]} px; FCN "
            "fuses 8, 16 and 32: output_stride 32, and no ResNet of the variant 'slim'"
        )
    if not isinstance(model.backbone, VGG):
        return
    checks.positive(fc_channels=model.fc_channels)  # the padding is for fc6
    kernel, padding = model.fc6_kernel, model.backbone.conv1_1_padding
    if model.skips and kernel < 3:
        raise ValueError(f"fc6_kernel {kernel} leaves nothing to crop from the skips: at least 3")
    if padding < 16 * kernel - 31:
        raise ValueError(
            f"backbone.conv1_1_padding {padding} does not let the upsampled scores cover the "
            f"image: fc6_kernel {kernel} needs at least {16 * kernel - 31}"
        )
    if model.backbone.pool_rounding != "ceil":
        raise ValueError(
            f"backbone.pool_rounding must be 'ceil', got {model.backbone.pool_rounding!r}: "
            "floored maps do not cover the image"
        )


def _check_size(model: FCN, height: int, width: int) -> None:
    # pool5 must hold one window of fc6: ceil((side + 2 * padding - 2) / 32) >= fc6_kernel.
    padding = model.backbone.conv1_1_padding
    smallest = max(1, 32 * (model.fc6_kernel - 1) + 3 - 2 * padding)
    if height < smallest or width < smallest:
        raise ValueError(
            f"image {height}x{width} is too small for fc6: sides of at least {smallest} px"
        )
