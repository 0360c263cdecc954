"""A strict reader of MATLAB 5 files, for one numeric matrix in a structure.

SciPy's reader follows the sizes in a file, and a wrong one ends the process. Here every size is
checked against the bytes that are there, and what is compressed may grow to a stated size.

Source: MathWorks, "MAT-File Format" (R2019a), chapter 1, level 5.
"""

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np

_COMPRESSED, _MATRIX, _STRUCT, _INT32 = 15, 14, 2, 5
_NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_NUMERIC_CLASSES = range(6, 16)  # mxDOUBLE_CLASS to mxUINT64_CLASS
_LIMIT = 64 * 2**20  # bytes of a file's content, uncompressed


def struct_field(content: bytes, variable: str, field: str) -> np.ndarray:
    """Return a field, a matrix of real numbers, of a 1 x 1 structure: [rows columns].

    Args:
      content: of the file.
      variable: name of the structure.
      field: name of its field.

    Raises:
      ValueError: the file is broken, has another form, or holds no such field.
    """
    if len(content) < 128 or content[126:128] not in (b"IM", b"MI"):
        raise ValueError("no MATLAB 5 header")
    order = "<" if content[126:128] == b"IM" else ">"
    for kind, body in _elements(content[128:], order):
        if kind == _COMPRESSED:
            inflate = zlib.decompressobj()
            try:
                body = inflate.decompress(body, _LIMIT)
            except zlib.error as error:
                raise ValueError(f"broken compression: {error}") from error
            if inflate.unconsumed_tail:
                raise ValueError(f"more than {_LIMIT} bytes when uncompressed")
            kind, body = next(_elements(body, order), (0, b""))
        if kind == _MATRIX:
            class_id, shape, name, parts = _matrix(body, order)
            if name == variable and class_id == _STRUCT and math.prod(shape) == 1:
                return _field(parts, field, order)
    raise ValueError(f"no structure {variable}")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of every data element; each starts at a multiple of 8 bytes."""
    place = 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start = place + 8
        if kind >> 16:  # a small element: 16 bits of type and size, 4 bytes of content
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
            if size > 4:
                raise ValueError(f"a small element of {size} bytes")
        if size > len(data) - start:
            raise ValueError(f"an element of {size} bytes, of which {len(data) - start} are there")
        yield kind, data[start : start + size]
        end = start + size
        place = end if kind == _COMPRESSED else end + -end % 8


def _matrix(body: bytes, order: str) -> tuple[int, tuple[int, ...], str, Iterator]:
    """Return a matrix's class, shape and name, and its remaining elements."""
    parts = _elements(body, order)
    flags, shape, name = (next(parts, (0, b""))[1] for _ in range(3))
    if len(flags) != 8 or len(shape) % 4:
        raise ValueError("a matrix without flags or shape")
    (class_id,) = struct.unpack_from(f"{order}I", flags)
    dimensions = np.frombuffer(shape, f"{order}i4").tolist()
    if len(dimensions) < 2 or min(dimensions) < 0:
        raise ValueError(f"a matrix of shape {dimensions}")
    return class_id & 0xFF, tuple(dimensions), name.decode("ascii", "replace"), parts


def _field(parts: Iterator[tuple[int, bytes]], field: str, order: str) -> np.ndarray:
    (kind, length), (_, names) = next(parts, (0, b"")), next(parts, (0, b""))
    size = int.from_bytes(length, "little" if order == "<" else "big")
    if kind != _INT32 or not 0 < size <= 64 or len(names) % size:
        raise ValueError("a structure without names of fields")
    fields = [
        names[start : start + size].split(b"\0")[0].decode("ascii", "replace")
        for start in range(0, len(names), size)
    ]
    for name, (kind, body) in zip(fields, parts, strict=False):
        if name == field and kind == _MATRIX:
            return _numbers(body, order)
    raise ValueError(f"no field {field}")


def _numbers(body: bytes, order: str) -> np.ndarray:
    class_id, shape, _, parts = _matrix(body, order)
    kind, values = next(parts, (0, b""))
    if class_id not in _NUMERIC_CLASSES or kind not in _NUMBERS or len(shape) != 2:
        raise ValueError(f"not a matrix of numbers (class {class_id}, type {kind}, shape {shape})")
    dtype = np.dtype(order + _NUMBERS[kind])
    if math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"shape {shape} for {len(values)} bytes of {dtype}")
    return np.frombuffer(values, dtype).reshape(shape, order="F")
