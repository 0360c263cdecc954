"""Variables of TensorFlow 1 files without TensorFlow: checkpoints and frozen graphs.

A checkpoint is an index, which is a table in LevelDB's format (doc/table_format.md there) from
names to positions, and files of raw arrays (tensorflow/core/util/tensor_bundle). A frozen graph
holds the variables as constants (tensorflow/core/framework, graph.proto and others).
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from seg_jax.checks import UserError
from seg_jax.pretrained.formats import protobuf, reading

_FLOAT, _INT32, _INT64 = 1, 3, 9  # DataType
_DTYPES = {_FLOAT: "<f4", 2: "<f8", _INT32: "<i4", _INT64: "<i8"}
_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_LONGEST_NAME = 4096  # bytes: an entry of three bytes takes its name from the one before
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
      UserError: it is neither, is damaged, or the files of arrays are not beside the index.
    """
    path = Path(path)
    kind = "frozen graph" if path.suffix == ".pb" else "checkpoint"
    data = reading.read_bytes(path)
    with reading.explained(path, f"TensorFlow {kind}"):
        return _frozen(data) if path.suffix == ".pb" else _checkpoint(path, data)


def data_files(index: Path) -> list[Path]:
    """Return the files of arrays beside a checkpoint's index."""
    return sorted(index.parent.glob(f"{index.stem}.data-*"))


def _checkpoint(index: Path, content: bytes) -> dict[str, np.ndarray]:
    entries = dict(_table(content))
    header = protobuf.parse(_SCHEMA, "Header", entries.pop(b""))
    if header.endianness:
        raise ValueError("its numbers are big-endian")
    shards = data_files(index)
    if len(shards) != header.shards:
        raise UserError(
            f"{index}: {len(shards)} of its {header.shards} files {index.stem}.data-* are beside it"
        )
    data = [_mapped(shard) for shard in shards]
    budget = reading.Budget(len(content) + sum(map(len, data)))
    found = {}
    for name, stored in entries.items():
        entry = protobuf.parse(_SCHEMA, "Entry", stored)
        if entry.dtype in _DTYPES:
            begin, shard = entry.offset, data[entry.shard]
            if not 0 <= begin <= begin + entry.size <= len(shard):
                raise ValueError(f"{reading.printable(name)} lies outside of its file")
            numbers = shard[begin : begin + entry.size]
            found[name.decode()] = _array(entry, numbers, budget)
    return found


def _mapped(shard: Path) -> np.ndarray:
    with reading.open_regular(shard) as file:
        size = file.seek(0, 2)
        return np.memmap(file, np.uint8, "r") if size else np.zeros(0, np.uint8)


def _frozen(data: bytes) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    budget = reading.Budget(len(data))
    for node in protobuf.parse(_SCHEMA, "Graph", data).node:
        name = protobuf.text(node.name).removesuffix("/read")
        if node.op != "Const" or name.rpartition("/")[2] not in _VARIABLES:
            continue
        (tensor,) = (item.value.tensor for item in node.attr if item.key == "value")
        numbers = np.frombuffer(tensor.content or tensor.float_val, np.uint8)
        found[name] = _array(tensor, numbers, budget)
    if not found:
        raise ValueError("no constant in it is named as a variable")
    return found


def _array(described: Any, data: np.ndarray, budget: reading.Budget) -> np.ndarray:
    """Return a tensor of its bytes, uint8 [n]."""
    dtype = np.dtype(_DTYPES[described.dtype])
    shape = budget.shape([dim.size for dim in described.shape.dim], dtype)
    numbers = np.frombuffer(data.tobytes(), dtype)
    if numbers.size == 1:  # TensorFlow stores a constant of equal numbers once
        return np.full(shape, numbers[0])
    return numbers.reshape(shape)


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a LevelDB table."""
    if len(data) < _FOOTER or struct.unpack_from("<Q", data, len(data) - 8)[0] != _MAGIC:
        raise ValueError("it does not end as one")
    place = len(data) - _FOOTER
    for _ in range(2):  # of an unused index of meta data
        _, place = protobuf.varint(data, place)
    index, _ = _handle(data, place)
    for _, handle in _block(data, index):
        block, _ = _handle(handle, 0)
        yield from _block(data, block)


def _handle(data: bytes, place: int) -> tuple[tuple[int, int], int]:
    """Return a block's (offset, size), and where the handle ends."""
    offset, place = protobuf.varint(data, place)
    size, place = protobuf.varint(data, place)
    return (offset, size), place


def _block(data: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    offset, size = handle
    if not 4 <= size < len(data) - offset:
        raise ValueError("a block of its index lies outside of it")
    if data[offset + size]:
        raise ValueError("its index is compressed, which TensorFlow does not do")
    block = data[offset : offset + size]
    (restarts,) = struct.unpack_from("<I", block, size - 4)
    place, end, key = 0, size - 4 - 4 * restarts, b""
    while place < end:
        shared, place = protobuf.varint(block, place)
        own, place = protobuf.varint(block, place)
        length, place = protobuf.varint(block, place)
        if own + length > end - place or shared > min(len(key), _LONGEST_NAME):
            raise ValueError("an entry of its index lies outside of it")
        key = key[:shared] + block[place : place + own]
        place += own
        yield key, block[place : place + length]
        place += length
