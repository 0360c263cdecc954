"""Parse protobuf messages of which only some fields are declared, by their numbers."""

import functools
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
INT32, INT64 = _FIELD.TYPE_INT32, _FIELD.TYPE_INT64
STRING, BYTES = _FIELD.TYPE_STRING, _FIELD.TYPE_BYTES

MOST_FIELDS = 300_000  # of all messages of a file; the graph of DeepLab on Xception has 100,000
# Message -> (field, number, a type above or a message's name, repeated).
Schema = dict[str, list[tuple[str, int, Any, bool]]]


def parse(schema: Schema, name: str, data: bytes) -> Any:
    """Return the message `name` of a schema, parsed; fields that it does not declare are skipped.

    Packed numbers may be declared as bytes: that saves a Python object for each.

    Raises:
      google.protobuf.message.DecodeError: the bytes are not such a message.
      ValueError: they hold so many messages that these would take far more memory.
    """
    _count(schema, name, data, 0, len(data), 0)
    found = _classes(_frozen(schema))[name]()
    found.ParseFromString(data)
    return found


def _count(schema: Schema, name: str, data: bytes, place: int, end: int, count: int) -> int:
    """Return `count` plus the fields in data[place:end]; ValueError if there are too many.

    An empty message takes two bytes of a file and a hundred of memory, so they are counted before
    they are parsed.
    """
    inner = {number: kind for _, number, kind, _ in schema[name] if isinstance(kind, str)}
    while place < end:
        count += 1
        if count > MOST_FIELDS:
            raise ValueError(f"it has more than {MOST_FIELDS} fields")
        tag, place = varint(data, place)
        wire = tag & 7
        if wire == 0:
            _, place = varint(data, place)
        elif wire in (1, 5):
            place += 8 if wire == 1 else 4
        elif wire == 2:
            length, place = varint(data, place)
            if length > end - place:
                raise ValueError("a field ends outside of its message")
            if tag >> 3 in inner:
                kind = inner[tag >> 3]
                count = _count(schema, kind, data, place, place + length, count)
            place += length
        else:
            raise ValueError(f"a field has the wire type {wire}")
    return count


def text(value: Any) -> str:
    """Return a string field's value; ValueError if its bytes are no UTF-8."""
    if not isinstance(value, str):
        raise ValueError(f"the name {value!r} is no UTF-8")
    return value


def varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the number of 7 bits a byte at `place`, and where it ends.

    Raises:
      ValueError: it has more than 64 bits.
      IndexError: the data end within it.
    """
    value = shift = 0
    while True:
        byte = data[place]
        if shift > 63:
            raise ValueError("a number has more than 64 bits")
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place


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
