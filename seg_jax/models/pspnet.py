"""PSPNet: pyramid pooling adds context from the whole image and its parts to every pixel.

Zhao, Shi, Qi, Wang & Jia, "Pyramid Scene Parsing Network", CVPR 2017, arXiv:1612.01105. Constants
are those of the authors' releases: hszhao/PSPNet (Caffe) and hszhao/semseg (PyTorch).
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from seg_jax.backbones import resnet
from seg_jax.backbones.choose import Backbone
from seg_jax.backbones.resnet import ResNet
from seg_jax.nn import torch_state, upsampled
from seg_jax.nn.blocks import ConvNorm
from seg_jax.nn.fcn_head import TORCH_LAYERS, FCNHead
from seg_jax.nn.input_sizes import check_sides, nearest_sides
from seg_jax.nn.norm import Norm
from seg_jax.nn.pool import adaptive_average_pool
from seg_jax.nn.resize import resize_align_corners


class PyramidPooling(nn.Module):
    """Pyramid pooling: grids of averages, projected, upsampled and concatenated (section 3.2).

    Attributes:
      bins: cells along each side of the grids.
      norm: of the projections.
    """

    bins: tuple[int, ...] = (1, 2, 3, 6)
    norm: Norm = Norm()

    @nn.compact
    def __call__(self, x: Any, *, train: bool) -> Any:
        """Return [n h w 2c] for x [n h w c]: x first, then the grids in order, c/len(bins) each.

        If a grid does not divide the map, its cells overlap by a pixel, as in PyTorch. This does
        not occur in Caffe: at the published 473 px the map is 60x60.
        """
        size, channels = x.shape[1:3], x.shape[3] // len(self.bins)
        maps = [x]
        for bins in self.bins:
            project = ConvNorm(channels, 1, norm=self.norm, name=f"bins{bins}")
            maps.append(
                resize_align_corners(project(adaptive_average_pool(x, bins), train=train), size)
            )
        return jnp.concatenate(maps, axis=-1)


class PSPNet(nn.Module):
    """A dilated ResNet with the deep stem, pyramid pooling, a 3x3 and a 1x1 convolution.

    ImageNet weights must have the deep stem, too: those of an ordinary ResNet do not fit. Batch
    norm needs 16 images per update, over all devices (synchronised).

    Attributes:
      num_classes: channels of the logits.
      aux: auxiliary head on block 3, used only in training (section 4).
      dropout: rate before the scores.
      dropped: what dropout sets to zero: single "elements" (Caffe), or whole "channels" of an image
        (semseg's Dropout2d).
      norm: of the pyramid and the heads.
      width: factor of the heads' channel counts.
      pyramid: pyramid pooling.
      backbone: ResNet; any other that gives "c4" and "c5", its samples at the pixels 0, s, 2 s, ...
    """

    num_classes: int = 21
    aux: bool = True
    dropout: float = 0.1
    dropped: Literal["elements", "channels"] = "elements"
    norm: Norm = Norm()
    width: float = 1.0
    pyramid: PyramidPooling = PyramidPooling()
    backbone: Backbone = ResNet(50, variant="semseg", stem="3x3", output_stride=8)

    @property
    def output_stride(self) -> int:
        """Pixels between two predictions before the upsampling."""
        return self.backbone.output_stride

    def legal_sizes(self, side: int) -> tuple[int, ...]:
        """Return the sides nearest to `side` whose corners get a score: 8 k + 1 (473, 713)."""
        return nearest_sides(side, step=self.output_stride, rest=1)

    @nn.compact
    def __call__(self, image: Any, *, train: bool) -> dict[str, Any]:
        """Return {"out": float32 [n h w k]}; in training also {"aux": float32 [n h w k]}.

        Scores are interpolated with aligned corners (Caffe's Interp layer): every eighth pixel is
        exactly a score.

        Args:
          image: float [n h w c].
          train: batch norms use the batch, dropout is on; needs the rng "dropout".

        Raises:
          ValueError: a side that is not 8 k + 1; names the nearest legal ones.
        """
        check_sides(image, self.legal_sizes)
        features = self.backbone(image, train=train)
        heads = {"out": (self.pyramid(features["c5"], train=train), 512)}
        if self.aux and (train or self.is_initializing()):
            heads["aux"] = (features["c4"], 256)
        outputs = {}
        for name, (x, channels) in heads.items():
            head = FCNHead(
                self.num_classes,
                channels,
                self.dropout,
                self.norm,
                self.width,
                self.dropped,
                name=f"{name}_head",
            )
            score = head(x, train=train)
            outputs[name] = upsampled.upsample(resize_align_corners, score, image.shape[1:3])
        return outputs


_SEMSEG_HEADS = {"out_head": "cls", "aux_head": "aux"}


def semseg_layer(module: str) -> str | None:
    """Return semseg's name of a layer: "backbone/conv1_2/bn" -> "layer0.4"."""
    part, _, layer = module.partition("/")
    if match := re.fullmatch(r"conv1_(\d)/(conv|bn)", layer):
        # layer0 is a Sequential of conv, norm, ReLU, conv, norm, ReLU, ...
        return f"layer0.{3 * (int(match[1]) - 1) + (match[2] == 'bn')}"
    if part == "backbone":
        return resnet.torchvision_layer(layer)
    if match := re.fullmatch(r"bins(\d+)/(conv|bn)", layer):
        # One Sequential per grid: pool, conv, norm, ReLU.
        return f"ppm.features.{(1, 2, 3, 6).index(int(match[1]))}.{1 + (match[2] == 'bn')}"
    return f"{_SEMSEG_HEADS[part]}.{TORCH_LAYERS[layer]}"


def from_semseg(model: PSPNet, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a PSPNet with an aux head from semseg's state dict.

    Raises:
      UserError: other weights; the layers that do not fit are listed.
    """
    # semseg saves the network inside its wrapper for several GPUs.
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return torch_state.import_state(model, state, semseg_layer)
