"""Tensors of .safetensors files: a length, a header in JSON, then nothing but numbers.

An own reader, for the library's NumPy interface knows no bfloat16; the format is the one of
github.com/huggingface/safetensors, README.
"""

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from seg_jax.pretrained.formats import reading

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_LARGEST_HEADER = 8 << 20  # bytes: 50,000 tensors


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a .safetensors file by their names; bfloat16 becomes float32.

    Raises:
      UserError: it is no such file, is damaged, or has numbers of a type that NumPy lacks.
    """
    return from_bytes(reading.read_bytes(path), path)


def from_bytes(data: bytes, path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file's content; `path` is named in errors."""
    with reading.explained(path, "safetensors file"):
        return _tensors(data)


def _tensors(data: bytes) -> dict[str, np.ndarray]:
    (length,) = struct.unpack_from("<Q", data)
    if not 2 <= length <= min(len(data) - 8, _LARGEST_HEADER):
        raise ValueError(f"its header has {length} bytes")
    header = json.loads(data[8 : 8 + length].decode())
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    header.pop("__metadata__", None)
    # The tensors' numbers follow one another without a gap, as the format demands: no two share.
    end, found = 0, {}
    for name, described in sorted(header.items(), key=lambda item: _offsets(*item)):
        begin, stop = _offsets(name, described)
        if begin != end:
            raise ValueError(f"{reading.printable(name)} does not begin where another ends")
        found[name] = _tensor(name, described, data[8 + length + begin : 8 + length + stop])
        end = stop
    if end != len(data) - 8 - length:
        raise ValueError("its numbers do not end with the file")
    return found


def _offsets(name: str, described: Any) -> tuple[int, int]:
    begin, stop = described["data_offsets"]
    if not (type(begin) is type(stop) is int and 0 <= begin <= stop):
        raise ValueError(f"{reading.printable(name)} lies from {begin} to {stop}")
    return begin, stop


def _tensor(name: str, described: Any, stored: bytes) -> np.ndarray:
    kind, shape = described["dtype"], described["shape"]
    if kind not in _DTYPES:
        raise ValueError(
            f"{reading.printable(name)} is {reading.printable(kind)}, which is not read here: "
            "convert it to F32"
        )
    if len(shape) > 32 or not all(type(side) is int and 0 <= side < 2**62 for side in shape):
        raise ValueError(f"{reading.printable(name)} has the shape {reading.printable(shape)}")
    dtype = np.dtype(_DTYPES[kind])
    if math.prod(shape) * dtype.itemsize != len(stored):
        raise ValueError(
            f"{reading.printable(name)} has the shape {reading.printable(shape)} and "
            f"{len(stored)} bytes"
        )
    values = np.frombuffer(stored, dtype).reshape(shape)
    return reading.from_bfloat16(values) if kind == "BF16" else values.copy()
