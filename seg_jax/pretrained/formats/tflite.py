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

_DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 4: np.int64, 9: np.int8}
_CONV_2D, _DEPTHWISE_CONV_2D = 3, 4
_IDENTIFIER = b"TFL3"


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
      stride, rate: vertical; the files here have the same horizontally.
    """

    scope: str
    kernel: np.ndarray
    bias: np.ndarray
    stride: int
    rate: int


@dataclasses.dataclass(frozen=True)
class Graph:
    """What importers need of a file.

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
      UserError: it is none, is damaged, or has weights in a form that is not read here.
    """
    data = Path(path).read_bytes()
    if data[4:8] != _IDENTIFIER:
        raise UserError(f"{path}: no TensorFlow Lite file: {_IDENTIFIER.decode()} is not in it")
    try:
        return _graph(data)
    except (struct.error, IndexError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: damaged, or not a network of images ({error})") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _graph(data: bytes) -> Graph:
    root = struct.unpack_from("<I", data)[0]
    model = _Table(data, root)
    codes = [max(code.number(0, "Int8"), code.number(3, "Int32")) for code in model.tables(1)]
    graph = model.tables(2)[0]
    tensors, buffers = graph.tables(0), model.tables(4)
    found = []
    for operator in graph.tables(3):
        code = codes[operator.number(0, "Uint32")]
        if code in (_CONV_2D, _DEPTHWISE_CONV_2D):
            inputs = [tensors[index] for index in operator.vector(1, np.int32)]
            found.append(_convolution(code, operator.table(4), inputs, buffers))
    (entry,) = graph.vector(1, np.int32)
    shape = tuple(int(side) for side in tensors[entry].vector(0, np.int32))
    return Graph(tuple(found), shape, _quantization(tensors[entry]))


def _convolution(
    code: int, options: "_Table", inputs: "Sequence[_Table]", buffers: "Sequence[_Table]"
) -> Convolution:
    _, weights, bias = inputs
    kernel = _values(weights, buffers)
    # CONV_2D stores [cout kh kw cin], DEPTHWISE_CONV_2D [1 kh kw c*m].
    order = (1, 2, 3, 0) if code == _CONV_2D else (1, 2, 0, 3)
    rate = 5 if code == _CONV_2D else 6
    return Convolution(
        # A converter that fuses operators joins their names with ";", the weights' own first.
        scope=weights.string(3).partition(";")[0].rpartition("/")[0],
        kernel=np.ascontiguousarray(kernel.transpose(order)),
        bias=_values(bias, buffers),
        stride=options.number(2, "Int32"),
        rate=options.number(rate, "Int32", default=1),
    )


def _values(tensor: "_Table", buffers: "Sequence[_Table]") -> np.ndarray:
    name, kind = tensor.string(3), tensor.number(1, "Int8")
    stored = buffers[tensor.number(2, "Uint32")].vector(0, np.uint8)
    if kind not in _DTYPES or not stored.size:
        raise UserError(f"weights {name} are of type {kind} or computed: only stored ones are read")
    values = stored.view(_DTYPES[kind]).reshape(tensor.vector(0, np.int32))
    quantization = _quantization(tensor)
    return quantization.dequantise(values) if quantization else values.astype(np.float32)


def _quantization(tensor: "_Table") -> Quantization | None:
    table = tensor.table(4)
    scale = table.vector(2, np.float32) if table else np.zeros(0)
    if not scale.size:
        return None
    zero = table.vector(3, np.int64)
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
        start = self._table.Vector(offset)
        places = range(start, start + 4 * self._table.VectorLen(offset), 4)
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
