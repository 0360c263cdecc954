"""Read files that may come from a stranger, and write files whole or not at all."""

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from seg_jax.checks import UserError

MOST_JSON = 16 * 2**20  # bytes; parsed data takes up to 30 times as much memory


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file for reading; a pipe or device would block, or never end.

    Raises:
      UserError: it cannot be opened, or is no regular file.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits for somebody to write to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({_reason(error)})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path}: is no regular file")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, *, most: int) -> bytes:
    """Return the content of a regular file.

    Args:
      path: the file.
      most: bytes that it may have.

    Raises:
      UserError: it cannot be read, is no regular file or larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(most + 1) if size <= most else b""
        if size > most or len(content) > most:
            raise UserError(f"{path}: has {size} bytes, more than {most}")
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
        return json.loads(content.decode())
    except RecursionError as error:
        raise UserError(f"{name}: is nested too deeply for a file of ours") from error
    except ValueError as error:
        raise UserError(f"{name}: is not JSON ({error})") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


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
