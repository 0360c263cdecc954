"""Validators that put the argument's name and value into the error: `positive(steps=0)`."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

_LONGEST_PATTERN, _MOST_REPETITIONS = 300, 5
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


def pattern(text: str) -> None:
    """Raise ValueError unless a regular expression is one that is matched in reasonable time.

    A configuration may be a stranger's, and Python's matcher takes exponential time for repeated
    groups and a power of the text's length for many repetitions.
    """
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"pattern {text!r}: {error}") from error
    plain = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "x", text, flags=re.DOTALL)  # escapes, sets of letters
    if len(text) > _LONGEST_PATTERN or len(re.findall(r"[*+{]", plain)) > _MOST_REPETITIONS:
        raise ValueError(
            f"pattern {text[:60]!r}: longer than {_LONGEST_PATTERN} letters, or more than "
            f"{_MOST_REPETITIONS} repetitions (* + {{}}); use several patterns"
        )
    if re.search(r"\)\s*[*+{]", plain):
        raise ValueError(f"pattern {text!r}: a group may not be repeated; write what it stands for")


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


def image_batch(image: Any, name: str = "image", shape: str = "[n h w 3]") -> None:
    """Raise ValueError unless an array is a batch of images as they are stored: uint8 [n h w 3]."""
    if image.ndim == 4 and image.shape[3] != 3 and image.shape[1] == 3:
        raise ValueError(
            f"{name} {image.shape} has its channels first: {shape} is expected, moveaxis(-3, -1)"
        )
    if image.dtype != "uint8" or image.ndim != 4 or image.shape[3] != 3:
        raise ValueError(
            f"{name} must be uint8 {shape}, RGB in 0..255, got {image.dtype} {image.shape}: the "
            "experiment's preprocessing normalises it later"
        )


def network_input(x: Any, channels: int | None) -> None:
    """Raise ValueError if x is no input of a network, float [n h w c]; costs nothing under jit.

    Args:
      x: the input of a layer.
      channels: that the layer's weights take; None: it has none yet.
    """
    if "int" in str(x.dtype):
        raise ValueError(
            f"a network takes normalised float images [n h w c], got {x.dtype} {x.shape}: apply "
            "the preprocessing first (Pretrained.preprocessing, or that of experiment.data)"
        )
    if channels is not None and x.ndim == 4 and x.shape[3] != channels == x.shape[1]:
        raise ValueError(
            f"image {x.shape} has its channels first: the layers take [n h w {channels}], "
            "jnp.moveaxis(image, 1, -1)"
        )


def heads(outputs: Any) -> None:
    """Raise ValueError unless a network's outputs are a dictionary: head -> logits [n h w k]."""
    if hasattr(outputs, "ndim") or not hasattr(outputs, "keys"):
        shape = getattr(outputs, "shape", "")
        raise ValueError(
            f'the outputs of a network are a dictionary, {{"out": logits [n h w k]}}, got '
            f"{type(outputs).__name__} {shape}"
        )


def scored_classes(scored: int, wanted: int) -> None:
    """Raise UserError unless a model scores as many classes as the data set has."""
    if scored != wanted:
        raise UserError(f"the model scores {scored} classes, the data set has {wanted}")


def logits_shape(logits: Any, label: Any) -> None:
    """Raise ValueError unless logits [n h w k] and label [n h w] fit together."""
    if logits.ndim != 4 or label.ndim != 3 or logits.shape[:3] != label.shape:
        raise ValueError(
            f"logits {logits.shape} and label {label.shape} do not fit: "
            "expected [n h w k] and [n h w] of the same n, h, w"
        )
