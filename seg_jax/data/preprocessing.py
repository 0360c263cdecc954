"""Channel normalisation by backbone: what was done to the pixels the weights were trained on."""

import dataclasses
from typing import Any, Literal

import numpy as np


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """`(image - mean) / std` per channel, in the channel order the backbone expects.

    Attributes:
      mean: mean of each channel, in 0..255 units, in RGB order.
      std: divisor of each channel, in 0..255 units, in RGB order.
      order: channel order of the result; Caffe models take "bgr".
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    order: Literal["rgb", "bgr"] = "rgb"

    def __call__(self, image: Any) -> Any:
        """Normalise uint8 [... 3] RGB (NumPy or JAX) to float32 [... 3]."""
        flip = slice(None, None, -1) if self.order == "bgr" else slice(None)
        per_channel = (1,) * (image.ndim - 1) + (3,)  # the image's rank: strict JAX asks for it
        mean, std = (np.float32(value).reshape(per_channel) for value in (self.mean, self.std))
        return ((image.astype(np.float32) - mean) / std)[..., flip]

    @property
    def pad_value(self) -> tuple[int, int, int]:
        """The uint8 RGB value closest to the mean: what crops and canvases are padded with."""
        return tuple(round(value) for value in self.mean)


# recipes.md 1.4: each release's constants, given here in RGB.
FCN_CAFFE = Preprocessing(mean=(122.67892, 116.66877, 104.00699), order="bgr")
DEEPLAB_CAFFE = Preprocessing(mean=(122.675, 116.669, 104.008), order="bgr")
PSPNET_CAFFE = Preprocessing(mean=(123.68, 116.779, 103.939), order="bgr")
TF_MEAN = Preprocessing(mean=(123.15, 115.90, 103.06))
TF_SYMMETRIC = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
TORCH = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
RAW_BGR = Preprocessing(mean=(0.0, 0.0, 0.0), order="bgr")  # SegNet: raw 0..255, no mean
