"""FCN: a fully convolutional classifier; scores are upsampled and fused with finer layers' scores.

Long, Shelhamer & Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015,
arXiv:1411.4038; Shelhamer, Long & Darrell, PAMI 2017, arXiv:1605.06211. Layer names and constants
are those of the authors' released networks (voc-fcn32s, voc-fcn16s, voc-fcn8s, voc-fcn8s-atonce).
"""

from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from seg_jax.backbones.vgg import VGG
from seg_jax.nn.conv import Conv
from seg_jax.nn.resize import LearnedUpsample, upsample_bilinear_fixed
from seg_jax.nn.sample_grid import Grid
from seg_jax.nn.width_multiplier import scaled

_STAGE = {"pool4": 4, "pool3": 3}  # of the backbone, in the order in which they are fused


class FCN(nn.Module):
    """FCN-32s, FCN-16s and FCN-8s: any image size in, logits of the same size out.

    The image is padded so much that the upsampled scores cover it; crops then align every map with
    it. The crops are computed from the layers' coordinates (`crop_offsets`), so that a network with
    another padding or fc6 kernel is aligned as exactly as the released one.

    Attributes:
      num_classes: channels of the logits.
      skips: pooling layers that are scored and fused: none in FCN-32s, pool4 in FCN-16s, pool4
        and pool3 in FCN-8s.
      pool4_scale: factor of pool4 before it is scored; 0.01 in the network trained at once.
      pool3_scale: factor of pool3 before it is scored; 0.0001 in the network trained at once.
      upsampling: of scores between two fusions: "fixed" bilinear (released), or "learned" from a
        bilinear start (CVPR 2015, section 4.3). The last upsampling is bilinear in both.
      fc6_kernel: side of fc6; 7 covers pool5 of a 224 px image, as in the classifier.
      dropout: rate after fc6 and fc7.
      width: factor of fc6's and fc7's channel counts.
      backbone: VGG; its conv1_1_padding must be at least 16 * fc6_kernel - 31.
    """

    num_classes: int = 21
    skips: tuple[Literal["pool4", "pool3"], ...] = ("pool4", "pool3")
    pool4_scale: float = 1.0
    pool3_scale: float = 1.0
    upsampling: Literal["fixed", "learned"] = "fixed"
    fc6_kernel: int = 7
    dropout: float = 0.5
    width: float = 1.0
    backbone: VGG = VGG(conv1_1_padding=100)

    @property
    def output_stride(self) -> int:
        """Pixels between two predictions before the last upsampling: 32, 16 or 8."""
        return 32 >> len(self.skips)

    @property
    def crop_offsets(self) -> dict[str, int]:
        """Rows and columns cropped before each skip's scores and before the upsampled "score"."""
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
        _check_size(self, height, width)
        offsets = self.crop_offsets
        features = self.backbone(image, train=train)
        score = self._classify(features["c5"], train=train)
        for skip, name in zip(self.skips, ("upscore2", "upscore_pool4"), strict=False):
            score = self._double(score, name=name)
            pooled = features[f"c{_STAGE[skip]}"] * getattr(self, f"{skip}_scale")
            fine = self._score(pooled, name=f"score_{skip}")
            fine = _crop(fine, offsets[skip], *score.shape[1:3])
            # After a small fc6 the skip may end a row earlier; the last crop drops such rows.
            score = _crop(score, 0, *fine.shape[1:3]) + fine
        stride = self.output_stride
        # Interpolated logits lose too much in bfloat16: float32 from here on.
        score = score.astype(jnp.float32)
        out = upsample_bilinear_fixed(score, kernel_size=2 * stride, stride=stride)
        return {"out": _crop(out, offsets["score"], height, width)}

    def _classify(self, x: Any, *, train: bool) -> Any:
        channels = scaled(4096, self.width)
        x = nn.relu(Conv(channels, self.fc6_kernel, padding=0, name="fc6")(x))
        x = nn.Dropout(self.dropout, name="drop6")(x, deterministic=not train)
        x = nn.relu(Conv(channels, 1, name="fc7")(x))
        x = nn.Dropout(self.dropout, name="drop7")(x, deterministic=not train)
        return self._score(x, name="score_fr")

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
    smallest = max(1, 32 * (model.fc6_kernel - 1) + 3 - 2 * model.backbone.conv1_1_padding)
    if min(height, width) < smallest:
        raise ValueError(
            f"image {height}x{width} is too small for fc6: sides of at least {smallest} px"
        )
