"""Read images and masks from files; every error names the file.

Files may come from strangers: only regular files in one of FORMATS are decoded, with at most
`max_pixels` pixels, which is checked before decoding. docs/data.md has a table of the tags that
change values. EXIF orientation of a JPEG is ignored, except by `read_upright`: the masks of VOC and
CamVid fit the stored pixels.
"""

import dataclasses
import functools
import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps, features

from seg_jax import files
from seg_jax.checks import UserError

# No other format is tried, whatever the file's name: an EPS, for example, would start Ghostscript.
# MPO (some cameras) is read as JPEG.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000")
MAX_PIXELS = 100_000_000  # 10,000 x 10,000; as RGB, 300 MB
LIMIT_VARIABLE = "SEG_JAX_MAX_PIXELS"

# Modes that `convert("RGB")` maps without loss or guessing; alpha is dropped, not blended.
_IMAGE_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_LABEL_MODES = {"1", "L", "P"}  # one 8-bit channel, or indices into a palette
_STRETCHED = {"L;2": (85, 3), "L;4": (17, 15)}  # factor, and the largest stored value
_JPEG_BYTES = 6  # a pixel; larger files (of photographs, a few have one) are left to Pillow
_ORIENTATION, _SAMPLES, _EXTRA_SAMPLES = 274, 277, 338  # tags of TIFF 6.0; 0 of the last: unknown

# What Pillow warns of (e.g. broken EXIF) changes no pixel, and the warning shows source lines.
warnings.filterwarnings("ignore", module=r"PIL(\.|$)")


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of a TIFF stack, counted from 0."""

    file: Path
    number: int

    def __str__(self) -> str:
        return f"{self.file}, page {self.number}"


@dataclasses.dataclass(frozen=True)
class Encoded:
    """An image file's bytes, and the name that errors give it."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


File = Path | Page | Encoded  # where an image or a mask is stored


def max_pixels() -> int:
    """Return how many pixels an image may have: $SEG_JAX_MAX_PIXELS, or MAX_PIXELS."""
    text = os.environ.get(LIMIT_VARIABLE, "")
    if text and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise UserError(f"{LIMIT_VARIABLE} is {text!r}; set it to a number of pixels")
    return int(text) if text else MAX_PIXELS


@contextmanager
def open_image(path: File) -> Iterator[Image.Image]:
    """Open an image, of which no pixel is decoded yet, for use in `with`.

    Every image of this package is opened here: a regular file, of a format in FORMATS, of no more
    than `max_pixels` pixels.

    Raises UserError for a file that is missing, broken, too large or of another format.
    """
    limit = max_pixels()
    # Pillow's default limit is lower; beyond twice its limit it raises before the size is known.
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, limit)
    try:
        stream = _stream(path)
    except OSError as error:
        raise unreadable(path, error) from error
    with stream:
        try:
            image = Image.open(stream, formats=FORMATS)
            if isinstance(path, Page):
                image.seek(path.number)
        except Exception as error:  # decoders raise a dozen types; each means a bad file
            raise unreadable(path, error) from error
        if image.width * image.height > limit:
            raise UserError(
                f"{path}: too large to decode: {image.width} x {image.height} pixels are more than "
                f"{limit}; {_RAISE_LIMIT}"
            )
        yield image


def read_image(path: File) -> np.ndarray:
    """Return the image as uint8 [h w 3] RGB; grey, palette, alpha and CMYK are converted.

    Alpha is dropped. 16 bits a channel are refused: nothing in the file says which part of the
    range it fills (12 bits, of many a camera and microscope), and taking the upper 8 bits would
    give an almost black image. `bands.read` reads them once the range is given.

    Raises UserError for a file that is missing, broken, truncated, of another format, too large,
    of 16 bits or floating point, or a TIFF whose orientation tag would turn it.
    """
    return _decode(path, _IMAGE_MODES, _SAVE_IMAGE, _to_rgb_pixels)


def read_upright(path: Path) -> np.ndarray:
    """Return the image as `read_image` does, turned as its EXIF orientation asks."""
    # Pillow's function, since Pillow has already turned a TIFF when it is loaded.
    return _decode(
        path,
        _IMAGE_MODES,
        _SAVE_IMAGE,
        lambda file: _to_rgb(ImageOps.exif_transpose(file)),
        upright=True,
    )


