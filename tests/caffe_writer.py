"""Writes .caffemodel files with the field types of Caffe's own schema: numbers, not bytes."""

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

SCHEMA = """
name: "written.proto" package: "written" syntax: "proto2"
message_type { name: "BlobShape"
  field { name: "dim" number: 1 type: TYPE_INT64 label: LABEL_REPEATED options { packed: true } } }
message_type { name: "BlobProto"
  field { name: "num" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "channels" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "height" number: 3 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "width" number: 4 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "data" number: 5 type: TYPE_FLOAT label: LABEL_REPEATED options { packed: true } }
  field { name: "diff" number: 6 type: TYPE_FLOAT label: LABEL_REPEATED options { packed: true } }
  field { name: "shape" number: 7 type: TYPE_MESSAGE type_name: ".written.BlobShape"
          label: LABEL_OPTIONAL }
  field { name: "double_data" number: 8 type: TYPE_DOUBLE label: LABEL_REPEATED
          options { packed: true } } }
message_type { name: "LayerParameter"
  field { name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "type" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "bottom" number: 3 type: TYPE_STRING label: LABEL_REPEATED }
  field { name: "blobs" number: 7 type: TYPE_MESSAGE type_name: ".written.BlobProto"
          label: LABEL_REPEATED } }
message_type { name: "V1LayerParameter"
  field { name: "bottom" number: 2 type: TYPE_STRING label: LABEL_REPEATED }
  field { name: "name" number: 4 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "type" number: 5 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "blobs" number: 6 type: TYPE_MESSAGE type_name: ".written.BlobProto"
          label: LABEL_REPEATED }
  field { name: "blobs_lr" number: 7 type: TYPE_FLOAT label: LABEL_REPEATED } }
message_type { name: "NetParameter"
  field { name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "layers" number: 2 type: TYPE_MESSAGE type_name: ".written.V1LayerParameter"
          label: LABEL_REPEATED }
  field { name: "layer" number: 100 type: TYPE_MESSAGE type_name: ".written.LayerParameter"
          label: LABEL_REPEATED } }
"""


def _net_class():
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(SCHEMA, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("written.NetParameter"))


def caffemodel(layers, *, old=False, double=False):
    """Return the bytes of a network of {layer: [blob, ...]}; `old`: V1 layers, shapes of four."""
    net = _net_class()(name="net")
    for name, blobs in layers.items():
        if old:
            layer = net.layers.add(name=name, type=4, bottom=["data"], blobs_lr=[1, 2])
        else:
            layer = net.layer.add(name=name, type="Convolution", bottom=["data"])
        for blob in blobs:
            message = layer.blobs.add()
            if old:
                shape = (1,) * (4 - blob.ndim) + blob.shape
                message.num, message.channels, message.height, message.width = shape
            else:
                message.shape.dim.extend(blob.shape)
            numbers = np.asarray(blob, np.float64).ravel().tolist()
            (message.double_data if double else message.data).extend(numbers)
    return net.SerializeToString()
