"""Pictures and masks from files. Whatever a decoder says, the error names the file.

EXIF orientation is ignored, but in `read_upright`: VOC, CamVid and their masks were made on the
stored pixels.
"""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from seg_jax.checks import UserError

# Modes that `convert("RGB")` maps without loss or guessing; alpha is dropped, not blended.
_IMAGE_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_LABEL_MODES = {"1", "L", "P"}  # one 8-bit channel, or indices into a palette


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of a TIFF stack, counted from 0."""

    file: Path
    number: int

    def __str__(self) -> str:
        return f"{self.file}, page {self.number}"


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A picture file's bytes, and the name that errors give it."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


File = Path | Page | Encoded  # where a picture or a mask lies


def read_image(path: File) -> np.ndarray:
    """Return the picture as uint8 [h w 3] RGB; grey, palette, alpha and CMYK are converted.

    Alpha is dropped. Of 16-bit RGB the upper 8 bits are taken; 16-bit grey is refused: nothing in
    the file says which part of the range it fills (12 bits, of many a microscope).

    Raises UserError for a file that is missing, broken, truncated, 16-bit grey or floating point.
    """
    return _decode(path, _IMAGE_MODES, _SAVE_IMAGE, _to_rgb)


def read_upright(path: Path) -> np.ndarray:
    """Return the picture as `read_image` does, turned as its EXIF orientation asks."""
    # Pillow turns, not we: it has turned a TIFF already when that is loaded.
    return _decode(
        path, _IMAGE_MODES, _SAVE_IMAGE, lambda file: _to_rgb(ImageOps.exif_transpose(file))
    )


def read_label(path: File) -> np.ndarray:
    """Return the mask's values as uint8 [h w]: palette indices or grey levels, as stored.

    Raises UserError for a file that is missing, broken, truncated, coloured or has 16 bits.
    """
    remedy = "save the mask as an 8-bit grey or palette PNG whose pixel values are the class ids"
    return _decode(path, _LABEL_MODES, remedy, _stored_values)


def image_size(path: File) -> tuple[int, int]:
    """Return (height, width) in pixels from the file's header, without decoding the pixels."""
    try:
        with _open(path) as file:
            return file.height, file.width
    except Exception as error:  # the decoders raise a dozen types; all mean a bad file
        raise unreadable(path, error) from error


def page_count(path: Path) -> int:
    """Return the number of pages of a TIFF stack."""
    try:
        with Image.open(path) as file:
            return getattr(file, "n_frames", 1)
    except Exception as error:
        raise unreadable(path, error) from error


def exif_orientation(path: File) -> int:
    """Return the EXIF orientation of the file, 1 (upright) where it has none."""
    try:
        with _open(path) as file:
            return file.getexif().get(0x0112, 1)
    except Exception as error:
        raise unreadable(path, error) from error


def encoded(path: File) -> bytes:
    """Return the bytes of a picture file; a page of a stack as a PNG."""
    if isinstance(path, Encoded):
        return path.content
    if isinstance(path, Page):
        content = io.BytesIO()
        with _open(path) as page:
            page.save(content, "PNG")
        return content.getvalue()
    return path.read_bytes()


def unreadable(path: File, error: Exception) -> UserError:
    """Return the error for a file that cannot be decoded."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: no such file")
    if isinstance(error, Image.DecompressionBombError):
        return UserError(f"{path}: too large to decode; shrink it, and its mask ({error})")
    if isinstance(path, Path) and path.is_file() and path.stat().st_size == 0:
        return UserError(f"{path}: the file is empty; copy or download it again")
    detail = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{path}: cannot be decoded ({detail}); copy or download it again")


def _open(path: File) -> Image.Image:
    if isinstance(path, Encoded):
        return Image.open(io.BytesIO(path.content))
    if isinstance(path, Page):
        stack = Image.open(path.file)
        try:
            stack.seek(path.number)
        except Exception:
            stack.close()
            raise
        return stack
    return Image.open(path)


def _to_rgb(file: Image.Image) -> Image.Image:
    if "transparency" in file.info:  # of a palette: Pillow warns if it is lost on the way
        file = file.convert("RGBA")
    return file.convert("RGB")


def _stored_values(file: Image.Image) -> np.ndarray:
    """Pillow stretches grey levels of 2 and 4 bits, as image optimisers write them, to 0..255: a
    mask's 1 would come out as 17. Undo it.
    """
    raw_mode = file.tile[0].args if file.tile else None
    if isinstance(raw_mode, tuple):
        raw_mode = raw_mode[0]
    return np.array(file) // {"L;2": 85, "L;4": 17}.get(raw_mode, 1)


def _decode(
    path: File, modes: set[str], remedy: str, convert: Callable[[Image.Image], Any]
) -> np.ndarray:
    try:
        with _open(path) as file:
            mode = file.mode
            if mode in modes:
                return np.array(convert(file)).astype(np.uint8, copy=False)
    except Exception as error:  # the decoders raise a dozen types; all mean a bad file
        raise unreadable(path, error) from error
    raise UserError(f"{path}: pixels of mode {mode} ({_MODES.get(mode, 'unusual')}); {remedy}")


_SAVE_IMAGE = "save the image as 8-bit RGB or grey"
_MODES = {
    "I": "16 or 32 bits",
    "I;16": "16 bits",
    "I;16B": "16 bits",
    "F": "floating point",
    "RGB": "colour",
    "RGBA": "colour and alpha",
    "LA": "grey and alpha",
}
