"""Parse protobuf messages of which only some fields matter, declared in Python by their numbers."""

import functools
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
INT32, INT64 = _FIELD.TYPE_INT32, _FIELD.TYPE_INT64
STRING, BYTES = _FIELD.TYPE_STRING, _FIELD.TYPE_BYTES

# Message -> (field, number, a type above or a message's name, repeated).
Schema = dict[str, list[tuple[str, int, Any, bool]]]


def parse(schema: Schema, name: str, data: bytes) -> Any:
    """Return the message `name` of a schema, parsed; fields that it does not declare are skipped.

    Packed numbers may be declared as bytes: that saves a Python object for each.

    Raises:
      google.protobuf.message.DecodeError: the bytes are none.
    """
    found = _classes(_frozen(schema))[name]()
    found.ParseFromString(data)
    return found


def _frozen(schema: Schema) -> tuple:
    return tuple((name, tuple(fields)) for name, fields in schema.items())


@functools.cache
def _classes(schema: tuple) -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="wire.proto", package="wire", syntax="proto2")
    for name, fields in schema:
        kind = file.message_type.add(name=name)
        for field_name, number, type_, repeated in fields:
            label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            field = kind.field.add(name=field_name, number=number, label=label)
            if isinstance(type_, str):
                field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".wire.{type_}"
            else:
                field.type = type_
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"wire.{name}"))
        for name, _ in schema
    }
