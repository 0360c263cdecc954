"""Draw label maps: as palette images, as overlays on the image, and with a legend."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seg_jax.types import IGNORE

OPACITY = 0.55
_LINE, _SWATCH, _GAP = 20, 12, 14  # of the legend: row height, colour field, gap, in pixels


def label_image(label: np.ndarray, palette: np.ndarray) -> Image.Image:
    """Return a label map in VOC's format: pixel values are class ids, colours are in the palette.

    Args:
      label: uint8 [h w].
      palette: uint8 [256 3].
    """
    image = Image.fromarray(label)
    image.putpalette(np.asarray(palette, np.uint8).tobytes())
    return image


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Return an image [h w c] of 0..255 as uint8 [h w 3]: its first three channels, or its first
    as grey where it has fewer.
    """
    if image.shape[2] == 3 and image.dtype == np.uint8:
        return image
    shown = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    return np.rint(np.clip(shown, 0, 255)).astype(np.uint8)


def overlay(image: np.ndarray, label: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Blend the colours of the classes into an image, with solid outlines.

    A class whose colour is black (VOC's background) leaves the image as it is.

    Args:
      image: uint8 [h w 3], RGB.
      label: uint8 [h w].
      palette: uint8 [256 3].

    Returns:
      uint8 [h w 3].
    """
    colour = np.asarray(palette, np.float32)[label]
    opacity = np.where(colour.any(-1), OPACITY, 0.0)
    opacity[_outlines(label) & (opacity > 0)] = 1.0
    opacity = opacity[..., None]
    return np.rint(image * (1 - opacity) + colour * opacity).astype(np.uint8)


def with_legend(
    image: np.ndarray, label: np.ndarray, palette: np.ndarray, classes: Sequence[str]
) -> Image.Image:
    """Return the image with the names and colours of the classes in `label` below it."""
    present = [value for value in np.unique(label).tolist() if value != IGNORE]
    entries: list[tuple[str, Any]] = [
        (classes[int(value)], tuple(np.asarray(palette)[value].tolist())) for value in present
    ]
    font = ImageFont.load_default(size=12)
    height, width = image.shape[:2]
    places, rows = _flow([_SWATCH + 5 + int(font.getlength(name)) for name, _ in entries], width)
    canvas = Image.new(
        "RGB",
        (max([width, *(left + size for left, _, size in places)]), height + rows * _LINE + 6),
        "white",
    )
    canvas.paste(Image.fromarray(image), (0, 0))
    draw = ImageDraw.Draw(canvas)
    for (name, colour), (left, row, _) in zip(entries, places, strict=True):
        top = height + 6 + row * _LINE
        draw.rectangle((left, top, left + _SWATCH, top + _SWATCH), fill=colour, outline="#888888")
        draw.text((left + _SWATCH + 5, top + _SWATCH), name, fill="#222222", font=font, anchor="ls")
    return canvas


def _flow(sizes: Sequence[int], width: int) -> tuple[list[tuple[int, int, int]], int]:
    """Arrange entries of the given widths in rows; return (left, row, size) of each, and the number
    of rows.
    """
    places, left, row = [], 6, 0
    for size in sizes:
        if left > 6 and left + size > width:
            left, row = 6, row + 1
        places.append((left, row, size))
        left += size + _GAP
    return places, row + 1


def _outlines(label: np.ndarray) -> np.ndarray:
    edge = np.zeros(label.shape, bool)
    edge[:-1] |= label[1:] != label[:-1]
    edge[:, :-1] |= label[:, 1:] != label[:, :-1]
    return edge
