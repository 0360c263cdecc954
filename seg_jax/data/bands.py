"""Read images of any number of channels and of more than 8 bits: TIFF, `.npy`, 16-bit PNG.

Values are read as they are stored, then scaled by a stated rule (`scaled`): 8 bits stay as they
are; of more bits, the range that is given becomes 0..255 as float32. Nothing is guessed from the
pixels of one image. Windows of a TIFF or `.npy` are read without the rest of the file.

Every file is bounded before it is decoded, see `tiff` and `images`.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from seg_jax import files
from seg_jax.checks import UserError
from seg_jax.data import images
from seg_jax.data.tiff import Header, Stored, check_kind, check_size, open_tiff

_NPY, _TIFF = b"\x93NUMPY", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NPY_HEADER = 2**16  # bytes

Window = tuple[slice, slice]  # rows and columns


def is_plain(file: images.File, channels: int, value_range: tuple[float, float] | None) -> bool:
    """Return whether `images.read_image` reads the file: RGB of 8 bits, in a usual format."""
    npy = isinstance(file, Path) and file.suffix.lower() == ".npy"
    return channels == 3 and value_range is None and not npy


def describe(file: images.File) -> Header:
    """Return what the header of a file says; arguments and errors as of `read`."""
    with _open(file) as stored:
        return stored.header


def read(
    file: images.File,
    channels: int,
    value_range: tuple[float, float] | None = None,
    window: Window | None = None,
) -> np.ndarray:
    """Return an image, or a window of it: uint8 or, with a range, float32 [h w channels].

    Args:
      file: the image.
      channels: that it must have; 3: also grey, which is repeated, and RGB with alpha, which is
        dropped.
      value_range: stored values that become 0 and 255.
      window: rows and columns inside the image; None: all.

    Raises:
      UserError: the file is missing, broken, too large or of another kind; it has other channels;
        it has more than 8 bits and there is no range, or 8 bits and the range is for more.
    """
    with _open(file) as stored:
        _check(file, stored.header, channels, value_range)
        everything = tuple(slice(0, side) for side in stored.header.size)
        pixels = stored.window(*(window or everything))
    found = scaled(file, _as_channels(pixels, channels), value_range)
    if (
        window is None
        and value_range
        and found.min() == found.max()
        and pixels.min() < pixels.max()
    ):
        raise UserError(
            f"{file}: all values lie beyond preprocessing.range {value_range}: they are "
            f"{pixels.min()} to {pixels.max()}"
        )
    return found


def stored_values(file: images.File, channels: int) -> np.ndarray:
    """Return all values of an image as they are stored, [h w channels]; errors as of `read`."""
    with _open(file) as stored:
        _check_channels(file, stored.header, channels)
        pixels = stored.window(*(slice(0, side) for side in stored.header.size))
    return _as_channels(pixels, channels)


def scaled(
    file: images.File, pixels: np.ndarray, value_range: tuple[float, float] | None
) -> np.ndarray:
    """Return stored values scaled so that the range becomes 0..255, float32, clipped to it.

    Without a range, uint8 as it is stored. A value that is not finite is an error.
    """
    if value_range is None:
        return pixels
    low, high = value_range
    if pixels.dtype.kind == "f" and not (finite := np.isfinite(pixels)).all():
        raise UserError(
            f"{file}: {np.size(finite) - np.count_nonzero(finite)} values are not finite: replace "
            "them by a number, and mark those pixels void in the mask"
        )
    # In float64 only where float32 cannot hold the stored values.
    wide = np.float64 if pixels.dtype.itemsize > 2 else np.float32
    found = (pixels.astype(wide) - wide(low)) * wide(255 / (high - low))
    return np.clip(found, 0, 255).astype(np.float32)


@contextlib.contextmanager
def _open(file: images.File) -> Iterator[Stored]:
    try:
        stream = _stream(file)
    except OSError as error:
        raise images.unreadable(file, error) from error
    with stream, contextlib.ExitStack() as stack:
        begin = stream.read(6)
        stream.seek(0)
        try:
            if begin == _NPY:
                yield _open_npy(stream)
            elif begin[:4] in _TIFF and not isinstance(file, images.Page):
                yield stack.enter_context(open_tiff(stream))
            else:
                yield _open_picture(file)
        except UserError as error:
            name = f"{file}: "
            raise error if str(error).startswith(name) else UserError(f"{name}{error}") from error
        except Exception as error:  # decoders raise a dozen types; each means a bad file
            raise images.unreadable(file, error) from error


def _stream(file: images.File) -> IO[bytes]:
    if isinstance(file, images.Encoded):
        return io.BytesIO(file.content)
    return files.open_regular(file.file if isinstance(file, images.Page) else file)


def _check_channels(file: images.File, header: Header, channels: int) -> None:
    fits = header.channels == channels
    if channels == 3:
        fits = header.channels in (1, 3) or header.alpha
    if not fits:
        raise UserError(
            f"{file}: an image of {header.channels} channels, where {channels} are expected: set "
            f"--data.preprocessing.channels {header.channels}, or save the channels that are wanted"
        )


def _check(
    file: images.File, header: Header, channels: int, value_range: tuple[float, float] | None
) -> None:
    _check_channels(file, header, channels)
    if value_range is None and header.dtype != np.uint8:
        top = np.iinfo(header.dtype).max if header.dtype.kind in "ui" else 1
        raise UserError(
            f"{file}: values of type {header.dtype}: say which of them become 0 and 255, e.g. "
            f"--data.preprocessing.range 0 {top} (`data stats ROOT` measures what occurs)"
        )
    if value_range is not None and header.dtype == np.uint8 and value_range[1] > 255:
        raise UserError(
            f"{file}: 8 bits a channel, where preprocessing.range is {value_range}: a data set has "
            "one range; save all its images with the same number of bits"
        )


def _as_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    if channels == 3 and pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., :channels])


def _open_picture(file: images.File) -> Stored:
    """Any other format, by Pillow; 16-bit PNGs at their full depth."""
    with images.open_image(file) as picture:
        header = _picture_header(picture)

    def window(rows: slice, columns: slice) -> np.ndarray:
        with images.open_image(file) as picture:
            pixels = _picture_values(picture)
        if header.dtype == np.uint16 and pixels.dtype == np.uint8:
            # Pillow keeps 8 of 16 bits of a colour image: the second time, the others.
            with images.open_image(file) as picture:
                part: Any = picture
                part.tile = [t._replace(args=t.args.replace(";16B", ";16L")) for t in part.tile]
                lower = _picture_values(picture)
            pixels = pixels.astype(np.uint16) * np.uint16(256) + lower
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        return pixels[rows, columns]

    return Stored(header, window)


_BANDS = {"1": 1, "L": 1, "RGB": 3, "RGBA": 4, "I;16": 1, "I;16B": 1, "I;16L": 1}


def _picture_header(picture: Image.Image) -> Header:
    raw_mode = images.raw_mode(picture)
    mode = "RGB" if picture.mode in ("P", "PA", "YCbCr", "CMYK", "RGBX") else picture.mode
    if mode not in _BANDS or raw_mode == "LA;16B":
        raise UserError(f"pixels of mode {picture.mode}: save it as grey, RGB or RGBA, or as TIFF")
    deep = ";16" in raw_mode or mode.startswith("I;16")
    if deep and picture.format != "PNG":
        raise UserError(f"16 bits a channel in a {picture.format}: save it as PNG, TIFF or .npy")
    dtype = np.dtype(np.uint16 if deep else np.uint8)
    return Header((picture.height, picture.width), _BANDS[mode], dtype, mode == "RGBA")


def _picture_values(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I;16"):
        return np.array(picture).astype(np.uint16)
    keep = picture.mode in ("L", "RGB", "RGBA")
    return np.array(picture if keep else picture.convert("L" if picture.mode == "1" else "RGB"))


def _open_npy(stream: IO[bytes]) -> Stored:
    """An array [h w] or [h w c], which is never unpickled."""
    version = np.lib.format.read_magic(stream)
    names = {(1, 0): "read_array_header_1_0", (2, 0): "read_array_header_2_0"}
    shape, by_columns, dtype = getattr(np.lib.format, names[version])(
        stream, max_header_size=_NPY_HEADER
    )
    check_kind(dtype)
    if len(shape) not in (2, 3) or by_columns:
        raise UserError(f"an array of shape {shape}; save [height width channels], in C order")
    height, width, channels = (*shape, 1)[:3]
    check_size(height, width, channels)
    offset = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    row = width * channels * dtype.itemsize
    if size - offset < height * row:
        raise UserError(f"{size - offset} bytes, where an array of {shape} has {height * row}")

    def window(rows: slice, columns: slice) -> np.ndarray:
        stream.seek(offset + rows.start * row)
        content = stream.read((rows.stop - rows.start) * row)
        values = np.frombuffer(content, dtype).reshape(-1, width, channels)[:, columns]
        return values.astype(dtype.newbyteorder("="))

    return Stored(Header((height, width), channels, dtype.newbyteorder("=")), window)
