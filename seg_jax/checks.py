"""Validators that put the argument's name and value into the error: `positive(steps=0)`."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class UserError(Exception):
    """A mistake of the user's: the command line prints it in one line and exits with 2.

    The message names the file or argument, the value found, and the remedy. Names that come out of
    files may hold control characters: they are shown escaped.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: object) -> str:
    r"""Return the text with what a terminal would obey or hide escaped, e.g. ESC as \x1b."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(text)
    )


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


def one_of(options: Iterable[Any], **arguments: Any) -> None:
    """Raise ValueError unless every argument is one of `options`; the closest are named."""
    options = tuple(options)
    for name, value in arguments.items():
        if value not in options:
            raise ValueError(f"{name}: {unknown(str(value), map(str, options))}")


def unknown(name: str, known: Iterable[str]) -> str:
    """Return the sentence for an unknown name, with the closest known ones."""
    known = sorted(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(known)}"
    return f"unknown name {name!r}; {hint}"


def logits_shape(logits: Any, label: Any) -> None:
    """Raise ValueError unless logits [n h w k] and label [n h w] fit together."""
    if logits.ndim != 4 or label.ndim != 3 or logits.shape[:3] != label.shape:
        raise ValueError(
            f"logits {logits.shape} and label {label.shape} do not fit: "
            "expected [n h w k] and [n h w] of the same n, h, w"
        )
