"""What a file says of its pixels, and TIFF, whose windows are read without the rest of the file.

TIFF is read by tifffile, an extra (`pip install "seg_jax[bands]"`). A file is bounded before it is
decoded: its pixels as in `images`, and each compressed block by what it must unpack to.
"""

import contextlib
import dataclasses
import importlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import numpy as np

from seg_jax.checks import UserError
from seg_jax.data import images
from seg_jax.data.preprocessing import MOST_CHANNELS

_KINDS = {"|u1", "<u2", "<i2", "<u4", "<i4", "<f2", "<f4", "<f8"}  # little-endian names
_COMPRESSIONS = {1: "none", 5: "LZW", 8: "deflate", 32773: "PackBits", 32946: "deflate"}
_DEFLATE = (8, 32946)
_ALPHA = (1, 2)  # kinds of extra samples: associated and unassociated
_WHITE_IS_ZERO, _PALETTE, _YCBCR = 0, 3, 6  # photometric interpretations of TIFF 6.0
_CHUNK = 2**20  # bytes that a check of compressed data unpacks at a time


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says of its pixels.

    Attributes:
      size: (height, width).
      channels: stored.
      dtype: of the stored values.
      alpha: whether the fourth of four channels is an opacity.
    """

    size: tuple[int, int]
    channels: int
    dtype: np.dtype
    alpha: bool = False


@dataclasses.dataclass(frozen=True)
class Stored:
    """An open file: its header, and a function from rows and columns to [h w c] as stored."""

    header: Header
    window: Callable[[slice, slice], np.ndarray]


def check_size(height: int, width: int, channels: int) -> None:
    """Raise a UserError, without the file's name, for an image that is not to be decoded."""
    limit = images.max_pixels()
    if height < 1 or width < 1 or not 1 <= channels <= MOST_CHANNELS:
        raise UserError(
            f"{height} x {width} pixels of {channels} channels: an image has at least one pixel, "
            f"and 1 to {MOST_CHANNELS} channels, which are the last axis"
        )
    if height * width > limit:
        raise UserError(
            f"too large to decode: {width} x {height} pixels are more than {limit}; "
            f"raise the limit with {images.LIMIT_VARIABLE}=NUMBER_OF_PIXELS"
        )


def check_kind(dtype: np.dtype) -> None:
    """Raise a UserError, without the file's name, for values that are not read."""
    if dtype.newbyteorder("<").str not in _KINDS:
        raise UserError(f"values of type {dtype}; save integers of 8 to 32 bits, or floats")


@contextlib.contextmanager
def open_tiff(stream: IO[bytes]) -> Iterator[Stored]:
    """The first page or, where each channel is a page of its own, as many pages as channels."""
    try:
        tifffile = importlib.import_module("tifffile")
    except ImportError as error:
        raise UserError(
            "a TIFF of more than 8 bits, or of other than 3 channels, is read by tifffile: "
            'pip install "seg_jax[bands]"'
        ) from error
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    with tifffile.TiffFile(stream, name="image.tif", _multifile=False) as tiff:
        pages = [tiff.pages[0]]
        if pages[0].samplesperpixel == 1:
            for number in range(1, MOST_CHANNELS + 1):
                try:
                    pages.append(tiff.pages[number])
                except IndexError:
                    break
        alike = {(page.shape, page.dtype, page.samplesperpixel) for page in pages}
        if len(alike) > 1:
            # A thumbnail or an overview: other pages than the first are not channels.
            pages = pages[:1]
        header = [_tiff_header(page, size) for page in pages][0]
        if len(pages) > 1:
            header = dataclasses.replace(header, channels=len(pages))

        def window(rows: slice, columns: slice) -> np.ndarray:
            return np.concatenate([_tiff_window(page, rows, columns) for page in pages], axis=2)

        yield Stored(header, window)


