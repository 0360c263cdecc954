"""Names and constants that every part of the package shares. Imports NumPy only.

Shapes are written `dtype [n h w c]`: n images, h rows, w columns, c channels, k classes.

    Image   float32 [n h w 3]   channel-normalised by the experiment's preprocessing
    Label   int32   [n h w]     class id in [0, k), or IGNORE
    Logits  float32 [n h w k]   at the input's resolution
"""

from typing import Any, NotRequired, TypedDict

import numpy as np

IGNORE = 255  # VOC's void; no loss and no metric sees such a pixel
DATA_AXIS = "data"  # the mesh axis over which a batch is split


class Batch(TypedDict):
    """One batch as it travels to the device."""

    image: Any  # uint8 [n h w 3], RGB
    label: Any  # uint8 [n h w], class id or IGNORE
    weight: NotRequired[Any]  # float32 [n h w], per-pixel loss weight


VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip


def voc_palette() -> np.ndarray:
    """Return the VOC colour map, uint8 [256 3]: the bits of the id, dealt to r, g, b from the top.

    Entry 255 (void) is (224, 224, 192). Source: the VOC development kit's VOCcolormap.
    """
    ids = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return palette
