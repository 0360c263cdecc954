"""Random changes of a training picture; image and label always move together.

The whole change (scale, elastic deformation, crop, mirror) is one map from pixels of the crop to
points of the picture, so that every pixel is interpolated once. Convention: half-pixel centres,
no antialiasing (as cv2.resize and align_corners=False); the image is sampled bilinearly, the
label at the nearest pixel, for bilinear would invent classes. Points outside the picture get
the mean colour and IGNORE; a picture smaller than the crop lies at its top left.
"""

import dataclasses

import numpy as np
from scipy import ndimage

from seg_jax.data.config import Augmentation
from seg_jax.types import IGNORE


@dataclasses.dataclass(frozen=True)
class Change:
    """One drawn change.

    Attributes:
      size: (height, width) in pixels of the scaled picture.
      top: first row of the crop in the scaled picture.
      left: first column of the crop.
      mirror: whether the crop is mirrored.
      displacement: (rows, columns), in pixels, of a 3x3 grid over the scaled picture, float64
        [2 3 3]; None: no elastic deformation.
    """

    size: tuple[int, int]
    top: int
    left: int
    mirror: bool
    displacement: np.ndarray | None = None


def draw(rng: np.random.Generator, size: tuple[int, int], config: Augmentation) -> Change:
    """Draw a change for a picture of `size` (height, width).

    Always draws the same number of values, so that one setting does not shift the others.
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
    return Change(
        size=(height, width),
        top=top,
        left=left,
        mirror=mirror < config.flip,
        displacement=displacement if config.elastic_px else None,
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
    pad_value: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Return a randomly changed crop.

    Args:
      image: uint8 [h w 3].
      label: uint8 [h w].
      rng: source of all randomness.
      config: what may change.
      pad_value: RGB of points outside the picture.

    Returns:
      Image, uint8 [*crop 3], and label, uint8 [*crop].
    """
    if config.mirror_px:
        image, label = _mirror(image, label, config.mirror_px)
    change = draw(rng, label.shape, config)
    return apply(image, label, change, crop=config.crop, pad_value=pad_value)


def _mirror(image, label, mirror_px):
    """Continue the picture by mirroring; nothing is learnt from what was made up."""
    sides = (mirror_px, mirror_px)
    image = np.pad(image, (sides, sides, (0, 0)), mode="reflect")
    return image, np.pad(label, (sides, sides), constant_values=IGNORE)


def apply(
    image: np.ndarray,
    label: np.ndarray,
    change: Change,
    *,
    crop: tuple[int, int],
    pad_value: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Apply a drawn change: uint8 [h w 3] and [h w] to uint8 [*crop 3] and [*crop]."""
    if change.displacement is not None:
        image, label = _warp(image, label, change, crop, pad_value)
    elif change.size == label.shape:
        image, label = _cut(image, label, change, crop, pad_value)
    else:
        image, label = _resample(image, label, change, crop, pad_value)
    if change.mirror:
        image, label = image[:, ::-1], label[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(label)


_ROWS = 32  # a block of so many rows stays in the cache


def _cut(image, label, change, crop, pad_value):
    """Crop at the original scale: exact copies of pixels."""
    window = np.s_[change.top : change.top + crop[0], change.left : change.left + crop[1]]
    return _pad(image[window], label[window], crop, pad_value)


def _resample(image, label, change, crop, pad_value):
    """Scale and crop: only the crop's own pixels are computed."""
    rows, columns = (
        (np.arange(first, min(first + length, new)) + 0.5) * (old / new)
        for first, length, old, new in zip(
            (change.top, change.left), crop, label.shape, change.size, strict=True
        )
    )
    nearest = np.ix_(rows.astype(np.intp), columns.astype(np.intp))
    return _pad(sample_bilinear(image, rows, columns), label[nearest], crop, pad_value)


def sample_bilinear(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the image at every pair of a row and a column point: uint8 [rows columns 3].

    Points are in pixels from the top left corner; pixel i's centre lies at i + 1/2.
    """
    (above, down), (left, right) = (
        _neighbours(points, side)
        for points, side in zip((rows, columns), image.shape, strict=False)
    )
    first, last = left[0], left[-1] + 1
    strip = image[:, first : last + 1]
    next_column = np.minimum(left + 1, image.shape[1] - 1) - first
    result = np.empty((len(rows), len(columns), 3), np.uint8)
    for start in range(0, len(rows), _ROWS):
        block = slice(start, start + _ROWS)
        upper = strip[above[block]].astype(np.float32)
        lower = strip[np.minimum(above[block] + 1, len(image) - 1)] - upper
        upper += lower * down[block, None, None]
        value = upper[:, left - first]
        value += (upper[:, next_column] - value) * right[:, None]
        value += 0.5
        result[block] = value
    return result


def _neighbours(points: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel before each point, and how far behind its centre the point lies, 0..1."""
    places = np.clip(points - 0.5, 0, side - 1)
    before = places.astype(np.intp)
    return before, (places - before).astype(np.float32)


def _pad(image, label, crop, pad_value):
    """Pad at the bottom and right."""
    height, width = label.shape
    if (height, width) == crop:
        return image, label
    padded = np.empty((*crop, 3), np.uint8)
    padded[...] = np.array(pad_value, np.uint8)
    padded[:height, :width] = image
    padded_label = np.full(crop, IGNORE, np.uint8)
    padded_label[:height, :width] = label
    return padded, padded_label


def _warp(image, label, change, crop, pad_value):
    """Scale, deform and crop."""
    axes = [
        first + np.arange(length) + 0.5
        for first, length in zip((change.top, change.left), crop, strict=True)
    ]
    shift = displacement_field(change.displacement, axes, change.size)
    grid = np.meshgrid(*axes, indexing="ij")
    points, outside = [], np.zeros(crop, bool)
    for axis, (old, new) in enumerate(zip(label.shape, change.size, strict=True)):
        point = (grid[axis] + shift[axis]) * (old / new)
        outside |= (point < 0) | (point >= old)
        points.append(np.clip(point - 0.5, 0, old - 1))
    warped = np.stack(
        [ndimage.map_coordinates(plane, points, order=1) for plane in np.moveaxis(image, -1, 0)],
        axis=-1,
    )
    warped_label = ndimage.map_coordinates(label, points, order=0)
    warped[outside] = np.array(pad_value, np.uint8)
    warped_label[outside] = IGNORE
    return warped, warped_label


def displacement_field(
    displacement: np.ndarray, axes: list[np.ndarray], size: tuple[int, int]
) -> np.ndarray:
    """Interpolate a coarse grid of displacements bicubically (tensor product of cubic splines).

    Args:
      displacement: float [2 m m], in pixels; the grid's outer points lie on the picture's border.
      axes: row and column positions, in pixels from the picture's top left corner.
      size: (height, width) of the picture in pixels.

    Returns:
      float64 [2 len(rows) len(columns)], in pixels.
    """
    knots = displacement.shape[-1]
    rows, columns = (
        np.stack(
            [
                ndimage.map_coordinates(unit, [axis / side * (knots - 1)], order=3, mode="mirror")
                for unit in np.eye(knots)
            ],
            axis=-1,
        )
        for axis, side in zip(axes, size, strict=True)
    )
    return rows @ displacement @ columns.T