def read_label(path: File) -> np.ndarray:
    """Return the mask's values as uint8 [h w]: palette indices or grey levels, as stored.

    Raises UserError for a file that is missing, broken, truncated, of another format, too large,
    a JPEG, coloured or of 16 bits, or a TIFF whose orientation tag would turn it.
    """
    return read_label_and_palette(path)[0]


def read_label_and_palette(path: File) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the mask's values as `read_label` does, and its palette, uint8 [n 3], n <= 256.

    The palette is None for a grey mask, and where the palette has the grey levels themselves or a
    single colour, for that says nothing about the classes.
    """
    palettes: list[np.ndarray | None] = []

    def read(file: Image.Image) -> np.ndarray:
        palettes.append(_palette(file))
        return _stored_values(file)

    remedy = "save the mask as an 8-bit grey or palette PNG whose pixel values are the class ids"
    return _decode(path, _LABEL_MODES, remedy, read), palettes[0]


def image_size(path: File) -> tuple[int, int]:
    """Return (height, width) in pixels from the file's header, without decoding the pixels."""
    with open_image(path) as file:
        return file.height, file.width


def page_count(path: Path) -> int:
    """Return the number of pages of a TIFF stack."""
    with open_image(path) as file:
        try:
            return getattr(file, "n_frames", 1)
        except Exception as error:
            raise unreadable(path, error) from error


def exif_orientation(path: File) -> int:
    """Return the EXIF orientation of the file, 1 (upright) where it has none."""
    with open_image(path) as file:
        try:
            return file.getexif().get(_ORIENTATION, 1)
        except Exception as error:
            raise unreadable(path, error) from error


def encoded(path: File) -> bytes:
    """Return the bytes of an image file; a page of a stack as a PNG."""
    if isinstance(path, Encoded):
        return path.content
    if isinstance(path, Page):
        content = io.BytesIO()
        with open_image(path) as page:
            page.save(content, "PNG")
        return content.getvalue()
    with files.open_regular(path) as file:
        return file.read()


def unreadable(path: File, error: Exception) -> UserError:
    """Return the error for a file that cannot be decoded."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: no such file")
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return UserError(f"{path}: too large to decode ({error}); {_RAISE_LIMIT}")
    if isinstance(error, Image.UnidentifiedImageError) and not _is_empty(path):
        return UserError(
            f"{path}: cannot be decoded (not an image in one of the formats {', '.join(FORMATS)}); "
            "save it in one of them, or copy or download it again"
        )
    if _is_empty(path):
        return UserError(f"{path}: the file is empty; copy or download it again")
    detail = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{path}: cannot be decoded ({detail}); copy or download it again")


def _is_empty(path: File) -> bool:
    return isinstance(path, Path) and path.is_file() and path.stat().st_size == 0


def _stream(path: File) -> IO[bytes]:
    if isinstance(path, Encoded):
        return io.BytesIO(path.content)
    return files.open_regular(path.file if isinstance(path, Page) else path)


@functools.cache
def _decode_jpeg() -> Callable[..., np.ndarray] | None:
    """Return simplejpeg's decoder, if it is installed (`seg_jax[jpeg]`) and Pillow uses the same
    library, libjpeg-turbo. It lacks Pillow's detour over four bytes a pixel and three copies.
    """
    try:
        from simplejpeg import decode_jpeg  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return decode_jpeg if features.check_feature("libjpeg_turbo") else None


def _to_rgb_pixels(file: Image.Image) -> Image.Image | np.ndarray:
    if file.format != "JPEG" or file.mode != "RGB" or not (decode := _decode_jpeg()):
        return _to_rgb(file)
    stream: Any = getattr(file, "fp", None)
    stream.seek(0)
    most = _JPEG_BYTES * file.width * file.height + 2**20
    content = stream.read(most)
    try:
        # Strict: what libjpeg only warns of is left to Pillow, and so is every error's message.
        pixels = decode(content, "RGB", strict=True) if len(content) < most else None
    except ValueError:
        pixels = None
    if pixels is None or pixels.shape != (file.height, file.width, 3):
        return _to_rgb(file)
    return pixels


def _to_rgb(file: Image.Image) -> Image.Image:
    if "transparency" in file.info:  # of a palette; Pillow would warn that it is lost
        file = file.convert("RGBA")
    return file if file.mode == "RGB" else file.convert("RGB")  # which copies, even of one mode


def raw_mode(file: Image.Image) -> str:
    """Return how the file stores its pixels, in Pillow's words: "RGB;16B", "L;2I", ..."""
    tile: Any = getattr(file, "tile", None)
    found = tile[0].args if tile else None
    if isinstance(found, tuple):
        found = found[0] if found else None
    return found if isinstance(found, str) else file.mode


