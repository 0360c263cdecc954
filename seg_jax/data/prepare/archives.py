"""Authors' archives: checked before they are opened, and extracted safely.

An archive does not decide where a file is written: only regular files whose whole name matches a
pattern are read, and the caller builds the path from the groups of the match.
"""

import dataclasses
import gzip
import hashlib
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seg_jax import progress
from seg_jax.checks import UserError

_BLOCK = 1 << 22  # bytes read at a time


@dataclasses.dataclass(frozen=True)
class Archive:
    """A published file.

    Attributes:
      name: of the file.
      url: where it is published.
      size: in bytes.
      md5: of the file, in hex.
    """

    name: str
    url: str
    size: int
    md5: str


def verify(path: Path, archive: Archive) -> None:
    """Raise a UserError unless the file has the size and MD5 of the published one."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; download {archive.url}")
    size = path.stat().st_size
    if size < archive.size:
        raise UserError(
            f"{path}: {size} of {archive.size} bytes: the download is incomplete; continue with "
            f"`curl --location --continue-at - --output {path} {archive.url}`"
        )
    found = _md5(path) if size == archive.size else f"of {size} bytes"
    if found != archive.md5:
        raise UserError(
            f"{path}: MD5 {found} is not that of {archive.name} ({archive.size} bytes, MD5 "
            f"{archive.md5}): a broken download or another release; get {archive.url}"
        )


def _md5(path: Path) -> str:
    """Return the MD5, which detects broken downloads, not forgery; no better one is published."""
    digest = hashlib.md5(usedforsecurity=False)
    bar = progress.bar(
        total=path.stat().st_size,
        desc=f"checking {path.name}",
        unit="B",
        unit_scale=True,
        leave=True,
    )
    with path.open("rb") as file, bar:
        while block := file.read(_BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


@contextmanager
def open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar file, compressed or not; errors while it is read name the file."""
    try:
        with tarfile.open(path) as tar:
            yield tar
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{path}: broken archive ({error or type(error).__name__}); download it again"
        ) from error


def members(tar: tarfile.TarFile, pattern: str) -> Iterator[tuple[re.Match, tarfile.TarInfo]]:
    """Yield the files whose whole name matches, in the archive's order; others are skipped.

    Raises:
      UserError: for a link or device under such a name.
    """
    for member in tar:
        match = re.fullmatch(pattern, member.name.removeprefix("./"), re.ASCII)
        if not match or member.isdir():
            continue
        if not member.isreg():
            raise UserError(
                f"{tar.name}: {member.name!r} is a link or a device, not a regular file; this is "
                "not the published archive, and it is not extracted"
            )
        yield match, member


def content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Return the content of a regular file in the archive."""
    file = tar.extractfile(member)
    assert file is not None  # `members` yields regular files only
    return file.read()


def need_space(folder: Path, size: int) -> None:
    """Raise a UserError if the disk of an existing folder has less than `size` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise UserError(
            f"{folder}: {size / 2**30:.2f} GiB are needed and {free / 2**30:.2f} GiB free; make "
            "room, or name a folder on another disk with --root"
        )
