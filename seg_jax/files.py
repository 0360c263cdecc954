"""Read files that may come from a stranger, and write files whole or not at all; where a user's
data sets, weights and caches are.
"""

import contextlib
import functools
import json
import logging
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from seg_jax.checks import UserError

MOST_JSON = 16 * 2**20  # bytes; parsed data takes up to 30 times as much memory
_DEEPEST = 100  # levels of lists and objects in a JSON file

Kind = Literal["data", "weights", "cache"]
VARIABLES: dict[Kind, str] = {  # each names the folder of a kind itself
    "data": "SEG_JAX_DATA", "weights": "SEG_JAX_WEIGHTS", "cache": "SEG_JAX_CACHE",
}  # fmt: skip
# Where earlier versions put them, below the current folder.
_FORMER: dict[Kind, Path] = {"data": Path("data"), "weights": Path("data") / "weights"}
# Schemes of buckets, and fsspec's package for each.
BUCKETS = {
    "gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "s3a": "s3fs", "az": "adlfs", "abfs": "adlfs",
}  # fmt: skip
_log = logging.getLogger(__name__)


def place(kind: Kind) -> Path:
    """Return the folder for new files of a kind: what its variable in VARIABLES names, else the
    user's own by the platform's custom (platformdirs), on Linux ~/.local/share/seg_jax/KIND for
    data sets and weights and ~/.cache/seg_jax for caches.
    """
    if named := os.environ.get(VARIABLES[kind]):
        return Path(named)
    import platformdirs

    if kind == "cache":
        return platformdirs.user_cache_path("seg_jax", appauthor=False)
    return platformdirs.user_data_path("seg_jax", appauthor=False) / kind


def find_place(kind: Kind, name: str) -> Path:
    """Return where files of that name are: a folder in the current one's data/, where earlier
    versions kept them, if there is one and no variable says otherwise; else in `place`.
    """
    former = former_place(kind)
    if former is not None and (former / name).is_dir():
        _say_former(kind, former / name)
        return former / name
    return place(kind) / name


def former_place(kind: Kind) -> Path | None:
    """Return the folder in which earlier versions kept a kind, below the current folder; None if
    there is none, or its variable names another.
    """
    former = _FORMER.get(kind)
    unused = former is None or os.environ.get(VARIABLES[kind]) or not former.is_dir()
    return None if unused else former


@functools.cache  # once for each
def _say_former(kind: Kind, path: Path) -> None:
    _log.warning(
        "%s in the current folder is used; the place is now %s: move it there, or set %s",
        path, place(kind), VARIABLES[kind],
    )  # fmt: skip


def bucket_url(path: str | Path) -> str:
    """Return the bucket's URL that a text or path is, "" if it is none: Path makes gs:/b/run of
    gs://b/run, which as a folder would be one called "gs:" in the current one.
    """
    found = re.fullmatch(r"([a-z0-9]+):/+(.*)", str(path), re.DOTALL)
    if not found or found.group(1) not in BUCKETS:
        return ""
    return f"{found.group(1)}://{found.group(2).rstrip('/')}"


def make_private(folder: Path, *, variable: str) -> None:
    """Make a folder from which programs are run, for its owner alone, or check one that is there.

    Whoever can write the folder above may put another one in its place, except where the sticky bit
    (of /tmp, say) keeps that to the owner.

    Args:
      folder: with the folders above it, made with mode 0700.
      variable: of the environment, that names another one; for the error.

    Raises:
      OSError: it cannot be made or written; somebody else owns it or can write it.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)  # whatever the umask
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(f"{folder} cannot be written; set {variable} to another one")
    for path in (folder.resolve(), folder.resolve().parent):
        status = path.stat()
        above = path != folder.resolve()
        if above and status.st_mode & stat.S_ISVTX:
            continue
        if status.st_uid != os.geteuid() and not (above and status.st_uid == 0):
            raise OSError(f"{path} belongs to another user; set {variable} to another one")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise OSError(f"{path} can be written by other users; `chmod go-w {path}` mends that")


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file for reading; a pipe, device, socket or folder of that name is refused.

    Neither opening nor reading can then wait for another program or go on for ever.

    Raises:
      UserError: it is not a regular file.
      OSError: it does not exist or may not be read.
    """
    # Without O_NONBLOCK, opening a pipe waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(
            f"{path}: not a regular file but a folder, pipe or device; replace it by the file"
        )
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, *, most: int) -> bytes:
    """Return the content of a regular file.

    Args:
      path: the file.
      most: bytes that it may have.

    Raises:
      UserError: it cannot be read, is no regular file or larger.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            # read(n) first takes n bytes of memory: `most` only where the file grows meanwhile.
            content = file.read(size + 1) if size <= most else b""
            if len(content) > size:
                content += file.read(most + 1 - len(content))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason})") from error
    if size > most or len(content) > most:
        raise UserError(
            f"{path}: {size} bytes, more than the {most} that such a file may have; is it the "
            "right file?"
        )
    return content


def read_json(path: Path, *, most: int = MOST_JSON) -> Any:
    """Return the content of a JSON file in UTF-8.

    Args:
      path: the file.
      most: bytes that it may have.

    Raises:
      UserError: it cannot be read, is no regular file, larger, or not JSON.
    """
    return parse_json(read_bytes(path, most=most), path)


def parse_json(content: bytes, name: Any) -> Any:
    """Return JSON data; NaN and Infinity, which are not JSON, are taken as Python writes them.

    Args:
      content: text in UTF-8.
      name: of the file, for errors.

    Raises:
      UserError: it is not JSON.
    """
    try:
        data = json.loads(content.decode())
    except RecursionError as error:
        raise UserError(f"{name}: lists and objects are nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{name}: is not JSON ({error})") from error
    level, depth = [data], 0
    while level := [item for item in level if isinstance(item, list | dict)]:
        depth += 1
        if depth > _DEEPEST:
            raise UserError(f"{name}: lists and objects are nested more than {_DEEPEST} deep")
        level = [
            child for item in level for child in (item.values() if type(item) is dict else item)
        ]
    return data


@contextlib.contextmanager
def write_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Yield a binary file whose content replaces `path` once the block ends without an error.

    Until then the content is in a temporary file of an unpredictable name beside `path`, which is
    opened exclusively (a link of that name is never followed) and is removed after an error.

    Args:
      path: the file; its folder is made if it is not there.

    Raises:
      OSError: it cannot be written (disk full, no permission).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:100]}.{os.urandom(8).hex()}.part")
    try:
        with part.open("xb") as file:
            yield file
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with write_atomically(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")
