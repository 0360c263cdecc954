"""Configurations (dataclasses and Linen modules): fields, JSON data, digest and difference."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_LINEN_FIELDS = ("parent", "name")  # of every Linen module; not configuration


def is_module(kind: type) -> bool:
    """Return whether a dataclass is a Linen module."""
    return hasattr(kind, "apply")


def fields_of(kind: type) -> tuple[dataclasses.Field, ...]:
    """Return the fields of a dataclass that configure it, without those that Linen adds."""
    linen = is_module(kind)
    return tuple(
        field
        for field in dataclasses.fields(kind)
        if field.init and not (linen and field.name in _LINEN_FIELDS)
    )


def fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass value by name, without those that Linen adds."""
    return {field.name: getattr(value, field.name) for field in fields_of(type(value))}


def path_of(kind: type) -> str:
    """Return the name under which a configuration stores a type: its module and its own name."""
    return f"{kind.__module__}.{kind.__qualname__}"


def to_dict(value: Any) -> Any:
    """Return `value` as JSON data; a dataclass becomes an object with its type's path in "type"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        body = {name: to_dict(item) for name, item in fields(value).items()}
        return {"type": path_of(type(value)), **body}
    if isinstance(value, tuple | list):
        return [to_dict(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_dict(item) for key, item in value.items()}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot stand in a configuration")


def flatten(data: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of JSON data by dotted path: {"optim.base_lr": 0.01, ...}."""
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list):
        items = enumerate(data)
    else:
        return {prefix: data}
    leaves = {}
    for key, item in items:
        leaves |= flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return leaves or {prefix: data}


def difference(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    """Return the dotted paths at which two values' configurations differ, with both values."""
    left, right = flatten(to_dict(old)), flatten(to_dict(new))
    missing = "(absent)"
    return {
        path: (left.get(path, missing), right.get(path, missing))
        for path in sorted(left.keys() | right.keys())
        if left.get(path, missing) != right.get(path, missing)
    }


def digest(value: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of the configuration's canonical JSON."""
    text = json.dumps(to_dict(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def replace_everywhere(value: Any, change: Callable[[Any], Mapping[str, Any]]) -> Any:
    """Rebuild a nested dataclass value with `change(node) -> {field: new value}` at every node,
    inner nodes first.
    """
    if isinstance(value, tuple):
        return tuple(replace_everywhere(item, change) for item in value)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    inner = {name: replace_everywhere(item, change) for name, item in fields(value).items()}
    rebuilt = type(value)(**inner)
    changes = change(rebuilt)
    return type(rebuilt)(**{**fields(rebuilt), **changes}) if changes else rebuilt
