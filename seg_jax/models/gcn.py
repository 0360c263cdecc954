"""GCN: score maps by kernels as large as the map, refined at boundaries by a residual unit.

Peng, Zhang, Yu, Luo & Sun, "Large Kernel Matters: Improve Semantic Segmentation by Global
Convolutional Network", CVPR 2017, arXiv:1703.02719. The authors released no code.
"""

from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from seg_jax import checks
from seg_jax.backbones import choose
from seg_jax.backbones.choose import Backbone
from seg_jax.backbones.resnet import ResNet
from seg_jax.backbones.vgg import VGG
from seg_jax.nn.conv import Conv
from seg_jax.nn.global_conv import GlobalConv
from seg_jax.nn.input_sizes import check_sides, nearest_sides
from seg_jax.nn.resize import (
    LearnedDoubling,
    LearnedUpsample,
    resize_half_pixel,
    upsample_from_corner,
)
from seg_jax.nn.width_multiplier import scaled

_LINEAR = nn.initializers.lecun_normal()  # He et al.'s variance assumes a ReLU; none follows here


class BoundaryRefinement(nn.Module):
    """x + conv(ReLU(conv(x))), two 3x3 convolutions without norm (Figure 2 C).

    Initialised as the identity (the paper does not say): nine random units in a row would make the
    first scores very large.
    """

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """Return [n h w k] for scores x [n h w k]."""
        y = nn.relu(Conv(x.shape[-1], 3, name="conv1")(x))
        zeros = nn.initializers.zeros
        return x + Conv(x.shape[-1], 3, kernel_init=zeros, name="conv2")(y)


