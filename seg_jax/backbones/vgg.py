"""VGG: stages of 3x3 convolutions, each followed by a 2x2 pool.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
ICLR 2015, arXiv:1409.1556; Table 1. The backbone of FCN, SegNet and DeepLab v1/v2.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from flax import linen as nn

from seg_jax import checks
from seg_jax.nn import remat, torch_state
from seg_jax.nn.conv import Conv
from seg_jax.nn.pool import max_pool
from seg_jax.nn.sample_grid import Grid
from seg_jax.nn.width_multiplier import scaled

CHANNELS = (64, 128, 256, 512, 512)  # of the five stages


@dataclasses.dataclass(frozen=True)
class Pool:
    """A maximum pool, the same in both directions.

    Attributes:
      window: in pixels.
      stride: distance between neighbouring windows in pixels.
      padding: on each side in pixels.
    """

    window: int = 2
    stride: int = 2
    padding: int = 0

    def __post_init__(self):
        checks.positive(window=self.window, stride=self.stride)
        checks.non_negative(padding=self.padding)


# DeepLab's output stride of 8: the last two pools have stride 1, and conv5 is atrous instead.
DEEPLAB_RATES = (1, 1, 1, 1, 2)
# LargeFOV and v2: windows of 3, so that the samples of each map lie on pixels 0, s, 2 s, ...
DEEPLAB_POOLS = (*(Pool(3, 2, 1),) * 3, Pool(3, 1, 1), Pool(3, 1, 1))


class VGG(nn.Module):
    """The convolutional part of VGG-16 (configuration D), up to and including pool5.

    The classifier's fc6 and fc7 belong to the models: each paper turns them into convolutions in
    its own way.

    Attributes:
      width: factor on every channel count.
      depths: convolutions in each of the five stages; the default is VGG-16.
      pools: at the end of each stage. DeepLab changes window, stride and padding.
      rates: of the convolutions in each stage; doubled after a pool whose stride was removed.
      conv1_1_padding: zero padding of the image in conv1_1; 100 in FCN's release.
      pool_rounding: of pooled sizes; "ceil" is Caffe's, which the published weights were trained
        with.
    """

    width: float = 1.0
    depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    pools: tuple[Pool, ...] = (Pool(),) * 5
    rates: tuple[int, ...] = (1, 1, 1, 1, 1)
    conv1_1_padding: int = 1
    pool_rounding: Literal["ceil", "floor"] = "ceil"

    @property
    def output_stride(self) -> int:
        """Image pixels between two samples of the last map; 32 with the default pools."""
        return int(self.grid(5).stride)

    @nn.compact
    def __call__(self, image: Any, *, train: bool) -> dict[str, Any]:
        """Return {"c1": pool1, ..., "c5": pool5}.

        Args:
          image: float [n h w c].
          train: unused; all backbones have it.

        Returns:
          float [n h/s w/s c] with strides s = 2, 4, 8, 16, 32 with the default pools, where h and w
          include the padding.

        Raises:
          ValueError: not five depths, pools or rates.
        """
        for name in ("depths", "pools", "rates"):
            if len(getattr(self, name)) != 5:
                raise ValueError(f"{name} {getattr(self, name)} must be five, one for each stage")
        features = {}
        x = image
        stages = zip(self.depths, CHANNELS, self.rates, self.pools, strict=True)
        for stage, (depth, channels, rate, pool) in enumerate(stages, start=1):
            names = [f"conv{stage}_{layer}" for layer in range(1, depth + 1)]
            settings = {"channels": scaled(channels, self.width), "rate": rate, "pool": pool}
            run = functools.partial(VGG._stage, names=names, **settings)
            x = remat.block_and_stage(run, self, x)
            features[f"c{stage}"] = x
        return features

    def _stage(self, x: Any, *, names: Sequence[str], channels: int, rate: int, pool: Pool) -> Any:
        for name in names:
            padding = self.conv1_1_padding if name == "conv1_1" else "same"
            x = nn.relu(Conv(channels, rate=rate, padding=padding, name=name)(x))
        return max_pool(x, **dataclasses.asdict(pool), rounding=self.pool_rounding)

    @nn.nowrap
    def grid(self, stage: int) -> Grid:
        """Return where the samples of `c<stage>` lie in the image."""
        # The other convolutions keep their input's grid.
        grid = Grid().conv(3, padding=self.conv1_1_padding, rate=self.rates[0])
        for pool in self.pools[:stage]:
            grid = grid.conv(pool.window, stride=pool.stride, padding=pool.padding)
        return grid


def torchvision_layers(depths: tuple[int, ...]) -> dict[str, str]:
    """Return torchvision's names of the layers: {"conv1_1": "features.0", ...}."""
    names, position = {}, 0  # torchvision counts convolutions, ReLUs and pools alike
    for stage, depth in enumerate(depths, start=1):
        for layer in range(1, depth + 1):
            names[f"conv{stage}_{layer}"] = f"features.{position}"
            position += 2
        position += 1
    return names


def from_torchvision(model: VGG, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a VGG from torchvision's vgg16 (or vgg11, 13, 19, by `depths`).

    Every leaf is filled, and every tensor used except the classifier's. torchvision's pools round
    down: at sides not divisible by 32 the function is the same only with pool_rounding="floor".

    Raises:
      UserError: other weights; the layers that do not fit are listed.
    """
    layers = torchvision_layers(model.depths)
    ignore = r"classifier\.\d+\.(weight|bias)"
    return torch_state.import_state(model, state, layers.get, ignore=ignore)
