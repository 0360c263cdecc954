"""Write files whole or not at all; read nothing but regular files."""

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from seg_jax.checks import UserError


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


def read_limited(path: Path, limit: int) -> bytes:
    """Return a regular file's content, which may have `limit` bytes.

    Raises:
      UserError: it is longer, or not a regular file.
      OSError: it does not exist or may not be read.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise UserError(
            f"{path}: {os.path.getsize(path)} bytes, more than the {limit} that such a file may "
            "have; is it the right file?"
        )
    return content


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
