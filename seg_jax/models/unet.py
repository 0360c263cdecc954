"""U-Net: a contracting path for context, and an expanding path with skip connections for detail.

Ronneberger, Fischer & Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015, arXiv:1505.04597. Layer names are those of the authors' release of 2 October 2015.
"""

import math
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from seg_jax import checks
from seg_jax.nn.conv import Conv, TransposedConv
from seg_jax.nn.input_sizes import check_sides, nearest_sides
from seg_jax.nn.norm import BatchNorm, Norm
from seg_jax.nn.pool import max_pool
from seg_jax.nn.width_multiplier import scaled


class UNet(nn.Module):
    """U-Net, as published or with padded convolutions.

    Paper and release differ in places; here:
      * dropout after the second convolution of the two deepest levels, before pool and skip, and
        a ReLU after each up-convolution, as in the release (the paper's figure shows neither);
      * the last up-convolution halves its channels, as in the paper (the release keeps 128);
      * upsampled channels before skipped ones in each concatenation, as in the release.

    Attributes:
      num_classes: channels of the logits.
      depth: number of poolings, each of which doubles the channels; 4 as published.
      width: factor of every channel count (64, 128, ..., 1024 at 1).
      padding: "valid", as published: the logits lack `margin` pixels on every side; or "same":
        any size in, the same size out.
      norm: batch normalisation before each ReLU; None, as published.
      dropout: rate at the two deepest levels.
    """

    num_classes: int = 2
    depth: int = 4
    width: float = 1.0
    padding: Literal["valid", "same"] = "valid"
    norm: Norm | None = None
    dropout: float = 0.5

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
        skips = []
        x = image
        for level in range(self.depth + 1):
            if level:
                skips.append(x)
                x = max_pool(x, window=2, stride=2, rounding="ceil")
            x = self._conv(x, level, f"d{level}a-b", train=train)
            x = self._conv(x, level, f"d{level}b-c", train=train)
            if level >= self.depth - 1:
                x = nn.Dropout(self.dropout, name=f"dropout_d{level}c")(x, deterministic=not train)
        below = f"d{self.depth}c"
        for level in reversed(range(self.depth)):
            x = self._upconv(x, level, f"upconv_{below}_u{level}a", train=train)
            x = jnp.concatenate(_crop_to_common(x, skips[level]), axis=-1)
            x = self._conv(x, level, f"u{level}b-c", train=train)
            x = self._conv(x, level, f"u{level}c-d", train=train)
            below = f"u{level}d"
        init = _he_normal(x.shape[-1])
        out = Conv(self.num_classes, 1, kernel_init=init, name="conv_u0d-score")(x)
        return {"out": out.astype(jnp.float32)}

    def _channels(self, level: int) -> int:
        return scaled(64 * 2**level, self.width)

    def _conv(self, x: Any, level: int, name: str, *, train: bool) -> Any:
        x = Conv(
            self._channels(level),
            padding="same" if self.padding == "same" else 0,
            use_bias=self.norm is None,
            kernel_init=_he_normal(9 * x.shape[-1]),
            name=f"conv_{name}",
        )(x)
        return self._norm_relu(x, f"norm_{name}", train=train)

    def _upconv(self, x: Any, level: int, name: str, *, train: bool) -> Any:
        x = TransposedConv(
            self._channels(level),
            kernel_size=2,
            stride=2,
            use_bias=self.norm is None,
            kernel_init=_he_normal(x.shape[-1]),  # stride 2: one pixel reaches each output
            name=name,
        )(x)
        return self._norm_relu(x, name.replace("upconv", "norm"), train=train)

    def _norm_relu(self, x: Any, name: str, *, train: bool) -> Any:
        if self.norm is not None:
            x = BatchNorm(self.norm, name=name)(x, train=train)
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
