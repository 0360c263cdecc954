"""The layers of a .caffemodel file, parsed with protobuf.

Of Caffe's schema (caffe.proto) only the fields that weights need are declared, under their numbers
there: those of the present layers and of the older ones ("V1", to 2015).
"""

from pathlib import Path
from typing import Any

import numpy as np

from seg_jax.checks import UserError
from seg_jax.pretrained.formats import protobuf, reading

_SCHEMA = {
    "BlobShape": [("dim", 1, protobuf.INT64, True)],
    "BlobProto": [
        ("num", 1, protobuf.INT32, False),
        ("channels", 2, protobuf.INT32, False),
        ("height", 3, protobuf.INT32, False),
        ("width", 4, protobuf.INT32, False),
        ("data", 5, protobuf.BYTES, False),  # repeated float, packed
        ("shape", 7, "BlobShape", False),
        ("double_data", 8, protobuf.BYTES, False),  # repeated double, packed
    ],
    "Layer": [("name", 1, protobuf.STRING, False), ("blobs", 7, "BlobProto", True)],
    "V1Layer": [("name", 4, protobuf.STRING, False), ("blobs", 6, "BlobProto", True)],
    "Net": [("layers", 2, "V1Layer", True), ("layer", 100, "Layer", True)],
}


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the blobs of a .caffemodel as "<layer>.<index>" -> float32, by index as in Caffe.

    Shapes are the file's: [out in h w] of a convolution; in older files always four numbers.

    Raises:
      UserError: it is not such a file, or damaged.
    """
    data = reading.read_bytes(path)
    budget = reading.Budget(len(data))
    with reading.explained(path, ".caffemodel file"):
        net = protobuf.parse(_SCHEMA, "Net", data)
        blobs = {
            f"{protobuf.text(layer.name)}.{index}": _array(blob, budget)
            for layer in (*net.layers, *net.layer)
            for index, blob in enumerate(layer.blobs)
        }
    if not blobs:
        raise UserError(f"{path}: no .caffemodel file: no layer in it has weights")
    return blobs


def _array(blob: Any, budget: reading.Budget) -> np.ndarray:
    if blob.HasField("shape"):
        shape = blob.shape.dim
    else:
        shape = (blob.num, blob.channels, blob.height, blob.width)
    values = np.frombuffer(blob.double_data, "<f8") if blob.double_data else None
    values = np.frombuffer(blob.data, "<f4") if values is None else values
    shape = budget.shape(shape, np.float32)
    return values.reshape(shape).astype(np.float32)
