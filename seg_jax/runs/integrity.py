"""Is a checkpoint what was written? Every file is hashed when it is written and before it is read.

Orbax renames a finished checkpoint into place, but does not notice a byte that changes later.
"""

import hashlib
import os
import stat
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from seg_jax import files
from seg_jax.checks import UserError

CHECKSUMS = "checksums.json"
# What reading may allocate: arrays of one value are stored in next to no bytes, others are not.
_ALWAYS_BYTES, _BYTES_PER_STORED_BYTE = 2**30, 100


def write(path: Path) -> None:
    """Write the checksums of a checkpoint's files into it."""
    files.write_json(path / CHECKSUMS, _checksums(path))


def problem(path: Path) -> str | None:
    """Say what is wrong with a checkpoint, None if it is as it was written."""
    try:
        expected = files.read_json(path / CHECKSUMS)
        if not isinstance(expected, dict) or not expected:
            return f"{CHECKSUMS} lists no files"
        found = _checksums(path)
    except UserError as error:
        return str(error).removeprefix(f"{path}/")
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    missing = sorted(expected.keys() - found.keys())
    changed = sorted(name for name in expected if name in found and expected[name] != found[name])
    unlisted = sorted(name for name in found if name not in expected)
    parts = [
        f"{len(names)} files {what}, e.g. {names[0]}"
        for what, names in (("missing", missing), ("changed", changed), ("not listed", unlisted))
        if names
    ]
    return "; ".join(parts) or None


def _checksums(path: Path) -> dict[str, str]:
    """BLAKE2 of every file by its relative path; hidden ones, which file managers add, left out."""
    found = {}
    for folder, _, names in os.walk(path, onerror=_raise):
        for file in (Path(folder, name) for name in names):
            name = file.relative_to(path).as_posix()
            if name == CHECKSUMS or file.name.startswith("."):
                continue
            if not stat.S_ISREG(file.lstat().st_mode):
                raise UserError(f"{name} is no regular file")
            digest = hashlib.blake2b()
            with files.open_regular(file) as stream:
                while piece := stream.read(2**20):
                    digest.update(piece)
            found[name] = digest.hexdigest()
    return dict(sorted(found.items()))


def _raise(error: OSError) -> None:
    raise error


def check_sizes(path: Path, items: tuple[str, ...]) -> None:
    """Raise UserError if the arrays of a checkpoint claim to be far larger than its files.

    Whoever made a file decides on its shapes, and a shape of 2^40 would end this process.

    Args:
      path: of the checkpoint.
      items: of it that hold arrays.
    """
    stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    most = _ALWAYS_BYTES + _BYTES_PER_STORED_BYTE * stored
    total = 0
    for item in items:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            tree = checkpointer.metadata(path / item).item_metadata.tree
        for leaf in jax.tree.leaves(tree):
            chunk = leaf.storage.chunk_shape if leaf.storage else ()
            for shape in (leaf.shape, chunk or ()):
                total += np.dtype(leaf.dtype).itemsize * _product(shape)
    # Arrays, and the pieces in which they are read.
    if total > 2 * most:
        raise UserError(
            f"checkpoint {path} claims arrays of {total / 2**31:.1f} GiB in files of {stored} "
            "bytes: it was not written by this program"
        )


def _product(shape: tuple[int, ...]) -> int:
    product = 1  # of Python's integers, which do not overflow
    for side in shape:
        product *= int(side)
    return product


def name_of(error: BaseException) -> str:
    """Return the first line of an error's message, or its type's name."""
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
