"""U-Net: a contracting path for context, and an expanding path with skip connections for detail.

Ronneberger, Fischer & Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015, arXiv:1505.04597. Layer names are those of the authors' release of 2 October 2015.
"""

import math
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from seg_jax import checks
from seg_jax.backbones import choose
from seg_jax.backbones.choose import Backbone
from seg_jax.backbones.mobilenet_v2 import MobileNetV2
from seg_jax.nn import norm as norms
from seg_jax.nn.conv import Conv, TransposedConv
from seg_jax.nn.input_sizes import check_sides, nearest_sides
from seg_jax.nn.norm import Norm
from seg_jax.nn.pool import max_pool
from seg_jax.nn.width_multiplier import scaled


class UNet(nn.Module):
    """U-Net, as published or with padded convolutions; its decoder also on another backbone.

    Paper and release differ in places; here:
      * dropout after the second convolution of the two deepest levels, before pool and skip, and
        a ReLU after each up-convolution, as in the release (the paper's figure shows neither);
      * the last up-convolution halves its channels, as in the paper (the release keeps 128);
      * upsampled channels before skipped ones in each concatenation, as in the release.

    On a backbone (not in the paper) the decoder starts from "c5", at stride 32: five times an
    up-convolution, concatenated with "c4", ..., "c1" and at full size with nothing, and two 3x3
    convolutions.

    Attributes:
      num_classes: channels of the logits.
      depth: number of poolings, each of which doubles the channels; 4 as published.
      width: factor of every channel count (64, 128, ..., 1024 at 1).
      padding: "valid", as published: the logits lack `margin` pixels on every side; or "same":
        any size in, the same size out.
      norm: batch normalisation before each ReLU; None, as published.
      dropout: rate at the two deepest levels; on a backbone, of its last map.
      backbone: None: the contracting path as published. Else one of output stride 32, with padding
        "same"; `depth` does not matter then.
      decoder_channels: on a backbone, of the decoder at strides 16, 8, 4, 2 and 1.
    """

    num_classes: int = 2
    depth: int = 4
    width: float = 1.0
    padding: Literal["valid", "same"] = "valid"
    norm: Norm | None = None
    dropout: float = 0.5
    backbone: Backbone | None = None
    decoder_channels: tuple[int, int, int, int, int] = (256, 128, 64, 32, 16)

    @nn.nowrap
    def with_backbone(self, name: str) -> "UNet":
        """Return the decoder on a backbone, see `backbones.choose`: padded, and with norms."""
        current = MobileNetV2(output_stride=32) if self.backbone is None else self.backbone
        backbone = choose.in_place_of(current, name, output_stride=32, pools="2x2")
        norm = Norm() if self.norm is None else self.norm
        return self.clone(backbone=backbone, padding="same", norm=norm)

    @property
    def output_stride(self) -> int:
        """Pixels between two predictions."""
        return 1

    @property
    def margin(self) -> int:
        """Pixels by which the logits are smaller than the image, on every side; 92 as published."""
        if self.padding == "same":
            return 0
        # Each 3x3 convolution loses one pixel: two at each level on the way down, two at each on
        # the way up except the deepest, and a pixel of level i is 2^i pixels of the image.
        down = sum(2 * 2**level for level in range(self.depth + 1))
        up = sum(2 * 2**level for level in range(self.depth))
        return down + up

    def legal_sizes(self, side: int) -> tuple[int, ...]:
        """Return the sides nearest to `side` that a valid U-Net accepts: 16 b + 124, b >= 4.

        At these sizes every map that is pooled has an even side. Returns the next smaller, if there
        is one, and the next larger; only `side` if it is legal.
        """
        if self.padding == "same":
            return (side,)
        step = 2**self.depth
        # 188 px: the deepest map is 4 wide; with a smaller one the last maps would be empty.
        return nearest_sides(side, step=step, rest=12 * step - 4)

    @nn.compact
    def __call__(self, image: Any, *, train: bool) -> dict[str, Any]:
        """Return {"out": float32 [n h-2m w-2m k]} with m = `margin`.

        Args:
          image: float [n h w c].
          train: dropout is on; needs the rng "dropout".

        Raises:
          ValueError: a side that valid convolutions do not accept; names the nearest legal ones.
        """
        checks.positive(depth=self.depth)
        checks.one_of(("valid", "same"), padding=self.padding)
        check_sides(image, self.legal_sizes)
        if self.backbone is not None:
            x = self._decode(self.backbone, image, train=train)
        else:
            x = self._contract_and_expand(image, train=train)
        init = _he_normal(x.shape[-1])
        out = Conv(self.num_classes, 1, kernel_init=init, name="conv_u0d-score")(x)
        return {"out": out.astype(jnp.float32)}

    def _contract_and_expand(self, image: Any, *, train: bool) -> Any:
        skips = []
        x = image
        for level in range(self.depth + 1):
            if level:
                skips.append(x)
                x = max_pool(x, window=2, stride=2, rounding="ceil")
            channels = self._channels(level)
            x = self._conv(x, channels, f"d{level}a-b", train=train)
            x = self._conv(x, channels, f"d{level}b-c", train=train)
            if level >= self.depth - 1:
                x = nn.Dropout(self.dropout, name=f"dropout_d{level}c")(x, deterministic=not train)
        below = f"d{self.depth}c"
        for level in reversed(range(self.depth)):
            x = self._expand(
                x, self._channels(level), skips[level], f"{below}_u{level}a", train=train
            )
            below = f"u{level}d"
        return x

    def _decode(self, backbone: Backbone, image: Any, *, train: bool) -> Any:
        """Expand the maps of a backbone up to [n h w decoder_channels[-1]]."""
        strides = [int(backbone.grid(stage).stride) for stage in range(1, 6)]
        if self.padding != "same" or strides != [2, 4, 8, 16, 32]:
            raise ValueError(
                "a backbone needs padding 'same' and maps of strides 2, 4, 8, 16 and 32, of which "
                "ResNet's variant 'slim' has not all: "
                f"padding {self.padding!r}, strides {strides}"
            )
        features = backbone(image, train=train)
        x = nn.Dropout(self.dropout, name="dropout_c5")(features["c5"], deterministic=not train)
        below = "c5"
        for level, channels in zip((4, 3, 2, 1, 0), self.decoder_channels, strict=True):
            skip = features.get(f"c{level}")
            channels = scaled(channels, self.width)
            x = self._expand(x, channels, skip, f"{below}_u{level}a", train=train)
            if skip is None:  # at full size; an odd side is one less than twice c1's
                x = x[:, : image.shape[1], : image.shape[2]]
            below = f"u{level}d"
        return x

    def _expand(self, x: Any, channels: int, skip: Any, name: str, *, train: bool) -> Any:
        """Up-convolve x, concatenate it with `skip` if there is one, and convolve twice."""
        x = self._upconv(x, channels, f"upconv_{name}", train=train)
        if skip is not None:
            x = jnp.concatenate(_crop_to_common(x, skip), axis=-1)
        level = name[-3:-1]  # "u3"
        x = self._conv(x, channels, f"{level}b-c", train=train)
        return self._conv(x, channels, f"{level}c-d", train=train)

    def _channels(self, level: int) -> int:
        return scaled(64 * 2**level, self.width)

    def _conv(self, x: Any, channels: int, name: str, *, train: bool) -> Any:
        x = Conv(
            channels,
            padding="same" if self.padding == "same" else 0,
            use_bias=self.norm is None,
            kernel_init=_he_normal(9 * x.shape[-1]),
            name=f"conv_{name}",
        )(x)
        return self._norm_relu(x, f"norm_{name}", train=train)

    def _upconv(self, x: Any, channels: int, name: str, *, train: bool) -> Any:
        x = TransposedConv(
            channels,
            kernel_size=2,
            stride=2,
            use_bias=self.norm is None,
            kernel_init=_he_normal(x.shape[-1]),  # stride 2: one pixel reaches each output
            name=name,
        )(x)
        return self._norm_relu(x, name.replace("upconv", "norm"), train=train)

    def _norm_relu(self, x: Any, name: str, *, train: bool) -> Any:
        if self.norm is not None:
            x = norms.layer(self.norm, name=name)(x, train=train)
        return nn.relu(x)


def _he_normal(incoming: int) -> nn.initializers.Initializer:
    """Section 3: standard deviation sqrt(2 / N), N the number of incoming nodes of one neuron."""
    return nn.initializers.normal(math.sqrt(2 / incoming))


def _crop_to_common(upsampled: Any, skip: Any) -> tuple[Any, Any]:
    """Crop both to the smaller height and width.

    Valid: the skip is larger, by equally many pixels on both sides. Same: the pool of an odd side
    rounds up, so that the upsampled map has one more pixel than the skip at its end.
    """
    height = min(upsampled.shape[1], skip.shape[1])
    width = min(upsampled.shape[2], skip.shape[2])
    top, left = (skip.shape[1] - height) // 2, (skip.shape[2] - width) // 2
    return (
        upsampled[:, :height, :width],
        skip[:, top : top + height, left : left + width],
    )