class GCN(nn.Module):
    """Blocks 1 to 4 of a ResNet, each scored by a large kernel, fused from coarse to fine.

    Every score map and every sum is refined, and so are the maps upsampled to strides 2 and 1: nine
    boundary refinements (Figure 2 A).

    Attributes:
      num_classes: channels of the logits and of all that follows the backbone.
      context: how a map is scored. "gcn": a global convolution. The baselines of Tables 2 to 4:
        "plain", a dense k x k convolution (the 1x1 baseline at kernel_size 1), or "stacked",
        (k - 1) / 2 convolutions of 3x3 without a ReLU between them.
      kernel_size: k in pixels, odd; 15 covers the 16x16 map of a 512 px image.
      stacked_channels: between the convolutions of "stacked"; 2048, 1024 and 210 in Table 4.
      refinement: boundary refinement; without it scores are only added and upsampled.
      upsampling: "bilinear"; or "learned": transposed convolutions initialised as bilinear, which
        the paper's figure shows but its parameter counts do not include.
      alignment: of a map and the one that is upsampled to it. "half_pixel" takes sides of 32 k
        (512: the paper's). "corners" takes any side: the samples of all backbones but VGG lie at
        the pixels 0, s, 2 s, ..., and are interpolated there.
      width: factor on stacked_channels; scores always have num_classes channels.
      backbone: ResNet of output stride 32; any other that halves its map from "c2" to "c5".
    """

    num_classes: int = 21
    context: Literal["gcn", "plain", "stacked"] = "gcn"
    kernel_size: int = 15
    stacked_channels: int = 210
    refinement: bool = True
    upsampling: Literal["bilinear", "learned"] = "bilinear"
    alignment: Literal["half_pixel", "corners"] = "half_pixel"
    width: float = 1.0
    backbone: Backbone = ResNet(152)

    @nn.nowrap
    def with_backbone(self, name: str) -> "GCN":
        """Return this network on another backbone, see `backbones.choose`.

        The paper's ResNets keep their alignment, all others get the one that is exact for them.
        """
        backbone = choose.in_place_of(self.backbone, name, output_stride=32, pools="2x2")
        exact = "half_pixel" if isinstance(backbone, VGG) else "corners"
        keep = type(backbone) is type(self.backbone) or isinstance(backbone, ResNet)
        return self.clone(backbone=backbone, alignment=self.alignment if keep else exact)

    @property
    def output_stride(self) -> int:
        """Pixels between two samples of the coarsest map."""
        return self.backbone.output_stride

    def legal_sizes(self, side: int) -> tuple[int, ...]:
        """Return the multiples of 32 nearest to `side`: upsampled maps then fit the finer ones.

        With aligned corners, `side`.
        """
        if self.alignment == "corners":
            return (side,)
        return nearest_sides(side, step=32, rest=32)

    @nn.compact
    def __call__(self, image: Any, *, train: bool) -> dict[str, Any]:
        """Return {"out": float32 [n h w k]}.

        Args:
          image: float [n h w c].
          train: batch norms use the batch.

        Raises:
          ValueError: a side that is not a multiple of 32; names the nearest legal ones.
        """
        _check(self)
        check_sides(image, self.legal_sizes)
        features = self.backbone(image, train=train)
        score: Any = None
        for stage in ("c5", "c4", "c3", "c2"):
            own = self._refine(self._score(features[stage], stage, train=train), stage)
            if score is None:
                score = own
            else:
                score = self._double(score, stage, own.shape[1:3]) + own
                score = self._refine(score, f"{stage}_sum")
        half = tuple(-(-side // 2) for side in image.shape[1:3])
        score = self._refine(self._double(score, "stride2", half), "stride2")
        if not self.refinement and self.upsampling == "bilinear":
            score = score.astype(jnp.float32)  # interpolated logits lose too much in bfloat16
        score = self._refine(self._double(score, "stride1", image.shape[1:3]), "stride1")
        return {"out": score.astype(jnp.float32)}

    def _score(self, x: Any, stage: str, *, train: bool) -> Any:
        name = f"{self.context}_{stage}"
        if self.context == "gcn":
            return GlobalConv(self.num_classes, self.kernel_size, name=name)(x, train=train)
        if self.context == "plain":
            return Conv(self.num_classes, self.kernel_size, kernel_init=_LINEAR, name=name)(x)
        count = self.kernel_size // 2
        for index in range(1, count + 1):
            channels = scaled(self.stacked_channels, self.width)
            features = self.num_classes if index == count else channels
            x = Conv(features, 3, kernel_init=_LINEAR, name=f"{name}_{index}")(x)
        return x

    def _refine(self, score: Any, name: str) -> Any:
        return BoundaryRefinement(name=f"refine_{name}")(score) if self.refinement else score

    def _double(self, score: Any, name: str, size: tuple[int, int]) -> Any:
        """Upsample by 2 to `size`; with half-pixel centres as a 4x4 bilinear kernel of stride 2."""
        if self.alignment == "corners":
            if self.upsampling == "bilinear":
                return upsample_from_corner(score, 2, size)
            return LearnedDoubling(self.num_classes, name=f"up_{name}")(score, size)
        if self.upsampling == "bilinear":
            return resize_half_pixel(score, size)
        up = LearnedUpsample(self.num_classes, 4, 2, name=f"up_{name}")(score)
        return up[:, 1:-1, 1:-1]


def _check(model: GCN) -> None:
    checks.one_of(("gcn", "plain", "stacked"), context=model.context)
    checks.one_of(("half_pixel", "corners"), alignment=model.alignment)
    if model.alignment == "corners" and model.backbone.grid(5).origin:
        raise ValueError("alignment 'corners' is not that of VGG's 2x2 pools: use 'half_pixel'")
    if model.kernel_size < 1 or model.kernel_size % 2 == 0:
        raise ValueError(f"kernel_size {model.kernel_size} must be odd and positive")
    if model.context == "stacked" and model.kernel_size < 3:
        raise ValueError(f"kernel_size {model.kernel_size}: a stack of 3x3 begins at 3")
    net = model.backbone
    strides = [net.grid(stage).stride for stage in (2, 3, 4, 5)]
    if strides != [4, 8, 16, 32]:
        raise ValueError(
            "backbone must halve its map from block to block: output_stride 32 and no 'slim' "
            f"variant, its maps have strides of {[int(stride) for stride in strides]} px"
        )
    if isinstance(net, ResNet) and net.pool_rounding != "floor":
        raise ValueError(f"backbone.pool_rounding must be 'floor', got {net.pool_rounding!r}")
