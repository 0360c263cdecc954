"""Whether a value may stand in a field, by the field's annotation."""

import types
import typing
from collections.abc import Callable
from typing import Any


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value may stand in a field of this annotation; an int may be a float.

    Args:
      value: what is to stand in the field.
      hint: a type, Literal, tuple[...], dict[...], Any, or a union of such.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return True
    if origin is Callable or hint is Callable:
        return callable(value)
    if origin is typing.Literal:
        return any(value == option and type(value) is type(option) for option in arguments)
    if origin is typing.Annotated:
        return fits(value, arguments[0])
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1:] == (...,):
            return all(fits(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    if hint in (None, type(None)):
        return value is None
    if hint is float:
        return type(value) in (int, float)
    if hint is int or hint is bool:
        return type(value) is hint
    if getattr(hint, "_is_protocol", False):  # an initializer, say
        return callable(value)
    return isinstance(value, origin or hint)


def type_name(hint: Any) -> str:
    """Return an annotation as it is written."""
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