def _stored_values(file: Image.Image) -> np.ndarray:
    """Return the values as they are stored.

    Pillow stretches grey levels of 2 and 4 bits, which image optimisers write, to 0..255 (a 1 in a
    mask would become 17), and inverts a TIFF that is stored WhiteIsZero (I in its raw mode). Both
    are undone.
    """
    stored = raw_mode(file).replace("R", "")  # R: the order of the bits in a byte
    values = np.array(file).astype(np.uint8, copy=False)
    if file.mode == "P":
        return values
    factor, top = (1, 1) if file.mode == "1" else _STRETCHED.get(stored.rstrip("I"), (1, 255))
    if factor > 1:
        values //= np.uint8(factor)
    return np.uint8(top) - values if stored.endswith("I") else values


def _palette(file: Image.Image) -> np.ndarray | None:
    colors = file.getpalette("RGB") if file.mode == "P" else None
    if not colors:
        return None
    palette = np.frombuffer(bytes(colors[: len(colors) // 3 * 3]), np.uint8).reshape(-1, 3)
    levels = np.arange(len(palette), dtype=np.uint8)[:, None]
    says_nothing = (palette == levels).all() or (palette == palette[:1]).all()
    return None if says_nothing else palette


def _decode(
    path: File,
    modes: set[str],
    remedy: str,
    convert: Callable[[Image.Image], Any],
    *,
    upright: bool = False,
) -> np.ndarray:
    with open_image(path) as file:
        try:
            mode, stored_as = file.mode, raw_mode(file)
            problem = _tiff_problem(file, upright=upright) if file.format == "TIFF" else ""
            if modes is _LABEL_MODES and file.format in ("JPEG", "MPO"):
                problem = LOSSY_MASK
            if not problem and mode in modes and ";16" not in stored_as:
                pixels = convert(file)
                if not isinstance(pixels, np.ndarray):
                    pixels = np.array(pixels)
                return pixels.astype(np.uint8, copy=False)
        except Exception as error:  # decoders raise a dozen types; each means a bad file
            raise unreadable(path, error) from error
    if problem:
        raise UserError(f"{path}: {problem}")
    kind = "16 bits a channel" if mode in modes else _MODES.get(mode, "unusual")
    raise UserError(f"{path}: pixels of mode {mode} ({kind}); {remedy}")


def _tiff_problem(file: Image.Image, *, upright: bool) -> str:
    """Return why a TIFF's tags would change its pixels in silence, "" if none does."""
    tags: Any = getattr(file, "tag_v2", {})
    channels, extra = tags.get(_SAMPLES, 1), tags.get(_EXTRA_SAMPLES, ())
    if channels > 4 or 0 in (extra if isinstance(extra, tuple) else (extra,)):
        return (
            f"a TIFF of {channels} channels, of which only the first three would be read; set "
            f"--data.preprocessing.channels {channels}, or save those that are wanted as an RGB or "
            "grey image"
        )
    if not upright and file.getexif().get(_ORIENTATION, 1) != 1:
        return (
            "a TIFF with an orientation tag, which would turn it but not its partner; save image "
            "and mask upright, without the tag"
        )
    return ""


LOSSY_MASK = (
    "a mask cannot be a JPEG: its compression changes pixel values, and so the classes along every "
    "border; export the masks again, as PNG"
)
_RAISE_LIMIT = (
    f"shrink the image, and its mask, or raise the limit with {LIMIT_VARIABLE}=NUMBER_OF_PIXELS"
)
_SAVE_IMAGE = (
    "save the image as 8-bit RGB or grey, or say which stored values become 0 and 255: "
    "--data.preprocessing.range LOW HIGH"
)
_MODES = {
    "I": "16 or 32 bits",
    "I;16": "16 bits",
    "I;16B": "16 bits",
    "F": "floating point",
    "RGB": "colour",
    "RGBA": "colour and alpha",
    "LA": "grey and alpha",
}