def _tiff_header(page: Any, file_size: int) -> Header:
    height, width, channels = page.imagelength, page.imagewidth, page.samplesperpixel
    if page.imagedepth != 1 or page.dtype is None:
        raise UserError("a volume, or values of an unusual type; save two-dimensional images")
    dtype = np.dtype(page.dtype).newbyteorder("=")
    check_kind(dtype)
    check_size(height, width, channels)
    if page.compression not in _COMPRESSIONS:
        known = ", ".join(dict.fromkeys(_COMPRESSIONS.values()))
        raise UserError(f"a TIFF of compression {int(page.compression)}; save it with {known}")
    if page.photometric in (_WHITE_IS_ZERO, _PALETTE, _YCBCR):
        raise UserError(
            "a TIFF whose values are not the brightness (WhiteIsZero, a palette or YCbCr); save it "
            "as BlackIsZero or RGB"
        )
    orientation = page.tags.get(274)
    if orientation is not None and orientation.value != 1:
        raise UserError("a TIFF with an orientation tag; save image and mask upright, without it")
    if page.bitspersample != dtype.itemsize * 8:
        raise UserError(f"{page.bitspersample} bits a value; save 8, 16 or 32")
    block = page.tilewidth * page.tilelength if page.is_tiled else width * page.rowsperstrip
    if not 0 < block <= 4 * max(height * width, 2**16):
        raise UserError(f"blocks of {block} pixels in an image of {width} x {height}")
    if sum(page.databytecounts) > 2 * file_size:
        raise UserError("its blocks are larger than the file; it is damaged")
    alpha = channels == 4 and bool(page.extrasamples) and page.extrasamples[0] in _ALPHA
    return Header((height, width), channels, dtype, alpha)


def _tiff_window(page: Any, rows: slice, columns: slice) -> np.ndarray:
    """Return a window, decoding only the tiles or strips that it touches."""
    samples = page.samplesperpixel
    planes = samples if page.planarconfig == 2 else 1
    if page.is_tiled:
        height, width = page.tilelength, page.tilewidth
    else:
        height, width = min(page.rowsperstrip, page.imagelength), page.imagewidth
    down, right = -(-page.imagelength // height), -(-page.imagewidth // width)
    found = np.zeros(
        (rows.stop - rows.start, columns.stop - columns.start, samples),
        np.dtype(page.dtype).newbyteorder("="),
    )
    if len(page.dataoffsets) < planes * down * right:
        raise UserError(f"{len(page.dataoffsets)} blocks, not {planes * down * right}: damaged")
    for plane in range(planes):
        into = found[..., plane : plane + 1] if planes > 1 else found
        for row in range(rows.start // height, -(-rows.stop // height)):
            for column in range(columns.start // width, -(-columns.stop // width)):
                index = (plane * down + row) * right + column
                block = _block(page, index, height * width * (samples // planes))
                _paste(into, block, (row * height - rows.start, column * width - columns.start))
    return found


def _block(page: Any, index: int, values: int) -> np.ndarray:
    """Return a decoded tile or strip [h w c]."""
    count = page.databytecounts[index]
    if not count:
        raise UserError(f"block {index} is empty; the file is damaged")
    handle = page.parent.filehandle
    handle.seek(page.dataoffsets[index])
    content = handle.read(count)
    if page.compression in _DEFLATE:
        _refuse_bomb(content, values * np.dtype(page.dtype).itemsize)
    block, _, _ = page.decode(content, index)
    if block is None or block.ndim != 4:
        raise UserError(f"block {index} cannot be decoded; the file is damaged")
    return block[0]


def _refuse_bomb(content: bytes, most: int) -> None:
    """Raise a UserError if deflated data unpacks to more than its block may have."""
    unpacker, length = zlib.decompressobj(), 0
    while content and not unpacker.eof:
        length += len(unpacker.decompress(content, _CHUNK))
        content = unpacker.unconsumed_tail
        if length > most:
            raise UserError("a block unpacks to more than its size; the file is damaged")


def _paste(into: np.ndarray, block: np.ndarray, place: Sequence[int]) -> None:
    """Write the part of a block that lies inside `into`, with its first pixel at `place`."""
    sides = zip(place, into.shape, block.shape, strict=False)
    ours, theirs = [], []
    for first, side, length in list(sides)[:2]:
        start, stop = max(first, 0), min(first + length, side)
        ours.append(slice(start, stop))
        theirs.append(slice(start - first, stop - first))
    into[tuple(ours)] = block[tuple(theirs)]
