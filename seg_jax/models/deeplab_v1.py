"""DeepLab v1: VGG-16 with atrous convolution, scored at every eighth pixel.

Chen, Papandreou, Kokkinos, Murphy & Yuille, "Semantic Image Segmentation with Deep Convolutional
Nets and Fully Connected CRFs", ICLR 2015, arXiv:1412.7062. Layer names and constants are those of
the authors' released networks (vgg128_noup, vgg128_ms, and the LargeFOV ones). The dense CRF is not
part of the network.
"""

from typing import Any, Literal

from flax import linen as nn

from seg_jax import checks
from seg_jax.backbones.choose import Backbone
from seg_jax.backbones.vgg import DEEPLAB_POOLS, DEEPLAB_RATES, VGG, Pool
from seg_jax.nn import upsampled
from seg_jax.nn.conv import Conv
from seg_jax.nn.input_sizes import check_sides, nearest_sides
from seg_jax.nn.pool import average_pool
from seg_jax.nn.resize import resize_align_corners
from seg_jax.nn.width_multiplier import scaled

# The first networks kept VGG's windows of 2: samples then lie at 8 i + 1/2.
POOLS_2X2 = (*(Pool(2, 2, 1),) * 3, Pool(2, 1, 0), Pool(3, 1, 1))

_BRANCHES = ("data", "pool1", "pool2", "pool3", "pool4")
# In the released MSc networks these two layers have another initial deviation than their siblings.
_BRANCH_STDDEV = {"pool4_fc": 0.005, "pool3_ms": 0.0}


