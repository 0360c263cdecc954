"""Channel normalisation: the one that the backbone's pre-trained weights were trained with."""

import dataclasses
import math
from typing import Any, Literal

import numpy as np

from seg_jax import checks

MOST_CHANNELS = 1024  # hyperspectral cameras have some hundreds
LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601, of R, G, B; sums to 1


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """`(image - mean) / std` per channel, in the channel order the backbone expects.

    Attributes:
      mean: mean of each channel, in 0..255 units, in RGB order.
      std: divisor of each channel, in 0..255 units, in RGB order.
      order: channel order of the result; Caffe models take "bgr". "grey" is one channel, the
        luma of ITU-R BT.601; readers deliver grey images as RGB, whose luma is the grey level.
      channels: of the images; 3: RGB, and grey images become RGB. Any other number is what every
        image must have, in the order of the file.
      range: (lowest, highest) stored value, which become 0 and 255; values between keep their
        precision as float32, values beyond are clipped. None: 8 bits a channel, as stored, and
        images of more bits are refused.
      padding: what crops and canvases are padded with: the "mean", or "black", the value 0, as
        torchvision's reference training does.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    order: Literal["rgb", "bgr", "grey"] = "rgb"
    channels: int = 3
    range: tuple[float, float] | None = None
    padding: Literal["mean", "black"] = "mean"

    def __post_init__(self):
        checks.positive(channels=self.channels)
        checks.at_most(MOST_CHANNELS, channels=self.channels)
        if self.channels != 3 and self.order != "rgb":
            raise ValueError(
                f'preprocessing.order is {self.order!r} for {self.channels} channels: only "rgb", '
                "which keeps their order, fits other than 3"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise ValueError(
                    f"preprocessing.{name} has {len(values)} entries, the images have "
                    f"{self.channels} channels: give one a channel, as `data stats ROOT --channels "
                    f"{self.channels}` measures them"
                )
            if not all(map(math.isfinite, values)):
                raise ValueError(f"preprocessing.{name} has {values}: its entries are finite")
        checks.positive(smallest_of_std=min(self.std))
        if self.range and not -math.inf < self.range[0] < self.range[1] < math.inf:
            raise ValueError(f"preprocessing.range is {self.range}: give the lowest value first")

    def __call__(self, image: Any) -> Any:
        """Normalise uint8 or float32 [... channels] (NumPy or JAX) to float32 [... inputs]."""
        # Of equal rank: strict rank promotion.
        per_channel = (1,) * (image.ndim - 1) + (self.channels,)
        mean, std = (
            np.array(value, np.float32).reshape(per_channel) for value in (self.mean, self.std)
        )
        normal = (image.astype(np.float32) - mean) / std
        if self.order == "grey":
            return (normal * LUMA.reshape(per_channel)).sum(axis=-1, keepdims=True)
        return normal[..., ::-1] if self.order == "bgr" else normal

    @property
    def inputs(self) -> int:
        """Number of channels of the result, and so of the network's input."""
        return 1 if self.order == "grey" else self.channels

    @property
    def dtype(self) -> np.dtype:
        """Type of the images before they are normalised."""
        return np.dtype(np.uint8 if self.range is None else np.float32)

    @property
    def is_plain(self) -> bool:
        """Whether the images are RGB of 8 bits."""
        return self.channels == 3 and self.range is None

    @property
    def pad_value(self) -> tuple[float, ...]:
        """What crops and canvases are padded with: the mean, or the whole numbers of 8 bits that
        are closest to it; with `padding` "black" 0.
        """
        if self.padding == "black":
            return (0.0,) * self.channels
        if self.range is not None:
            return self.mean
        return tuple(min(max(round(value), 0), 255) for value in self.mean)


# The constants of each release, in RGB order.
FCN_CAFFE = Preprocessing(mean=(122.67892, 116.66877, 104.00699), order="bgr")
DEEPLAB_CAFFE = Preprocessing(mean=(122.675, 116.669, 104.008), order="bgr")
PSPNET_CAFFE = Preprocessing(mean=(123.68, 116.779, 103.939), order="bgr")
TF_MEAN = Preprocessing(mean=(123.15, 115.90, 103.06))
TF_SYMMETRIC = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
TORCH = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
RAW_BGR = Preprocessing(mean=(0.0, 0.0, 0.0), order="bgr")  # SegNet: raw 0..255, no mean
