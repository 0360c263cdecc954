"""Colour augmentation: blur and colour jitter of an image, which leave the label as it is."""

import numpy as np
from scipy import ndimage

from seg_jax.data.preprocessing import LUMA

BLUR_PX = 2  # radius of the blur's window
_SIGMA_PX = 1.1  # OpenCV's default for 5x5 pixels: 0.3 ((5 - 1) / 2 - 1) + 0.8
_WEIGHTS = np.exp(-(np.arange(-BLUR_PX, BLUR_PX + 1) ** 2) / (2 * _SIGMA_PX**2))
_WEIGHTS = (_WEIGHTS / _WEIGHTS.sum()).astype(np.float32)


def blur(image: np.ndarray) -> np.ndarray:
    """Return the image, [h w c] of 0..255, after a Gaussian of 5x5 px, mirrored at its borders.

    PSPNet's blur, as in its first author's later release (semseg).
    """
    blurred = image.astype(np.float32)
    for axis in (0, 1):
        blurred = ndimage.correlate1d(blurred, _WEIGHTS, axis, mode="mirror")
    return _as_before(blurred, image.dtype)


def jitter(image: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Return the image, [h w 3] of 0..255, with its brightness, contrast and saturation multiplied.

    As in torchvision, in this order: brightness multiplies; contrast blends with the mean grey
    level of the image; saturation blends with each pixel's grey level (ITU-R BT.601). Values are
    clipped to 0..255 after each and rounded once at the end.
    """
    changed = np.clip(image * np.float32(brightness), 0, 255)
    mean = np.float32((changed @ LUMA).mean())
    changed = np.clip(mean + (changed - mean) * np.float32(contrast), 0, 255)
    grey = (changed @ LUMA)[..., None]
    changed = np.clip(grey + (changed - grey) * np.float32(saturation), 0, 255)
    return _as_before(changed, image.dtype)


def _as_before(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return (values + np.float32(0.5)).astype(dtype) if dtype == np.uint8 else values.astype(dtype)