class DeepLabV1(nn.Module):
    """DeepLab v1 and its variants up to MSc-LargeFOV.

    The variants of the paper's Table 2, with the field of view of fc6:

        name                fc6_kernel  fc6_rate  fc_channels  pool5a     pools      view
        DeepLab             4           4         4096         "none"     POOLS_2X2  128 px
        DeepLab-4x4         4           8         4096         "none"     POOLS_2X2  224 px
        DeepLab-7x7         7           4         4096         "none"     POOLS_2X2  224 px
        DeepLab-LargeFOV    3           12        1024         "average"  3x3        224 px

    Attributes:
      num_classes: channels of the logits.
      fc6_kernel: side of the kernel of fc6.
      fc6_rate: distance between its taps in cells of 8 px; as many pixels at other output strides.
      fc_channels: output channels of fc6 and of fc7.
      pool5a: average over 3x3 cells after pool5; in LargeFOV, but not in the networks of v2.
      branches: maps scored by a small classifier each, whose scores are added: all five in the MSc
        networks (section 4.3).
      branch_channels: channels of the two layers before a branch's scores.
      dropout: rate after fc6, fc7 and the first two layers of the branches.
      width: factor of fc6's, fc7's and the branches' channel counts.
      backbone: VGG with an output stride of 8; or any other (not in the paper).
    """

    num_classes: int = 21
    fc6_kernel: int = 3
    fc6_rate: int = 12
    fc_channels: int = 1024
    pool5a: Literal["average", "none"] = "average"
    branches: tuple[Literal["data", "pool1", "pool2", "pool3", "pool4"], ...] = ()
    branch_channels: int = 128
    dropout: float = 0.5
    width: float = 1.0
    backbone: Backbone = VGG(pools=DEEPLAB_POOLS, rates=DEEPLAB_RATES)

    @property
    def output_stride(self) -> int:
        """Pixels between two predictions before the upsampling."""
        return int(self.backbone.grid(5).stride)

    @property
    def first_pixel(self) -> int:
        """Row and column of the image to which the first score belongs: 0, or 1 with POOLS_2X2."""
        # With POOLS_2X2, samples lie at 8 i + 1/2; the release crops the label's first pixels.
        return int(self.backbone.grid(5).origin + 0.5)

    def legal_sizes(self, side: int) -> tuple[int, ...]:
        """Return the sides nearest to `side` whose corners get a score: 8 k + 1 + first_pixel.

        The release uses 32 k + 1 (its 32 k - 31: 321, 513), to compare with networks that subsample
        in the last pools too; for alignment 8 k + 1 is enough.
        """
        return nearest_sides(side, step=self.output_stride, rest=1 + self.first_pixel)

    @nn.compact
    def __call__(self, image: Any, *, train: bool) -> dict[str, Any]:
        """Return {"out": float32 [n h w k]}: scores at every eighth pixel from `first_pixel` on,
        interpolated bilinearly between them (Caffe's Interp layer: corners aligned).

        Args:
          image: float [n h w c].
          train: dropout is on; needs the rng "dropout".

        Raises:
          ValueError: a side for which no score falls on the last pixel (names the nearest legal
            ones), or an fc6 or a branch whose samples lie between those of the map.
        """
        check_sides(image, self.legal_sizes)
        features = self.backbone(image, train=train)
        score = self._classify(features["c5"], train=train)
        maps = (image, *(features[f"c{stage}"] for stage in range(1, 5)))
        for branch in self.branches:
            checks.one_of(_BRANCHES, branches=branch)
            stage = _BRANCHES.index(branch)
            score = score + self._branch(maps[stage], branch, stage, train=train)
        out = upsample_scores(score, self.output_stride)
        # The pixels before the first score get the first score.
        return {"out": upsampled.repeat_first(out, self.first_pixel)}

    def _classify(self, x: Any, *, train: bool) -> Any:
        if self.pool5a == "average":
            x = average_pool(x, window=3, stride=1, padding=1)
        channels = scaled(self.fc_channels, self.width)
        rate = rate_at(self.fc6_rate, self.output_stride)
        padding, odd = divmod(rate * (self.fc6_kernel - 1), 2)
        if odd:
            raise ValueError(
                f"fc6_kernel {self.fc6_kernel} at fc6_rate {self.fc6_rate} has no centre on the "
                "map: an even kernel needs an even rate"
            )
        x = Conv(channels, self.fc6_kernel, rate=rate, padding=padding, name="fc6")(x)
        x = nn.Dropout(self.dropout, name="drop6")(nn.relu(x), deterministic=not train)
        x = nn.relu(Conv(channels, 1, name="fc7")(x))
        x = nn.Dropout(self.dropout, name="drop7")(x, deterministic=not train)
        return Conv(self.num_classes, 1, kernel_init=nn.initializers.normal(0.01), name="fc8")(x)

    def _branch(self, x: Any, branch: str, stage: int, *, train: bool) -> Any:
        """Score a finer map: a 3x3 convolution strided to the scores' grid, then a 1x1 one."""
        grid, target = self.backbone.grid(stage), self.backbone.grid(5)
        stride = int(target.stride / grid.stride)
        if grid.conv(3, stride=stride, padding=1) != target:
            raise ValueError(
                f"branches: {branch!r} has its samples at {grid}, the scores at {target}: no "
                "stride aligns them; use backbone.pools=DEEPLAB_POOLS"
            )
        channels = scaled(self.branch_channels, self.width)
        for suffix, features, kernel, stddev in (
            ("conv", channels, 3, 0.001),
            ("fc", channels, 1, 0.001),
            ("ms", self.num_classes, 1, 0.01),
        ):
            name = f"{branch}_{suffix}"
            init = nn.initializers.normal(_BRANCH_STDDEV.get(name, stddev))
            step = stride if suffix == "conv" else 1
            x = Conv(features, kernel, step, kernel_init=init, name=name)(x)
            if suffix != "ms":
                drop = nn.Dropout(self.dropout, name=f"drop_{name}")
                x = drop(nn.relu(x), deterministic=not train)
        return x


def rate_at(rate: int, output_stride: int) -> int:
    """Return an atrous rate of output stride 8 at another: it covers the same pixels.

    Raises:
      ValueError: it would be a fraction of a cell.
    """
    scaled_rate, rest = divmod(rate * 8, output_stride)
    if rest:
        raise ValueError(
            f"atrous rate {rate} at output stride 8 is no whole number at {output_stride}; "
            "give an output_stride of 8 or 16, or other rates"
        )
    return scaled_rate


def upsample_scores(score: Any, stride: int) -> Any:
    """Interpolate scores [n h w k] to float32 [n (h-1)*stride+1 (w-1)*stride+1 k].

    Every stride-th pixel is exactly one of the scores: a loss on these pixels only is the loss of
    the release, which shrinks the label by the same factor.
    """
    height, width = ((side - 1) * stride + 1 for side in score.shape[1:3])
    return upsampled.upsample(resize_align_corners, score, (height, width))
