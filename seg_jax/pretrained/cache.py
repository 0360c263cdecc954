"""Imported files of published weights, stored as <folder>/<catalogue name>/<file as released>.

The folder is $SEG_JAX_WEIGHTS, else the user's own (`files.place`). Files are kept unconverted:
conversion takes seconds, and a converted copy could go out of date.
"""

import os
import shutil
from pathlib import Path

from seg_jax import checks, files
from seg_jax.pretrained import catalogue
from seg_jax.pretrained.formats.tensorflow import data_files


def folder() -> Path:
    """Return the folder that imported weights are put into."""
    return files.place("weights")


def name_of(path: Path) -> str | None:
    """Return the catalogue name under which a file was imported; None: it was not."""
    name = path.parent.name
    folders = (folder(), files.former_place("weights"))
    inside = any(place and place.resolve() in path.resolve().parents for place in folders)
    return name if inside and name in catalogue.names() else None


def is_imported(name: str) -> bool:
    """Return whether weights were imported under a name."""
    folders = (folder(), files.former_place("weights"))
    return any(place is not None and (place / name).is_dir() for place in folders)


def find(name: str) -> Path:
    """Return the imported file of a catalogue name.

    Raises:
      UserError: there is no such name, or it was not imported; the message says where its
        publishers offer it.
    """
    entry = catalogue.get(name)
    place = files.find_place("weights", name)
    found = sorted(path for path in place.glob("*") if ".data-" not in path.name)
    if not found:
        raise checks.UserError(
            f"{name} is not imported: get {entry.file} ({entry.host}), then `python -m seg_jax "
            f"weights import FILE --as {name}`; it goes to {place}"
        )
    return found[0]


def add(path: Path, name: str, *, any_file: bool = False) -> Path:
    """Copy a file of published weights under its catalogue name; return its new path.

    Args:
      path: the file.
      name: in the catalogue.
      any_file: see `check`.

    Raises:
      UserError: its checksum is not the catalogue's.
    """
    entry = catalogue.get(name)
    check(path, entry, any_file=any_file)
    place = folder() / name
    unfinished = folder() / f"{name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    # The arrays of a TensorFlow checkpoint are in files beside its index.
    for file in (path, *(data_files(path) if path.suffix == ".index" else ())):
        shutil.copyfile(file, unfinished / file.name)
    shutil.rmtree(place, ignore_errors=True)
    os.replace(unfinished, place)
    return place / path.name


def check(path: Path, entry: catalogue.Entry, *, any_file: bool = False) -> str:
    """Return a file's SHA-256; UserError if it is not the catalogue's, unless `any_file`."""
    digest = catalogue.sha256_of(path)
    if not any_file and not is_published(digest, entry):
        raise checks.UserError(
            f"{path}: SHA-256 is {digest}, that of {entry.name} ({entry.file}) begins with "
            f"{entry.sha256}: download it again, import it under its own name, or take it as it "
            "is with --any-file (`train --init FILE --init-as NAME` starts from it as well)"
        )
    return digest


def is_published(digest: str, entry: catalogue.Entry) -> bool:
    """Return whether a SHA-256 is the catalogue's, or the catalogue has none."""
    return entry.sha256 == "unknown" or digest.startswith(entry.sha256)
