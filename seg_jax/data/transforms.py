"""Augmentation: random changes of a training image, with its label.

The geometric changes (scale, elastic deformation, rotation, crop, mirror) are combined into one
map from pixels of the crop to points of the image, so that every pixel is interpolated only once
(see `sampling`). Points outside the image get the mean colour and IGNORE; `Augmentation.pad` says
where an image that is smaller than the crop is placed. All randomness comes from the given
generator.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from seg_jax import plugins
from seg_jax.data import color, sampling
from seg_jax.data.config import Augmentation
from seg_jax.types import IGNORE

# (image as the data have it, [h w c], label uint8 [h w], rng) -> both, changed; sizes may differ.
Transform = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
_TRANSFORMS: plugins.Registry[Transform] = plugins.Registry("transform", {})


def register(name: str) -> Callable[[Transform], Transform]:
    """Register a transform under a name that `Augmentation.extra` may hold, as a decorator.

    It takes image uint8 [h w 3], label uint8 [h w] and a generator that all its randomness must
    come from, and returns image and label.
    """
    return _TRANSFORMS.decorator(name)


def find(name: str) -> Transform:
    """Return a registered transform; an unknown name is a UserError."""
    return _TRANSFORMS.find(name)


@dataclasses.dataclass(frozen=True)
class Change:
    """The random parameters of one augmentation.

    Attributes:
      size: (height, width) in pixels of the scaled image.
      top: first row of the crop in the scaled image.
      left: first column of the crop.
      mirror: whether the crop is mirrored.
      displacement: (rows, columns), in pixels, of a 3x3 grid over the scaled image, float64
        [2 3 3]; None: no elastic deformation.
      angle_deg: rotation of the scaled image about its centre, counter-clockwise.
      blur: whether it is blurred afterwards.
      jitter: factors of brightness, contrast and saturation; None: colours are not changed.
    """

    size: tuple[int, int]
    top: int
    left: int
    mirror: bool
    displacement: np.ndarray | None = None
    angle_deg: float = 0.0
    blur: bool = False
    jitter: tuple[float, float, float] | None = None


def draw(rng: np.random.Generator, size: tuple[int, int], config: Augmentation) -> Change:
    """Draw the parameters for an image of `size` (height, width).

    The number of random values is always the same, so that one setting does not affect the others.
    """
    scale = draw_scale(rng, config)
    height, width = (max(1, round(side * scale)) for side in size)
    place, mirror = rng.random(2), rng.random()
    top, left = (
        int(fraction * (max(0, side - crop) + 1))
        for fraction, side, crop in zip(place, (height, width), config.crop, strict=True)
    )
    # Ronneberger et al. 2015, section 3.1: vectors on a coarse 3x3 grid, Gaussian.
    displacement = rng.normal(0.0, 1.0, (2, 3, 3)) * config.elastic_px
    rotate, angle_deg = rng.random(), rng.uniform(-1, 1) * config.rotation_deg
    blur, factors = rng.random(), 1 + rng.uniform(-1, 1, 3) * config.jitter
    return Change(
        size=(height, width),
        top=top,
        left=left,
        mirror=mirror < config.flip,
        displacement=displacement if config.elastic_px else None,
        angle_deg=angle_deg if rotate < config.rotate else 0.0,
        blur=blur < config.blur,
        jitter=tuple(factors.tolist()) if any(config.jitter) else None,
    )


def draw_scale(rng: np.random.Generator, config: Augmentation) -> float:
    """Draw a scale: uniform in the range or, with a step, one of lo, lo + step, ..., hi."""
    low, high = config.scale
    if not config.scale_step:
        return float(rng.uniform(low, high))
    count = int((high - low) / config.scale_step + 1e-6) + 1  # 1e-6: 1.25 / 0.25 may be 4.999...
    return low + config.scale_step * int(rng.random() * count)


def augment(
    image: np.ndarray,
    label: np.ndarray,
    rng: np.random.Generator,
    config: Augmentation,
    *,
    pad_value: tuple[float, ...],
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return a randomly changed crop.

    Args:
      image: uint8 or float32 [h w c]; colours change only where c is 3.
      label: uint8 [h w].
      rng: source of all randomness.
      config: ranges and probabilities of the changes.
      pad_value: of points outside the image, one a channel.
      out: contiguous arrays that the result may be written to and returned as, to save a copy.

    Returns:
      Image, of its type, [*crop c], and label, uint8 [*crop].
    """
    for name in config.extra:
        image, label = find(name)(image, label, rng)
    if config.mirror_px:
        image, label = _mirror(image, label, config.mirror_px)
    change = draw(rng, label.shape, config)
    return apply(
        image, label, change, crop=config.crop, pad_value=pad_value, pad=config.pad, out=out
    )


def _mirror(image, label, mirror_px):
    """Extend the image by mirroring; the label of the added border is IGNORE."""
    sides = (mirror_px, mirror_px)
    image = np.pad(image, (sides, sides, (0, 0)), mode="reflect")
    return image, np.pad(label, (sides, sides), constant_values=IGNORE)


