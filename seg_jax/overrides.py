"""Fields of an experiment by their dotted names: to replace them, and as command-line options."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seg_jax import checks, config
from seg_jax.checks import UserError

IDENTITY = ("family", "paper", "name")  # what an experiment is


def apply(experiment: Any, values: Mapping[str, Any]) -> Any:
    """Return the experiment with the dotted fields replaced; Linen modules inside it as well.

    A field that does not exist, or a value that its dataclass refuses, is a UserError.
    """
    for path, value in values.items():
        owner(experiment, path)
        try:
            experiment = _replace(experiment, path.split("."), value)
        except ValueError as error:
            raise UserError(f"space: {path} = {value!r} is refused: {error}") from error
    return experiment


def _replace(node: Any, path: Sequence[str], value: Any) -> Any:
    head, *rest = path
    changed = _replace(getattr(node, head), rest, value) if rest else value
    return dataclasses.replace(node, **{head: changed})


def owner(experiment: Any, path: str) -> tuple[Any, str]:
    """Return the dataclass value that holds the field, and the field's own name."""
    *groups, name = path.split(".")
    node, so_far = experiment, ""
    for part in (*groups, name):
        is_group = dataclasses.is_dataclass(node)
        known = [f for f in config.fields(node) if so_far or f not in IDENTITY] if is_group else []
        if part not in known:
            closest = checks.unknown(part, known) if known else "it has no fields"
            raise UserError(f"space: {path}: {so_far or 'experiment'}: {closest}")
        owner, node = node, getattr(node, part)
        so_far = f"{so_far}.{part}" if so_far else part
    return owner, name


def flags(default: Any, changed: Any, path: str = "") -> Iterator[str]:
    """Yield the command line's arguments that turn one experiment into the other.

    Raises:
      ValueError: they differ in more than the values of fields.
    """
    if type(default) is not type(changed):
        raise ValueError(f"{path or 'experiment'}: a {type(default).__name__} became another type")
    new = config.fields(changed)
    for name, old in config.fields(default).items():
        here = f"{path}.{name}" if path else name
        if dataclasses.is_dataclass(old):
            yield from flags(old, new[name], here)
        elif old != new[name]:
            yield from _flag(here.replace("_", "-"), new[name])


def _flag(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool):
        group, _, name = path.rpartition(".")
        yield f"--{path}" if value else f"--{group}.no-{name}"
        return
    yield f"--{path}"
    yield from _words(value)


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, tuple):
        for item in value:
            yield from _words(item)
    else:
        yield repr(value) if isinstance(value, float) else str(value)
