"""Dataclass values to JSON and back; their hash and difference. A Linen module is one too."""

import dataclasses
import hashlib
import importlib
import json
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_LINEN_FIELDS = ("parent", "name")  # of every Linen module; not configuration


def fields(value: Any) -> dict[str, Any]:
    """Return the configuring fields of a dataclass value by name, Linen's own left out."""
    linen = hasattr(type(value), "apply")
    return {
        field.name: getattr(value, field.name)
        for field in dataclasses.fields(value)
        if field.init and not (linen and field.name in _LINEN_FIELDS)
    }


def to_dict(value: Any) -> Any:
    """Return `value` as JSON data; a dataclass becomes an object with its type's path in "type"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        body = {name: to_dict(item) for name, item in fields(value).items()}
        return {"type": f"{kind.__module__}.{kind.__qualname__}", **body}
    if isinstance(value, tuple | list):
        return [to_dict(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_dict(item) for key, item in value.items()}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot stand in a configuration")


# Names that stored configurations may still have: of types, of fields, of values.
_FORMER_MODULES = {"seg_jax.space.": "seg_jax.search_space."}
_FORMER_FIELDS = {"seg_jax.experiment.EvalConfig": {"protocol": "mode"}}
_FORMER_VALUES = {("seg_jax.experiment.EvalConfig", "mode", "squash"): "resize"}


def upgrade(data: Any) -> Any:
    """Return stored JSON data with today's names in place of former ones."""
    if isinstance(data, list):
        return [upgrade(item) for item in data]
    if not isinstance(data, dict):
        return data
    kind = data.get("type")
    if isinstance(kind, str):
        for old, new in _FORMER_MODULES.items():
            kind = new + kind.removeprefix(old) if kind.startswith(old) else kind
        data = {**data, "type": kind}
    fields = _FORMER_FIELDS.get(kind, {})
    upgraded = {}
    for name, item in data.items():
        name = fields.get(name, name)
        item = upgrade(item)
        former = isinstance(item, str) and (kind, name, item) in _FORMER_VALUES
        upgraded[name] = _FORMER_VALUES[kind, name, item] if former else item
    return upgraded


def from_dict(data: Any) -> Any:
    """Rebuild the value that `to_dict` was given. Only dataclass types are looked up, none called
    but with their own fields; an unknown type or field is a ValueError that names it.
    """
    return _build(upgrade(data))


def _build(data: Any) -> Any:
    if isinstance(data, list):
        return tuple(_build(item) for item in data)
    if not (isinstance(data, dict) and "type" in data):
        return data
    module, _, name = data["type"].rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"configuration names an unknown type {data['type']!r}") from error
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise ValueError(f"configuration names {data['type']!r}, which is no dataclass")
    hints = typing.get_type_hints(kind)
    body = {key: item for key, item in data.items() if key != "type"}
    unknown = sorted(set(body) - {field.name for field in dataclasses.fields(kind)})
    if unknown:
        raise ValueError(f"configuration of {data['type']} has unknown fields {unknown}")
    return kind(**{key: _restore(_build(item), hints[key]) for key, item in body.items()})


def _restore(value: Any, hint: Any) -> Any:
    """JSON has no Path: give it back where the field asks for one."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return Path(value) if isinstance(value, str) and Path in options else value


def flatten(data: Any, prefix: str = "") -> dict[str, Any]:
    """Return the JSON data's leaves by dotted path: {"optim.base_lr": 0.01, ...}."""
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
