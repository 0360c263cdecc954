"""Validators that put the argument's name and value into the error: `positive(steps=0)`."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

_LISTED = 5  # names in an error; `list`, `--help` and the documentation have all


class UserError(Exception):
    """A mistake of the user's: the command line prints it in one line and exits with 2.

    The message names the file or argument, the value found, and the remedy. Names that come out of
    files may hold control characters: they are shown escaped.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def positive(**arguments: float) -> None:
    """Raise ValueError unless every argument is > 0."""
    for name, value in arguments.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")


def non_negative(**arguments: float) -> None:
    """Raise ValueError unless every argument is >= 0."""
    for name, value in arguments.items():
        if not value >= 0:
            raise ValueError(f"{name} must not be negative, got {value}")


def fraction(**arguments: float) -> None:
    """Raise ValueError unless every argument lies in [0, 1]."""
    for name, value in arguments.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {value}")


def at_most(limit: float, **arguments: float) -> None:
    """Raise ValueError unless every argument is <= `limit`."""
    for name, value in arguments.items():
        if not value <= limit:
            raise ValueError(f"{name} must be at most {limit}, got {value}")


def path_component(name: str, what: str = "name") -> str:
    """Return `name` if it can be the name of a file inside a folder, whatever it came from.

    Args:
      name: from a file that may be a stranger's.
      what: it is, for the error.

    Raises:
      UserError: it is empty, has a separator or a control character, is "." or "..", or is longer
        than file systems allow.
    """
    long = len(name.encode(errors="replace")) > 200
    if not name or name in (".", "..") or long or not name.isprintable() or {*name} & {*"/\\"}:
        shown = printable(name if len(name) < 80 else f"{name[:77]}...")
        raise UserError(f"{what} '{shown}' cannot be the name of a file: give another one")
    return name


def printable(text: Any, *, lines: bool = False) -> str:
    """Return text for a terminal: control characters are escaped, so that none takes effect.

    Args:
      text: converted by `str`.
      lines: keep line ends and tabs.
    """
    kept = "\n\t" if lines else ""
    return "".join(
        each if each.isprintable() or each in kept else ascii(each)[1:-1] for each in str(text)
    )


def one_of(options: Iterable[Any], **arguments: Any) -> None:
    """Raise ValueError unless every argument is one of `options`; the closest are named."""
    options = tuple(options)
    for name, value in arguments.items():
        if value not in options:
            raise ValueError(f"{name}: {unknown(str(value), map(str, options))}")


def unknown(name: str, known: Iterable[str]) -> str:
    """Return the sentence for an unknown name: the closest known ones, else the first ones."""
    known = sorted(known)
    if close := get_close_matches(name, known, n=3, cutoff=0.5):
        return f"unknown name {name!r}; did you mean {', '.join(close)}?"
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED + 1 else ""
    listed = known[:_LISTED] if more else known
    return f"unknown name {name!r}; known: {', '.join(listed)}{more}"


def logits_shape(logits: Any, label: Any) -> None:
    """Raise ValueError unless logits [n h w k] and label [n h w] fit together."""
    if logits.ndim != 4 or label.ndim != 3 or logits.shape[:3] != label.shape:
        raise ValueError(
            f"logits {logits.shape} and label {label.shape} do not fit: "
            "expected [n h w k] and [n h w] of the same n, h, w"
        )
