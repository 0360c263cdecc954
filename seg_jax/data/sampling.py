"""Sample images between their pixels: half-pixel centres, no antialiasing, borders repeated.

Points are in pixels from the top left corner; pixel i's centre lies at i + 1/2. Images are sampled
bilinearly; labels at the nearest pixel, because a mean of class ids is another class.

The functions in NumPy are the definition, and what runs without Numba; `sampling_numba` has the
same operations in compiled loops, whose results are equal bit for bit.
"""

import functools
from types import ModuleType

import numpy as np
from scipy import ndimage

_ROWS = 32  # rows in a block: small enough for the processor's cache
_CHANNELS = 4  # the most that the compiled loops unroll


@functools.cache
def _compiled() -> ModuleType | None:
    try:
        from seg_jax.data import sampling_numba
    except ImportError:
        return None
    return sampling_numba


def kernels(image: np.ndarray, label: np.ndarray) -> ModuleType | None:
    """Return the compiled loops; None without Numba, and for other types or many channels."""
    fits = image.dtype in (np.uint8, np.float32) and image.shape[2] <= _CHANNELS
    return _compiled() if fits and label.dtype == np.uint8 else None


def sample_crop(
    image: np.ndarray,
    label: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    *,
    crop: tuple[int, int],
    first: int,
    pad_value: tuple[float, ...],
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample and pad in one pass, by the compiled loops.

    Args:
      image: uint8 or float32 [h w c].
      label: uint8 [h w].
      rows: points in pixels from the top.
      columns: points in pixels from the left; they may run backwards, for a mirror image.
      crop: (height, width) of the result.
      first: column of the result in which the samples begin; rows begin at the top.
      pad_value: of the other pixels, one a channel; their label is IGNORE.
      out: contiguous arrays for the result, used where shape and type fit.

    Returns:
      Image, of its type, [*crop c], and label, uint8 [*crop].
    """
    loops = _compiled()
    assert loops is not None  # the caller has asked `kernels`
    height, width, channels = image.shape
    (above, down), (left, across) = _neighbours(rows, height), _neighbours(columns, width)
    below, right = np.minimum(above + 1, height - 1), np.minimum(left + 1, width - 1)
    if out is None or (out[0].shape, out[0].dtype) != ((*crop, channels), image.dtype):
        out = np.empty((*crop, channels), image.dtype), np.empty(crop, np.uint8)
    loops.sample_crop(
        np.ascontiguousarray(image).reshape(height, -1), np.ascontiguousarray(label),
        above, below, down, rows.astype(np.intp),
        (left * channels).astype(np.uint32), (right * channels).astype(np.uint32), across,
        columns.astype(np.uint32), first, bool(down.any() or across.any()),
        tuple(np.array(pad_value, image.dtype).tolist()), _half(image.dtype),
        out[0].reshape(crop[0], -1), out[1],
    )  # fmt: skip
    return out


def sample_bilinear(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the image at every pair of a row and a column point: of its type, [rows columns c].

    Points are in pixels from the top left corner; pixel i's centre lies at i + 1/2.
    """
    (above, down), (left, right) = (
        _neighbours(points, side)
        for points, side in zip((rows, columns), image.shape, strict=False)
    )
    first, last = left[0], left[-1] + 1
    strip = image[:, first : last + 1]
    next_column = np.minimum(left + 1, image.shape[1] - 1) - first
    result = np.empty((len(rows), len(columns), image.shape[2]), image.dtype)
    for start in range(0, len(rows), _ROWS):
        block = slice(start, start + _ROWS)
        upper = strip[above[block]].astype(np.float32)
        lower = strip[np.minimum(above[block] + 1, len(image) - 1)] - upper
        upper += lower * down[block, None, None]
        value = np.take(upper, left - first, axis=1)  # half the time of fancy indexing
        value += (np.take(upper, next_column, axis=1) - value) * right[:, None]
        value += _half(image.dtype)
        result[block] = value
    return result


def _half(dtype: np.dtype) -> np.float32:
    """Return what is added so that storing as `dtype` rounds to the nearest value."""
    return np.float32(0.5 if dtype == np.uint8 else 0.0)


def _neighbours(points: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel before each point, and the point's distance from its centre, 0..1."""
    places = np.clip(points - 0.5, 0, side - 1)
    before = places.astype(np.intp)
    return before, (places - before).astype(np.float32)


def sample_at(
    image: np.ndarray, label: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return image [a b c] and label, uint8 [a b], at points [a b] of the image."""
    height, width = label.shape
    new_image = np.empty((*rows.shape, image.shape[2]), image.dtype)
    new_label = np.empty(rows.shape, np.uint8)
    if loops := kernels(image, label):
        image, label, rows, columns = map(np.ascontiguousarray, (image, label, rows, columns))
        loops.sample_points(image, label, rows, columns, _half(image.dtype), new_image, new_label)
        return new_image, new_label
    flat, flat_label = image.reshape(-1, image.shape[2]), label.ravel()
    for start in range(0, len(rows), _ROWS):
        block = slice(start, start + _ROWS)
        y, down = _neighbours(rows[block], height)
        x, right = _neighbours(columns[block], width)
        down, right = down[..., None], right[..., None]
        below = np.minimum(y + 1, height - 1)
        beside = np.minimum(x + 1, width - 1)
        y, below = y * width, below * width
        upper = np.take(flat, y + x, axis=0).astype(np.float32)
        upper += (np.take(flat, y + beside, axis=0) - upper) * right
        lower = np.take(flat, below + x, axis=0).astype(np.float32)
        lower += (np.take(flat, below + beside, axis=0) - lower) * right
        upper += (lower - upper) * down
        upper += _half(image.dtype)
        new_image[block] = upper
        nearest = [
            np.clip(points[block], 0, side - 1).astype(np.intp)
            for points, side in ((rows, height), (columns, width))
        ]
        new_label[block] = flat_label[nearest[0] * width + nearest[1]]
    return new_image, new_label


def displacement_field(
    displacement: np.ndarray, axes: list[np.ndarray], size: tuple[int, int]
) -> np.ndarray:
    """Interpolate a coarse grid of displacements bicubically (tensor product of cubic splines).

    Args:
      displacement: float [2 m m], in pixels; the grid's outer points lie on the image's border.
      axes: row and column positions, in pixels from the image's top left corner.
      size: (height, width) of the image in pixels.

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
