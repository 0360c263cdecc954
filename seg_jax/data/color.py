"""Changes of an image's colours: the label does not see them."""

import numpy as np
from scipy import ndimage

from seg_jax.data.preprocessing import LUMA

BLUR_PX = 2  # how far the blur looks
_SIGMA_PX = 1.1  # what OpenCV takes for 5x5 pixels: 0.3 ((5 - 1) / 2 - 1) + 0.8
_WEIGHTS = np.exp(-(np.arange(-BLUR_PX, BLUR_PX + 1) ** 2) / (2 * _SIGMA_PX**2))
_WEIGHTS = (_WEIGHTS / _WEIGHTS.sum()).astype(np.float32)


def blur(image: np.ndarray) -> np.ndarray:
    """Return the image, uint8 [h w 3], after a Gaussian of 5x5 px, mirrored at its borders.

    PSPNet's, as its first author's later release (semseg) has it.
    """
    blurred = image.astype(np.float32)
    for axis in (0, 1):
        blurred = ndimage.correlate1d(blurred, _WEIGHTS, axis, mode="mirror")
    return (blurred + np.float32(0.5)).astype(np.uint8)


def jitter(image: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Return the image, uint8 [h w 3], with its brightness, contrast and saturation multiplied.

    In this order, each clipped to 0..255 and rounded once at the end, as torchvision's: brightness
    is a factor; contrast blends with the mean of the image's grey, saturation with every pixel's
    own (ITU-R BT.601).
    """
    changed = np.clip(image * np.float32(brightness), 0, 255)
    mean = np.float32((changed @ LUMA).mean())
    changed = np.clip(mean + (changed - mean) * np.float32(contrast), 0, 255)
    grey = (changed @ LUMA)[..., None]
    changed = np.clip(grey + (changed - grey) * np.float32(saturation), 0, 255)
    return (changed + np.float32(0.5)).astype(np.uint8)
