"""Pictures and masks from files. Whatever a decoder says, the error names the file.

EXIF orientation is ignored, but in `read_upright`: VOC, CamVid and their masks were made on the
stored pixels.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from seg_jax.checks import UserError

# Modes that `convert("RGB")` maps without loss or guessing; alpha is dropped, not blended.
_IMAGE_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_LABEL_MODES = {"1", "L", "P"}  # one 8-bit channel, or indices into a palette


def read_image(path: Path) -> np.ndarray:
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


def read_label(path: Path) -> np.ndarray:
    """Return the mask's values as uint8 [h w]: palette indices or grey levels, as stored.

    Raises UserError for a file that is missing, broken, truncated, coloured or has 16 bits.
    """
    remedy = "save the mask as an 8-bit grey or palette PNG whose pixel values are the class ids"
    return _decode(path, _LABEL_MODES, remedy, lambda file: file)


def image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) in pixels from the file's header, without decoding the pixels."""
    try:
        with Image.open(path) as file:
            return file.height, file.width
    except Exception as error:  # the decoders raise a dozen types; all mean a bad file
        raise unreadable(path, error) from error


def exif_orientation(path: Path) -> int:
    """Return the EXIF orientation of the file, 1 (upright) where it has none."""
    try:
        with Image.open(path) as file:
            return file.getexif().get(0x0112, 1)
    except Exception as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> UserError:
    """Return the error for a file that cannot be decoded."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: no such file")
    if isinstance(error, Image.DecompressionBombError):
        return UserError(f"{path}: too large to decode; shrink it, and its mask ({error})")
    if path.is_file() and path.stat().st_size == 0:
        return UserError(f"{path}: the file is empty; copy or download it again")
    detail = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{path}: cannot be decoded ({detail}); copy or download it again")


def _to_rgb(file: Image.Image) -> Image.Image:
    if "transparency" in file.info:  # of a palette: Pillow warns if it is lost on the way
        file = file.convert("RGBA")
    return file.convert("RGB")


def _decode(
    path: Path, modes: set[str], remedy: str, convert: Callable[[Image.Image], Image.Image]
) -> np.ndarray:
    try:
        with Image.open(path) as file:
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
