"""The convolutions of a TensorFlow Lite file, read from its FlatBuffers tables.

Field numbers are those of TensorFlow's schema (tensorflow/compiler/mlir/lite/schema/schema.fbs,
version 3), of which fields are only ever added. Nothing of the file is executed.
"""

import dataclasses
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers.table
import numpy as np
from flatbuffers import number_types

from seg_jax.checks import UserError
from seg_jax.pretrained.formats import reading

_DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 4: np.int64, 9: np.int8}
_CONV_2D, _DEPTHWISE_CONV_2D = 3, 4
_IDENTIFIER = b"TFL3"
_MOST_TABLES = 50_000  # of all lists in a file: an offset of four bytes makes an object of 300
_MOST_CHANNELS = 1 << 16


@dataclasses.dataclass(frozen=True)
class Quantization:
    """real = scale * (stored - zero_point), along `axis` if there are several scales."""

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int

    def dequantise(self, stored: np.ndarray) -> np.ndarray:
        """Return float32 values of integers."""
        shape = [1] * stored.ndim
        if self.scale.size > 1:
            shape[self.axis] = -1
        scale, zero = self.scale.reshape(shape), self.zero_point.reshape(shape)
        return (scale * (stored.astype(np.float64) - zero)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution and its bias, dequantised.

    Attributes:
      scope: of its weights in the TensorFlow graph, "MobilenetV2/expanded_conv/project".
      kernel: float32 [kh kw cin cout], of a depthwise one [kh kw 1 c*m].
      bias: float32 [cout].
      stride, rate: vertical; the horizontal ones are equal in the files that are read here.
    """

    scope: str
    kernel: np.ndarray
    bias: np.ndarray
    stride: int
    rate: int


@dataclasses.dataclass(frozen=True)
class Graph:
    """The parts of a file that importers need.

    Attributes:
      convolutions: in the order in which they run.
      input_shape: (1, h, w, 3).
      input_quantization: None: the input is float.
    """

    convolutions: tuple[Convolution, ...]
    input_shape: tuple[int, ...]
    input_quantization: Quantization | None


def read(path: Path) -> Graph:
    """Read a .tflite file.

    Raises:
      UserError: it is not such a file, is damaged, or stores weights in an unsupported form.
    """
    data = reading.read_bytes(Path(path))
    if data[4:8] != _IDENTIFIER:
        raise UserError(f"{path}: no TensorFlow Lite file: {_IDENTIFIER.decode()} is not in it")
    with reading.explained(path, "network of images"):
        return _graph(data, reading.Budget(len(data)))


def _graph(data: bytes, budget: reading.Budget) -> Graph:
    root = struct.unpack_from("<I", data)[0]
    model = _Table(data, root)
    codes = [max(code.number(0, "Int8"), code.number(3, "Int32")) for code in model.tables(1)]
    graph = model.tables(2)[0]
    tensors, buffers = graph.tables(0), model.tables(4)
    found = []
    for operator in graph.tables(3):
        code = codes[operator.number(0, "Uint32")]
        if code in (_CONV_2D, _DEPTHWISE_CONV_2D):
            indices = operator.vector(1, np.int32)
            if len(indices) != 3:
                raise ValueError(f"a convolution of {len(indices)} inputs")
            inputs = [tensors[index] for index in indices]
            found.append(_convolution(code, operator.table(4), inputs, buffers, budget))
    (entry,) = graph.vector(1, np.int32)
    shape = tuple(int(side) for side in tensors[entry].vector(0, np.int32))
    return Graph(tuple(found), shape, _quantization(tensors[entry]))


def _convolution(
    code: int,
    options: "_Table | None",
    inputs: "Sequence[_Table]",
    buffers: "Sequence[_Table]",
    budget: reading.Budget,
) -> Convolution:
    _, weights, bias = inputs
    if options is None:
        raise ValueError("a convolution without options")
    kernel = _values(weights, buffers, budget)
    # CONV_2D stores [cout kh kw cin], DEPTHWISE_CONV_2D [1 kh kw c*m].
    order = (1, 2, 3, 0) if code == _CONV_2D else (1, 2, 0, 3)
    rate = 5 if code == _CONV_2D else 6
    return Convolution(
        # A converter that fuses operators joins their names with ";", the weights' own first.
        scope=weights.string(3).partition(";")[0].rpartition("/")[0],
        kernel=np.ascontiguousarray(kernel.transpose(order)),
        bias=_values(bias, buffers, budget),
        stride=options.number(2, "Int32"),
        rate=options.number(rate, "Int32", default=1),
    )


def _values(tensor: "_Table", buffers: "Sequence[_Table]", budget: reading.Budget) -> np.ndarray:
    name, kind = tensor.string(3), tensor.number(1, "Int8")
    stored = buffers[tensor.number(2, "Uint32")].vector(0, np.uint8)
    if kind not in _DTYPES or not stored.size:
        raise ValueError(
            f"weights {reading.printable(name)} are of type {kind} or computed: only stored ones "
            "are read"
        )
    # Several tensors may share one buffer. Dequantising takes 24 bytes a number for a moment.
    shape = budget.shape(tensor.vector(0, np.int32), np.float32)
    values = stored.view(_DTYPES[kind]).reshape(shape)
    quantization = _quantization(tensor)
    if quantization and quantization.scale.size not in (1, shape[quantization.axis]):
        raise ValueError(f"{quantization.scale.size} scales for an array of the shape {shape}")
    return quantization.dequantise(values) if quantization else values.astype(np.float32)


def _quantization(tensor: "_Table") -> Quantization | None:
    table = tensor.table(4)
    scale = table.vector(2, np.float32) if table else np.zeros(0)
    if not scale.size:
        return None
    zero = table.vector(3, np.int64)
    if max(scale.size, zero.size) > _MOST_CHANNELS or zero.size not in (1, scale.size):
        raise ValueError(f"a tensor of {scale.size} scales and {zero.size} zero points")
    axis = table.number(6, "Int32")
    return Quantization(scale.astype(np.float64), zero.astype(np.float64), axis)


class _Table:
    """A FlatBuffers table; fields by their number in the schema."""

    def __init__(self, data: bytes, position: int):
        self._table = flatbuffers.table.Table(data, position)

    def _offset(self, field: int) -> int:
        return self._table.Offset(4 + 2 * field)

    def number(self, field: int, kind: str, default: int = 0) -> int:
        flags = getattr(number_types, f"{kind}Flags")
        offset = self._offset(field)
        return self._table.Get(flags, self._table.Pos + offset) if offset else default

    def table(self, field: int) -> "_Table | None":
        offset = self._offset(field)
        if not offset:
            return None
        return _Table(self._table.Bytes, self._table.Indirect(self._table.Pos + offset))

    def tables(self, field: int) -> "list[_Table]":
        offset = self._offset(field)
        if not offset:
            return []
        start, count = self._table.Vector(offset), self._table.VectorLen(offset)
        if count > _MOST_TABLES:
            raise ValueError(f"a list of {count} tables, more than {_MOST_TABLES}")
        places = range(start, start + 4 * count, 4)
        return [_Table(self._table.Bytes, self._table.Indirect(place)) for place in places]

    def vector(self, field: int, dtype: Any) -> np.ndarray:
        offset = self._offset(field)
        if not offset:
            return np.zeros(0, dtype)
        count, start = self._table.VectorLen(offset), self._table.Vector(offset)
        return np.frombuffer(self._table.Bytes, dtype, count, start)

    def string(self, field: int) -> str:
        offset = self._offset(field)
        return self._table.String(self._table.Pos + offset).decode() if offset else ""
