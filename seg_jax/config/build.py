"""JSON data to configurations: only allowed types, every value checked against its field's type."""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any

from seg_jax.config import allowed, values
from seg_jax.config.fits import fits, type_name
from seg_jax.config.former import upgrade

MODULE = {"stored": "module"}  # metadata of a field of type Any that holds a Linen module
_DEEPEST = 40  # levels of objects and lists; our own configurations have six
_LONGEST = 4096  # letters of a string, items of a list
_MOST = 100_000  # values in all
_LARGEST = 2**53  # of a number


def from_dict(data: Any, kind: type = object) -> Any:
    """Rebuild the value that `to_dict` was given.

    Args:
      data: JSON data, as `json.loads` returns it.
      kind: what the value must be an instance of.

    Raises:
      ValueError: in one line, with the dotted path of the field: a type is not on the allow-list
        (see `register_type`), a field is unknown, missing or of another type, or a value is refused
        by the check of its own type.
    """
    _check_plain(data)
    value = _build(upgrade(data), "")
    if not isinstance(value, kind):
        found = f"a {type(value).__name__}" if dataclasses.is_dataclass(value) else _shown(data)
        raise ValueError(f"should describe a {kind.__name__} by its fields, found {found}")
    return value


def _check_plain(data: Any) -> None:
    """Raise ValueError for data that no configuration of ours has: too deep, long or large."""
    level, depth, count = [("", data)], 0, 0
    while level:
        count += len(level)
        if depth > _DEEPEST or count > _MOST:
            raise ValueError(f"more than {_DEEPEST} levels or {_MOST} values")
        inner = []
        for where, item in level:
            if isinstance(item, int | float) and not abs(item) <= _LARGEST:
                raise ValueError(f"{_at(where)}no number of up to {_LARGEST}")
            if isinstance(item, str | list | dict) and len(item) > _LONGEST:
                raise ValueError(f"{_at(where)}longer than {_LONGEST}")
            children = enumerate(item) if isinstance(item, list) else ()
            children = item.items() if isinstance(item, dict) else children
            inner += [(_join(where, key), child) for key, child in children]
        level, depth = inner, depth + 1


def _build(data: Any, where: str) -> Any:
    if isinstance(data, list):
        return tuple(_build(item, _join(where, index)) for index, item in enumerate(data))
    if not isinstance(data, dict):
        return data
    if "type" not in data:
        return {key: _build(item, _join(where, key)) for key, item in data.items()}
    if not isinstance(data["type"], str):
        raise ValueError(f"{_at(where)}type should be a name, found {_shown(data['type'])}")
    try:
        kind = allowed.find(data["type"])
    except ValueError as error:
        raise ValueError(f"{_at(where)}{error}") from error
    body = {key: item for key, item in data.items() if key != "type"}
    known = {field.name: field for field in values.fields_of(kind)}
    for name in body:
        if name not in known:
            raise ValueError(f"{_at(where)}{kind.__name__} has no field {_shown(name)}")
    for name, field in known.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and name not in body:
            raise ValueError(f"{_at(where)}field {name} of {kind.__name__} is missing")
    try:
        hints = typing.get_type_hints(kind)
    except NameError as error:
        raise ValueError(f"{_at(where)}the types of {kind.__name__}: {error}") from error
    arguments = {}
    for name, item in body.items():
        place = _join(where, name)
        hint = _stored_hint(known[name], hints[name])
        value = _restore(_build(item, place), hint)
        if "stored" in known[name].metadata and not _is_module(value):
            raise ValueError(f"{place} should be a network, found {_shown(item)}")
        if not fits(value, hint):
            raise ValueError(f"{place} should be {type_name(hint)}, found {_shown(item)}")
        arguments[name] = value
    try:
        return kind(**arguments)
    except Exception as error:  # a type's own check raises what it likes
        raise ValueError(f"{_at(where)}{error}") from error


_Numbers = float | tuple[float, ...] | tuple[tuple[float, ...], ...]


def _stored_hint(field: dataclasses.Field, hint: Any) -> Any:
    """Return what a field holds in a file: numbers where it is Any so that it can hold tracers."""
    is_number = type(field.default) in (int, float)
    return _Numbers if hint is Any and is_number else hint


def _is_module(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and values.is_module(type(value))


def _restore(value: Any, hint: Any) -> Any:
    """JSON has no Path, and `_build` makes tuples: give the field what it asks for."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if isinstance(value, tuple) and any(typing.get_origin(each) is list for each in options):
        return list(value)
    return Path(value) if isinstance(value, str) and Path in options else value


def _join(where: str, name: Any) -> str:
    return f"{where}.{name}" if where else str(name)


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return repr(value["type"]) if isinstance(value.get("type"), str) else "an object"
    text = repr(value)
    return text if len(text) < 60 else f"a {type(value).__name__}"
