"""VGG: stages of 3x3 convolutions, each closed by a 2x2 pool.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
ICLR 2015, arXiv:1409.1556; Table 1. The backbone of FCN, SegNet and DeepLab v1/v2.
"""

from typing import Any, Literal

from flax import linen as nn

from seg_jax.nn.conv import Conv
from seg_jax.nn.grid import Grid
from seg_jax.nn.pool import max_pool
from seg_jax.nn.width import scaled

CHANNELS = (64, 128, 256, 512, 512)  # of the five stages


class VGG(nn.Module):
    """The convolutional part of VGG-16 (configuration D), up to and with pool5.

    The classifier's fc6 and fc7 belong to the models: each paper turns them into convolutions in
    its own way.

    Attributes:
      width: factor of every channel count.
      depths: convolutions in each of the five stages; the default is VGG-16.
      conv1_1_padding: zeros that conv1_1 sees around the image; FCN's release has 100.
      pool_rounding: of pooled sizes; "ceil" is Caffe's, which the published weights were trained
        with.
    """

    width: float = 1.0
    depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    conv1_1_padding: int = 1
    pool_rounding: Literal["ceil", "floor"] = "ceil"

    @nn.compact
    def __call__(self, image: Any, *, train: bool) -> dict[str, Any]:
        """Return {"c1": pool1, ..., "c5": pool5}.

        Args:
          image: float [n h w c].
          train: part of the contract of backbones; VGG acts the same in training.

        Returns:
          float [n h/s w/s c] of strides s = 2, 4, 8, 16, 32, where h and w count the padding.
        """
        features = {}
        x = image
        for stage, (depth, channels) in enumerate(zip(self.depths, CHANNELS, strict=True), start=1):
            for layer in range(1, depth + 1):
                padding = self.conv1_1_padding if (stage, layer) == (1, 1) else 1
                name = f"conv{stage}_{layer}"
                x = nn.relu(Conv(scaled(channels, self.width), padding=padding, name=name)(x))
            x = max_pool(x, window=2, stride=2, rounding=self.pool_rounding)
            features[f"c{stage}"] = x
        return features

    @nn.nowrap
    def grid(self, stage: int) -> Grid:
        """Return where the samples of `c<stage>` lie in the image."""
        grid = Grid().conv(3, padding=self.conv1_1_padding)  # the others keep their input's grid
        for _ in range(stage):
            grid = grid.conv(2, stride=2)
        return grid
