"""Writes TensorFlow Lite files of one convolution, for tests of their reader."""

import flatbuffers
import numpy as np


def numbers(builder, dtype, values):
    return builder.CreateNumpyVector(np.asarray(values, dtype))


def table(builder, **fields):
    """Write a table of {"o3": offset, "i0": int32, "b1": byte, "u2": uint32} by field number."""
    builder.StartObject(12)
    add = {
        "o": builder.PrependUOffsetTRelativeSlot,
        "i": builder.PrependInt32Slot,
        "b": builder.PrependInt8Slot,
        "u": builder.PrependUint32Slot,
    }
    for name, value in fields.items():
        add[name[0]](int(name[1:]), value, 0)
    return builder.EndObject()


def tables(builder, offsets):
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def write_convolution(kernel, bias, scale, zero_point):
    """A file with one atrous CONV_2D of uint8 weights [out kh kw in], one scale an output."""
    builder = flatbuffers.Builder()
    data = [np.zeros(0, np.uint8), kernel, bias.view(np.uint8)]
    buffers = [table(builder, o0=numbers(builder, np.uint8, values.ravel())) for values in data]
    quantization = table(
        builder,
        o2=numbers(builder, np.float32, scale),
        o3=numbers(builder, np.int64, zero_point),
    )
    shapes = ((1, 9, 9, 2), kernel.shape, bias.shape)
    names = ("input", "net/conv/weights;net/conv/Fold", "net/conv/bias")
    tensors = [
        table(
            builder,
            o0=numbers(builder, np.int32, shape),
            b1=kind,
            u2=index,
            o3=builder.CreateString(name),
            **({"o4": quantization} if index == 1 else {}),
        )
        for index, (shape, name, kind) in enumerate(zip(shapes, names, (0, 3, 0), strict=True))
    ]
    options = table(builder, i1=2, i2=2, i4=3, i5=3)  # stride 2, rate 3
    operator = table(builder, o1=numbers(builder, np.int32, [0, 1, 2]), o4=options)
    graph = table(
        builder,
        o0=tables(builder, tensors),
        o1=numbers(builder, np.int32, [0]),
        o3=tables(builder, [operator]),
    )
    code = table(builder, b0=3)
    model = table(
        builder,
        o1=tables(builder, [code]),
        o2=tables(builder, [graph]),
        o4=tables(builder, buffers),
    )
    builder.Finish(model, b"TFL3")
    return bytes(builder.Output())
