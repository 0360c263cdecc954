"""JSON to frozen dataclasses, strictly: an error names the file, the field and what was found."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from seg_jax.checks import UserError


def parse(kind: Any, data: Any, *, file: str, field: str = "") -> Any:
    """Return `data` as a value of the annotated type `kind`.

    Dataclasses, tuple[X, ...], dict[str, X], X | None, str, int, float, bool and Any are known;
    nothing is converted but a list to a tuple and an int to a float.

    Args:
      kind: type or annotation.
      data: what `json.load` returned.
      file: name for errors.
      field: dotted path of `data` in the file; empty at the top.

    Raises:
      UserError: a field is missing, unknown or of another type.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _parse_dataclass(kind, data, file, field)
    if isinstance(kind, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        rest = [option for option in arguments if option is not type(None)]
        return parse(rest[0], data, file=file, field=field)
    if origin is tuple:
        items = _require(list, data, file, field)
        return tuple(
            parse(arguments[0], item, file=file, field=f"{field}[{index}]")
            for index, item in enumerate(items)
        )
    if origin is dict:
        items = _require(dict, data, file, field)
        return {
            key: parse(arguments[1], item, file=file, field=f"{field}.{key}")
            for key, item in items.items()
        }
    if kind is Any:
        return data
    if kind is float and type(data) is int:
        return float(data)
    return _require(origin or kind, data, file, field)


def _parse_dataclass(kind: type, data: Any, file: str, field: str) -> Any:
    _require(dict, data, file, field)
    known = [item.name for item in dataclasses.fields(kind)]
    prefix = f"{field}." if field else ""
    for name in data:
        if name not in known:
            raise UserError(f"{file}: unknown field {prefix}{name}; known: {', '.join(known)}")
    for item in dataclasses.fields(kind):
        if item.name not in data and item.default is dataclasses.MISSING:
            raise UserError(f"{file}: field {prefix}{item.name} is missing")
    hints = typing.get_type_hints(kind)
    return kind(
        **{
            name: parse(hints[name], value, file=file, field=prefix + name)
            for name, value in data.items()
        }
    )


def _require(kind: type, data: Any, file: str, field: str) -> Any:
    # type(), not isinstance(): True would pass for an int.
    if type(data) is not kind:
        names = {dict: "an object", list: "a list", type(None): "null"}
        expected = names.get(kind, kind.__name__)
        found = repr(data) if len(repr(data)) < 40 else names.get(type(data), type(data).__name__)
        raise UserError(f"{file}: {field or 'the file'} should be {expected}, found {found}")
    return data


def plain(value: Any) -> Any:
    """Return a dataclass value as what `json.dump` takes; the inverse of `parse`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return value
