"""FCN head: the classifier of the dilated networks, also used as their auxiliary head."""

from typing import Any, Literal

from flax import linen as nn

from seg_jax import checks
from seg_jax.nn.blocks import ConvNorm
from seg_jax.nn.conv import Conv
from seg_jax.nn.norm import Norm
from seg_jax.nn.width_multiplier import scaled

# Our layer -> index in torchvision's and semseg's Sequential: conv, norm, ReLU, dropout, conv.
TORCH_LAYERS = {"conv/conv": "0", "conv/bn": "1", "score": "4"}


class FCNHead(nn.Module):
    """3x3 convolution, norm and ReLU ("conv"); dropout; 1x1 convolution to the scores ("score").

    Attributes:
      num_classes: channels of the scores.
      channels: between the two convolutions.
      dropout: rate.
      dropped: what dropout sets to zero: single "elements", or whole "channels" of an image.
      norm: settings of the batch norm after the 3x3 convolution.
      width: factor on `channels`.
    """

    num_classes: int
    channels: int
    dropout: float = 0.1
    norm: Norm = Norm()
    width: float = 1.0
    dropped: Literal["elements", "channels"] = "elements"

    @nn.compact
    def __call__(self, x: Any, *, train: bool) -> Any:
        """Return scores [n h w k] for x [n h w c]; `train` needs the rng "dropout"."""
        channels = scaled(self.channels, self.width)
        x = ConvNorm(channels, 3, norm=self.norm, name="conv")(x, train=train)
        checks.one_of(("elements", "channels"), dropped=self.dropped)
        shared = (1, 2) if self.dropped == "channels" else ()  # one draw for all of h and w
        x = nn.Dropout(self.dropout, shared, name="dropout")(x, deterministic=not train)
        return Conv(self.num_classes, 1, name="score")(x)
