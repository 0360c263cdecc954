"""Find the input images of `predict`: files, folders of frames, patterns, a list on stdin."""

import glob
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from seg_jax.checks import UserError

SUFFIXES = {
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".mpo", ".npy", ".pgm", ".png",
    ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
LIST = Path("-")


class Found(NamedTuple):
    """An image file, and the path of its results below the output folder, without a suffix."""

    path: Path
    place: Path


def find(images: Sequence[Path]) -> list[Found]:
    """Return the image files that the arguments name, each once, frames sorted by number.

    Args:
      images: each is a file; a folder, for the images in it (without subfolders and hidden files);
        a pattern such as `clips/**/*.png`, whose results keep the folders below its fixed part;
        or `-`, for a list of files and folders on standard input, one per line.

    Raises:
      UserError: a folder holds no image, a pattern matches nothing, or there is no input at all. A
        file that does not exist is returned: reading it fails later, without stopping the others.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, images):
        files = _listed() if path == LIST else _meant(path)
        for file, place in files:
            found.setdefault(file, place)
    if not found:
        raise UserError("no images to predict: name files, folders or patterns, or - for a list")
    return [Found(*item) for item in found.items()]


def _listed() -> Iterator[Found]:
    for line in sys.stdin:
        if line.strip():
            yield from _file_or_folder(Path(line.rstrip("\r\n")))


def _meant(path: Path) -> Iterator[Found]:
    if glob.has_magic(str(path)) and not path.exists():  # a file's name may contain brackets
        return _matches(path)
    return _file_or_folder(path)


def _file_or_folder(path: Path) -> Iterator[Found]:
    if not path.is_dir():
        yield Found(path, Path(path.stem))
        return
    inside = _inside(path)
    if not inside:
        kinds = ", ".join(sorted(SUFFIXES))
        raise UserError(f"{path}: no images in this folder (looked for {kinds})")
    for file in inside:
        yield Found(file, Path(file.stem))


def _matches(pattern: Path) -> Iterator[Found]:
    fixed = Path(*_fixed_parts(pattern))
    matches = sorted(map(Path, glob.glob(str(pattern), recursive=True)), key=_by_number)
    if not matches:
        raise UserError(f"{pattern}: no file matches this pattern")
    for match in matches:
        for file in _inside(match) if match.is_dir() else [match]:
            yield Found(file, file.relative_to(fixed).with_suffix(""))


def _fixed_parts(pattern: Path) -> Iterator[str]:
    for part in pattern.parts:
        if glob.has_magic(part):
            return
        yield part


def _inside(folder: Path) -> list[Path]:
    images = [
        path for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]  # fmt: skip
    return sorted(images, key=_by_number)


def _by_number(path: Path) -> list[str | int]:
    """Return a sort key that puts frame9 before frame10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]
