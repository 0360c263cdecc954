"""The catalogue of published weights: their files, hosts, licenses and scores.

Nothing is downloaded here: `python -m seg_jax weights import FILE --as NAME` takes a file that its
publishers offer.
"""

import hashlib
from pathlib import Path

from seg_jax import checks
from seg_jax.pretrained.catalogue import caffe, google, hed, pytorch
from seg_jax.pretrained.catalogue.entry import Entry, Score
from seg_jax.pretrained.formats import reading

__all__ = ["Entry", "Score", "get", "names", "of_file", "sha256_of"]

_ALL = (*caffe.ENTRIES, *google.ENTRIES, *hed.ENTRIES, *pytorch.ENTRIES)
_ENTRIES = {entry.name: entry for entry in _ALL}


def names() -> tuple[str, ...]:
    """Return every name, by publisher."""
    return tuple(_ENTRIES)


def get(name: str) -> Entry:
    """Return an entry; for an unknown name, raise a UserError with the closest names."""
    if name not in _ENTRIES:
        raise checks.UserError(f"published weights: {checks.unknown(name, _ENTRIES)}")
    return _ENTRIES[name]


def of_file(path: Path) -> Entry:
    """Return the entry that a file belongs to, found by its SHA-256, else by its name.

    Raises:
      UserError: no entry has such a file, or several have one of this name.
    """
    digest = sha256_of(path)
    found = [entry for entry in _ENTRIES.values() if digest.startswith(entry.sha256)]
    found = found or [entry for entry in _ENTRIES.values() if Path(entry.file).name == path.name]
    if len(found) != 1:
        kind = "several entries of" if found else "no entry of"
        raise checks.UserError(
            f"{path}: {kind} the catalogue have a file of this name; say which weights these are: "
            "--as NAME, or load(path, name); `python -m seg_jax weights list` prints the names"
        )
    return found[0]


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with reading.open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
