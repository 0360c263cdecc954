"""What all readers of weight files share: regular files only, and a budget of memory.

A file may come from a stranger. What a reader allocates is bounded by the bytes of its file, times
FACTOR, and by SMALL; it is checked before the memory is asked for.
"""

import contextlib
import io
import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from seg_jax.checks import UserError

FACTOR = 8  # bytes of arrays for each byte of the file: 8-bit weights become float32, and are tied
SMALL = 1 << 20  # bytes that the arrays of any file may have
_SHOWN = 200  # characters of a library's message


class TooLarge(ValueError):
    """A file asks for more memory than it can be worth."""


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[io.BufferedReader]:
    """Yield a file, opened for reading; UserError unless it is a regular file that can be read."""
    try:
        # A FIFO without a writer would block the opening itself, were it not for O_NONBLOCK.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {_reason(error)}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path} is no regular file: give the file of weights itself")
    with open(descriptor, "rb") as file:
        yield file


def read_bytes(path: Path) -> bytes:
    """Return the content of a regular file."""
    with open_regular(path) as file, explained(path, "file of weights"):
        return file.read()


class Budget:
    """Bytes that the arrays of one file may still take."""

    def __init__(self, file_size: int):
        self._file_size = file_size
        self._left = FACTOR * file_size + SMALL

    def shape(self, shape: Any, dtype: Any) -> tuple[int, ...]:
        """Return a shape as a tuple once its array is paid for.

        Raises:
          TooLarge: the file is too small for such arrays.
          ValueError: it is no shape.
        """
        if len(shape) > 32:
            raise ValueError(f"an array of {len(shape)} dimensions")
        sides = tuple(int(side) for side in shape)
        if any(side < 0 for side in sides):
            raise ValueError(f"an array of the shape {_short(sides)}")
        size = np.dtype(dtype).itemsize
        for side in sides:  # of Python's integers, which do not overflow
            size *= side
        self._left -= size
        if self._left < 0:
            raise TooLarge(
                f"its arrays would take more than {FACTOR} times the file's {self._file_size} "
                f"bytes, one of them being of the shape {_short(sides)}"
            )
        return sides


@contextlib.contextmanager
def explained(path: Path, kind: str) -> Iterator[None]:
    """Turn every error of reading a file into a UserError of one line that names the file."""
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{path}: there is not enough memory to read this {kind}") from error
    except Exception as error:  # noqa: BLE001 - a damaged file may upset a library in any way
        raise UserError(f"{path}: no {kind}, or damaged ({_reason(error)})") from error


def check_zip(file: BinaryIO, size: int, largest: int) -> None:
    """Raise TooLarge if a zip archive's list of members, which is held whole, is too long."""
    tail = min(size, 22 + (1 << 16) + 76)  # the archive's comment, and the records of zip64
    file.seek(size - tail)
    end = file.read(tail)
    place = end.rfind(b"PK\x05\x06")
    (directory,) = struct.unpack_from("<I", end, place + 12)
    if directory == 0xFFFFFFFF:
        wide = end.rfind(b"PK\x06\x06", 0, place)
        directory = struct.unpack_from("<Q", end, wide + 40)[0] if wide >= 0 else size
    if directory > largest:
        raise TooLarge(f"its list of members has {directory} bytes, more than {largest}")


def stored_size(archive: zipfile.ZipFile, name: str, size: int) -> int:
    """Return the bytes of a member that is stored as it is: PyTorch compresses none."""
    info = archive.getinfo(name)
    if info.flag_bits & 1:
        raise ValueError(f"its member {_short(name)} is encrypted")
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ValueError(f"its member {_short(name)} is compressed, which PyTorch does not do")
    if info.file_size > size:
        raise TooLarge(f"its member {_short(name)} is larger than the file")
    return info.file_size


def from_bfloat16(values: np.ndarray) -> np.ndarray:
    """Return float32 for the two bytes a number, uint16, of bfloat16."""
    return (values.astype(np.uint32) << 16).view(np.float32)


def printable(text: Any) -> str:
    """Return a text out of a file in one line of bounded length, without control characters."""
    return _short(text)


def _reason(error: Exception) -> str:
    """Return the first line of an error, shortened, without control characters."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _short(text.splitlines()[0] if text.splitlines() else type(error).__name__)


def _short(value: Any) -> str:
    text = "".join(c if c.isprintable() else "?" for c in str(value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