def apply(
    image: np.ndarray,
    label: np.ndarray,
    change: Change,
    *,
    crop: tuple[int, int],
    pad_value: tuple[float, ...],
    pad: Literal["end", "end_after_flip", "centre"] = "end",
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Apply a drawn change: [h w c] and uint8 [h w] to [*crop c] and uint8 [*crop].

    Order: colours, geometry, blur; then padding and mirror image, as `Augmentation.pad` says. The
    blur also uses pixels just outside the crop. `out` as of `augment`.
    """
    if change.jitter is not None and image.shape[2] == 3:
        image = color.jitter(image, *change.jitter)
    warped = change.displacement is not None or change.angle_deg
    if not (warped or change.blur or pad == "centre") and sampling.kernels(image, label):
        mirrored_padding = change.mirror and pad == "end"
        return _in_one_pass(image, label, change, crop, pad_value, mirrored_padding, out)
    margin = color.BLUR_PX if change.blur else 0
    # The part of the scaled image inside the crop, and a margin for the blur.
    ends = [
        min(first + length, side)
        for first, length, side in zip((change.top, change.left), crop, change.size, strict=True)
    ]
    starts = [max(0, first - margin) for first in (change.top, change.left)]
    rows, columns = (
        np.arange(start, min(end + margin, side))
        for start, end, side in zip(starts, ends, change.size, strict=True)
    )
    image, label = _render(image, label, change, rows, columns, pad_value)
    if change.blur:
        image = color.blur(image)
    window = np.s_[
        change.top - starts[0] : ends[0] - starts[0], change.left - starts[1] : ends[1] - starts[1]
    ]
    image, label = image[window], label[window]
    # A uniformly placed crop of the mirror image is the mirror image of one: only the padding
    # depends on which is first.
    if change.mirror and pad != "end":
        image, label = image[:, ::-1], label[:, ::-1]
    image, label = _pad(image, label, crop, pad_value, centre=pad == "centre")
    if change.mirror and pad == "end":
        image, label = image[:, ::-1], label[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(label)


def _in_one_pass(image, label, change, crop, pad_value, mirrored_padding, out):
    """Scale, crop, mirror and pad as `apply`'s other steps do, by sampling only what is kept."""
    rows, columns = (
        (np.arange(start, min(start + length, side)) + 0.5) * (old / side)
        for start, length, side, old in zip(
            (change.top, change.left), crop, change.size, label.shape, strict=True
        )
    )
    first = crop[1] - len(columns) if mirrored_padding else 0
    columns = columns[::-1] if change.mirror else columns
    return sampling.sample_crop(
        image, label, rows, columns, crop=crop, first=first, pad_value=pad_value, out=out
    )


def _render(image, label, change, rows, columns, pad_value):
    """Return the given rows and columns of the scaled, deformed and rotated image."""
    if change.displacement is not None or change.angle_deg:
        return _warp(image, label, change, rows, columns, pad_value)
    if change.size == label.shape:  # exact copies of pixels
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return image[window], label[window]
    points = [
        (pixels + 0.5) * (old / new)
        for pixels, old, new in zip((rows, columns), label.shape, change.size, strict=True)
    ]
    nearest = np.ix_(*(point.astype(np.intp) for point in points))
    return sampling.sample_bilinear(image, *points), label[nearest]


def _warp(image, label, change, rows, columns, pad_value):
    """Deform and rotate: each pixel is sampled at its own point of the image."""
    axes = [rows + 0.5, columns + 0.5]
    y, x = np.meshgrid(*axes, indexing="ij")
    if change.displacement is not None:
        shift = sampling.displacement_field(change.displacement, axes, change.size)
        y, x = y + shift[0], x + shift[1]
    if change.angle_deg:
        sine, cosine = (f(math.radians(change.angle_deg)) for f in (math.sin, math.cos))
        down, right = y - change.size[0] / 2, x - change.size[1] / 2
        y = change.size[0] / 2 + cosine * down + sine * right
        x = change.size[1] / 2 + cosine * right - sine * down
    y, x = (p * (old / new) for p, old, new in zip((y, x), label.shape, change.size, strict=True))
    outside = (y < 0) | (y >= label.shape[0]) | (x < 0) | (x >= label.shape[1])
    warped, warped_label = sampling.sample_at(image, label, y, x)
    warped[outside] = np.array(pad_value, image.dtype)
    warped_label[outside] = IGNORE
    return warped, warped_label


def _pad(image, label, crop, pad_value, *, centre):
    """Pad at the bottom and right, or on all sides."""
    height, width = label.shape
    if (height, width) == crop:
        return image, label
    top, left = ((crop[0] - height) // 2, (crop[1] - width) // 2) if centre else (0, 0)
    inside = np.s_[top : top + height, left : left + width]
    padded = np.empty((*crop, image.shape[2]), image.dtype)
    padded[...] = np.array(pad_value, image.dtype)
    padded[inside] = image
    padded_label = np.full(crop, IGNORE, np.uint8)
    padded_label[inside] = label
    return padded, padded_label
