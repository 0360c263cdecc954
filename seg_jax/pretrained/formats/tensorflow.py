"""Variables of TensorFlow 1 files without TensorFlow: checkpoints and frozen graphs.

A checkpoint is an index, a table of LevelDB's format (doc/table_format.md there) from names to the
places of their numbers, and files of nothing but numbers (tensorflow/core/util/tensor_bundle). A
frozen graph holds the variables as constants (tensorflow/core/framework, graph.proto and others).
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import message

from seg_jax.checks import UserError
from seg_jax.pretrained.formats import protobuf

_FLOAT, _INT32, _INT64 = 1, 3, 9  # DataType
_DTYPES = {_FLOAT: "<f4", 2: "<f8", _INT32: "<i4", _INT64: "<i8"}
_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
# What variables of convolutions and norms are called; a graph has many other constants.
_VARIABLES = ("weights", "depthwise_weights", "biases", "gamma", "beta", "moving_mean",
              "moving_variance")  # fmt: skip

_SCHEMA = {
    "Dim": [("size", 1, protobuf.INT64, False)],
    "Shape": [("dim", 2, "Dim", True)],
    "Entry": [
        ("dtype", 1, protobuf.INT32, False),
        ("shape", 2, "Shape", False),
        ("shard", 3, protobuf.INT32, False),
        ("offset", 4, protobuf.INT64, False),
        ("size", 5, protobuf.INT64, False),
    ],
    "Header": [("shards", 1, protobuf.INT32, False), ("endianness", 2, protobuf.INT32, False)],
    "Tensor": [
        ("dtype", 1, protobuf.INT32, False),
        ("shape", 2, "Shape", False),
        ("content", 4, protobuf.BYTES, False),
        ("float_val", 5, protobuf.BYTES, False),  # repeated float, packed
    ],
    "Value": [("tensor", 8, "Tensor", False)],
    "Attribute": [("key", 1, protobuf.STRING, False), ("value", 2, "Value", False)],
    "Node": [
        ("name", 1, protobuf.STRING, False),
        ("op", 2, protobuf.STRING, False),
        ("attr", 5, "Attribute", True),
    ],
    "Graph": [("node", 1, "Node", True)],
}


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the variables of a checkpoint (its .index file) or of a frozen graph (.pb).

    Raises:
      UserError: it is neither, is damaged, or the files of numbers are not beside the index.
    """
    path = Path(path)
    try:
        return _frozen(path.read_bytes()) if path.suffix == ".pb" else _checkpoint(path)
    except (message.DecodeError, struct.error, ValueError, IndexError, KeyError) as error:
        kind = "frozen graph" if path.suffix == ".pb" else "checkpoint"
        raise UserError(f"{path}: no TensorFlow {kind}, or damaged ({error})") from error


def data_files(index: Path) -> list[Path]:
    """Return the files of numbers beside a checkpoint's index."""
    return sorted(index.parent.glob(f"{index.stem}.data-*"))


def _checkpoint(index: Path) -> dict[str, np.ndarray]:
    entries = dict(_table(index.read_bytes()))
    header = protobuf.parse(_SCHEMA, "Header", entries.pop(b""))
    if header.endianness:
        raise ValueError("its numbers are big-endian")
    shards = data_files(index)
    if len(shards) != header.shards:
        raise UserError(
            f"{index}: {len(shards)} of its {header.shards} files {index.stem}.data-* are beside it"
        )
    data = [np.memmap(shard, np.uint8, "r") for shard in shards]
    found = {}
    for name, stored in entries.items():
        entry = protobuf.parse(_SCHEMA, "Entry", stored)
        if entry.dtype in _DTYPES:
            numbers = data[entry.shard][entry.offset : entry.offset + entry.size]
            found[name.decode()] = _array(entry, numbers.tobytes())
    return found


def _frozen(data: bytes) -> dict[str, np.ndarray]:
    found = {}
    for node in protobuf.parse(_SCHEMA, "Graph", data).node:
        name = node.name.removesuffix("/read")
        if node.op != "Const" or name.rpartition("/")[2] not in _VARIABLES:
            continue
        (tensor,) = (item.value.tensor for item in node.attr if item.key == "value")
        found[name] = _array(tensor, tensor.content or tensor.float_val)
    if not found:
        raise ValueError("no constant in it is named as a variable")
    return found


def _array(described: Any, data: bytes) -> np.ndarray:
    shape = tuple(dim.size for dim in described.shape.dim)
    numbers = np.frombuffer(data, _DTYPES[described.dtype])
    if numbers.size == 1:  # TensorFlow stores a constant of equal numbers once
        return np.full(shape, numbers[0])
    return numbers.reshape(shape)


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a LevelDB table."""
    if len(data) < _FOOTER or struct.unpack_from("<Q", data, len(data) - 8)[0] != _MAGIC:
        raise ValueError("it does not end as one")
    place = len(data) - _FOOTER
    for _ in range(2):  # of an unused index of meta data
        _, place = _varint(data, place)
    index, _ = _handle(data, place)
    for _, handle in _block(data, index):
        block, _ = _handle(handle, 0)
        yield from _block(data, block)


def _handle(data: bytes, place: int) -> tuple[tuple[int, int], int]:
    """Return a block's (offset, size), and where the handle ends."""
    offset, place = _varint(data, place)
    size, place = _varint(data, place)
    return (offset, size), place


def _block(data: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    offset, size = handle
    if data[offset + size]:
        raise ValueError("its index is compressed, which TensorFlow does not do")
    block = data[offset : offset + size]
    (restarts,) = struct.unpack_from("<I", block, size - 4)
    place, end, key = 0, size - 4 - 4 * restarts, b""
    while place < end:
        shared, place = _varint(block, place)
        own, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + own]
        place += own
        yield key, block[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the number of 7 bits a byte at `place`, and where it ends."""
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place
