"""FCN on a dilated ResNet: torchvision's fcn_resnet50 and fcn_resnet101.

Long, Shelhamer & Darrell's idea (CVPR 2015, arXiv:1411.4038) on a backbone of output stride 8, as
in DeepLab: not from a paper, but a common baseline. Constants and weights are torchvision's
(references/segmentation).
"""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from seg_jax.backbones import resnet
from seg_jax.backbones.choose import Backbone
from seg_jax.backbones.resnet import ResNet
from seg_jax.nn import torch_state, upsampled
from seg_jax.nn.fcn_head import TORCH_LAYERS, FCNHead
from seg_jax.nn.norm import Norm
from seg_jax.nn.resize import resize_half_pixel


class FCNResNet(nn.Module):
    """A ResNet of output stride 8, a 3x3 and a 1x1 convolution, upsampled to the image.

    Attributes:
      num_classes: channels of the logits.
      aux: auxiliary head on block 3, used only in training.
      dropout: rate before the scores.
      norm: of the heads.
      width: factor of the heads' channel counts.
      backbone: ResNet; any other that gives "c4" and "c5".
    """

    num_classes: int = 21
    aux: bool = True
    dropout: float = 0.1
    norm: Norm = Norm()
    width: float = 1.0
    backbone: Backbone = ResNet(50, output_stride=8)

    @property
    def output_stride(self) -> int:
        """Pixels between two predictions before the upsampling."""
        return self.backbone.output_stride

    @nn.compact
    def __call__(self, image: Any, *, train: bool) -> dict[str, Any]:
        """Return {"out": float32 [n h w k]}; in training also {"aux": float32 [n h w k]}.

        Args:
          image: float [n h w c] of any size.
          train: batch norms use the batch, dropout is on; needs the rng "dropout".
        """
        features = self.backbone(image, train=train)
        heads = {"out": ("c5", 512), "aux": ("c4", 256)}
        if not (self.aux and (train or self.is_initializing())):
            del heads["aux"]
        outputs = {}
        for name, (feature, channels) in heads.items():
            head = FCNHead(
                self.num_classes, channels, self.dropout, self.norm, self.width, name=f"{name}_head"
            )
            score = head(features[feature], train=train)
            outputs[name] = upsampled.upsample(resize_half_pixel, score, image.shape[1:3])
        return outputs


_TORCHVISION_HEADS = {"out_head": "classifier", "aux_head": "aux_classifier"}


def torchvision_layer(module: str) -> str | None:
    """Return torchvision's name of a layer: "out_head/conv/bn" -> "classifier.1"."""
    part, _, layer = module.partition("/")
    if part == "backbone":
        known = resnet.torchvision_layer(layer)
        return known and f"backbone.{known}"
    return f"{_TORCHVISION_HEADS[part]}.{TORCH_LAYERS[layer]}"


def from_torchvision(model: FCNResNet, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of an FCNResNet from torchvision's fcn_resnet50 or fcn_resnet101.

    Raises:
      UserError: other weights; the layers that do not fit are listed.
    """
    return torch_state.import_state(model, state, torchvision_layer)
