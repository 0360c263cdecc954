"""Channel normalisation: the one that the backbone's pre-trained weights were trained with."""

import dataclasses
from typing import Any, Literal

import numpy as np

LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601, of R, G, B; sums to 1


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """`(image - mean) / std` per channel, in the channel order the backbone expects.

    Attributes:
      mean: mean of each channel, in 0..255 units, in RGB order.
      std: divisor of each channel, in 0..255 units, in RGB order.
      order: channel order of the result; Caffe models take "bgr". "grey" is one channel, the
        luma of ITU-R BT.601; readers deliver grey images as RGB, whose luma is the grey level.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    order: Literal["rgb", "bgr", "grey"] = "rgb"

    def __call__(self, image: Any) -> Any:
        """Normalise uint8 [... 3] RGB (NumPy or JAX) to float32 [... channels]."""
        per_channel = (1,) * (image.ndim - 1) + (3,)  # of equal rank: strict rank promotion
        mean, std = (
            np.array(value, np.float32).reshape(per_channel) for value in (self.mean, self.std)
        )
        normal = (image.astype(np.float32) - mean) / std
        if self.order == "grey":
            return (normal * LUMA.reshape(per_channel)).sum(axis=-1, keepdims=True)
        return normal[..., ::-1] if self.order == "bgr" else normal

    @property
    def channels(self) -> int:
        """Number of channels of the result, and so of the network's input."""
        return 1 if self.order == "grey" else 3

    @property
    def pad_value(self) -> tuple[int, int, int]:
        """The uint8 RGB value closest to the mean: what crops and canvases are padded with."""
        red, green, blue = self.mean
        return round(red), round(green), round(blue)


# The constants of each release, in RGB order.
FCN_CAFFE = Preprocessing(mean=(122.67892, 116.66877, 104.00699), order="bgr")
DEEPLAB_CAFFE = Preprocessing(mean=(122.675, 116.669, 104.008), order="bgr")
PSPNET_CAFFE = Preprocessing(mean=(123.68, 116.779, 103.939), order="bgr")
TF_MEAN = Preprocessing(mean=(123.15, 115.90, 103.06))
TF_SYMMETRIC = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
TORCH = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
RAW_BGR = Preprocessing(mean=(0.0, 0.0, 0.0), order="bgr")  # SegNet: raw 0..255, no mean
