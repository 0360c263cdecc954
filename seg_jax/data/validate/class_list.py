"""Write classes.txt for a folder that has none, by the values of its masks."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from seg_jax import files
from seg_jax.checks import UserError
from seg_jax.data import images
from seg_jax.data.datasets import folder
from seg_jax.data.source import is_hidden
from seg_jax.types import IGNORE

FILE = "classes.txt"
_MOST = 40  # values; masks with more were resized with interpolation, or hold no classes
_MASKS = 5000  # that are read


def missing(root: Path) -> list[str]:
    """Return the lines that the missing classes.txt of a folder is to have; empty: it has one, or
    is no such folder.

    Masks of 0 and 255 are background and object. Otherwise each value is a class, named by its
    number, 0 the background, and 255 void.

    Raises:
      UserError: there are no masks, a mask cannot be read, or the values are no classes.
    """
    masks = root / "masks"
    if os.path.lexists(root / FILE) or not masks.is_dir() or not (root / "images").is_dir():
        return []
    there = [p for p in sorted(masks.rglob("*")) if not is_hidden(p.relative_to(masks).as_posix())]
    found = [path for path in there if path.suffix.lower() in folder.MASK_SUFFIXES]
    if not found:
        lossy = [path for path in there if path.suffix.lower() in folder.LOSSY_SUFFIXES]
        if lossy:
            raise UserError(f"{lossy[0]}: {images.LOSSY_MASK}")
        kinds = ", ".join(folder.MASK_SUFFIXES)
        raise UserError(f"{masks}: no masks in this folder (looked for {kinds})")
    chosen = found[:: -(-len(found) // _MASKS)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        values = sorted(set().union(*pool.map(_values, chosen)))
    if values == [0, IGNORE]:
        return ["0 background", f"{IGNORE} object"]
    classes = [value for value in values if value != IGNORE]
    if not 1 < len(classes) <= _MOST:
        more = ", ..." if len(classes) > 5 else ""
        what = f"the {len(classes)} values {', '.join(map(str, classes[:5]))}{more}"
        raise UserError(
            f"{root / FILE}: no such file, and the masks hold {what}, "
            "which are no classes by themselves: write one class a line, 'VALUE NAME'"
        )
    return [f"{value} {'background' if value == 0 else f'class_{value}'}" for value in classes]


def write(path: Path, lines: Sequence[str]) -> None:
    """Write the lines."""
    files.write_text(path, "\n".join(lines) + "\n")


def _values(path: Path) -> set[int]:
    return set(np.unique(images.read_label(path)).tolist())
