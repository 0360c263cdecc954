"""Check an archive of results for what the VOC test server would refuse or score wrongly."""

import dataclasses
import gzip
import io
import re
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
from PIL import Image

from seg_jax import checks, files
from seg_jax.data.datasets import voc2012 as voc
from seg_jax.data.source import Source
from seg_jax.evaluation import submission
from seg_jax.types import VOC_CLASSES, voc_palette

_PLACE = re.compile(r"results/VOC2012/Segmentation/(comp[56])_([A-Za-z0-9_]{1,40})_cls")
_LARGEST = 4 * 2**20  # bytes of a PNG; VOC's images have 500x500 px at most
_MOST_PIXELS = 2**20  # of a label map
_MOST_MEMBERS = 10_000
_MOST_BYTES = 2**30  # of an archive when it is unpacked
_LONGEST = 200  # letters of a name in the report
_FORMATS = ("PNG", "JPEG", "GIF", "BMP")  # some are named, others are not decoded
_COUNTS = {"test": 1456, **voc.COUNTS}
_PALETTE = voc_palette()[: len(VOC_CLASSES)]


@dataclasses.dataclass
class Report:
    """What was found.

    Attributes:
      results: label maps in the right place.
      problems: how often each was found, and where first.
      notes: what could not be looked at.
    """

    results: int = 0
    problems: dict[str, tuple[int, str]] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)

    def add(self, problem: str, where: str) -> None:
        """Note a problem at a file."""
        where = checks.printable(where if len(where) <= _LONGEST else f"{where[:_LONGEST]}...")
        count, first = self.problems.get(problem, (0, where))
        self.problems[problem] = (count + 1, first)

    def as_text(self) -> str:
        """Return one line a problem."""
        lines = [f"{self.results} label maps"]
        for problem, (count, first) in self.problems.items():
            where = f"{first}" + (f" and {count - 1} more" if count > 1 else "")
            lines.append(f"problem: {problem}: {where}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines if self.problems else [*lines, "ready to be submitted"])


def check(path: Path, *, root: Path | None = None) -> Report:
    """Check an archive, which may be anyone's: what it would unpack to is bounded.

    Args:
      path: the archive.
      root: VOC's folder with the list and the images of the split: ids and sizes are compared with
        them. None: only the number of label maps.

    Raises:
      UserError: the file cannot be read, or the folder holds no such list.
    """
    path, report = Path(path), Report()
    if not path.exists():
        raise checks.UserError(f"{path}: no such file")
    try:
        with (
            files.open_regular(path) as file,
            gzip.GzipFile(fileobj=file) as unpacked,
            tarfile.open(fileobj=cast(Any, _Bounded(unpacked)), mode="r:") as archive,
        ):
            split, source = "", None
            seen: list[str] = []
            for count, member in enumerate(archive, 1):
                if count > _MOST_MEMBERS:
                    raise tarfile.ReadError(f"more than {_MOST_MEMBERS} files")
                found = _place_of(member, report)
                if not found:
                    continue
                if not split:
                    split, source = found[0], _source(found[0], root, report)
                if found[0] != split:
                    report.add(f"results of another split than {split}", member.name)
                    continue
                seen.append(found[1])
                _check_result(archive, member, found[1], source, report)
    # Damaged headers raise the last three.
    except (
        tarfile.TarError, EOFError, OSError, zlib.error, ValueError, RecursionError, OverflowError
    ) as error:  # fmt: skip
        return _not_an_archive(path, error, report)
    if not path.name.endswith((".tgz", ".tar.gz")):
        report.add("the server takes files named .tgz or .tar.gz", path.name)
    _check_ids(seen, split, source, report)
    return report


class _Bounded:
    """The unpacked archive, for `tarfile`: bounded in length and in what one read may ask for.

    A header says how long the next name is, and `tarfile` reads as much.
    """

    def __init__(self, file: gzip.GzipFile):
        self._file = file
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST + tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"a header or file of {size} bytes")
        self._check(self._file.tell() + size)
        return self._file.read(size)

    def seek(self, position: int) -> int:
        self._check(position)
        return self._file.seek(position)

    def _check(self, position: int) -> None:
        if position > _MOST_BYTES:
            raise tarfile.ReadError(f"unpacked it has more than {_MOST_BYTES} bytes")


def _not_an_archive(path: Path, error: Exception, report: Report) -> Report:
    with files.open_regular(path) as file:
        start = file.read(tarfile.BLOCKSIZE)
    kind = "damaged or incomplete" if start[:2] == b"\x1f\x8b" else "no gzip file"
    if zipfile.is_zipfile(path):
        kind = "a zip file"
    elif start[257:262] == b"ustar":
        kind = "a tar file that is not compressed"
    remedy = "make it with `tar czf results.tgz results`"
    report.add(f"the archive is {kind} ({checks.printable(error)}); {remedy}", path.name)
    return report


def _place_of(member: tarfile.TarInfo, report: Report) -> tuple[str, str] | None:
    """Return split and id of a result in the right place; note any other file."""
    if member.isdir():
        return None
    name = PurePosixPath(member.name.removeprefix("./"))
    place = _PLACE.fullmatch(str(name.parent))
    if name.name.startswith(".") or "__MACOSX" in name.parts:
        report.add("a file that the server does not expect; leave it out", member.name)
    elif not member.isreg():
        report.add("no plain file", member.name)
    elif not place:
        expected = submission.folder("comp6", "test")
        report.add(f"not in {expected}/ (or comp5), from the archive's top", member.name)
    elif name.suffix != ".png":
        report.add("no .png", member.name)
    else:
        return place[2], name.stem
    return None


def _source(split: str, root: Path | None, report: Report) -> Source | None:
    if root is None:
        report.notes.append("ids and sizes were not compared: name VOC's folder with --root")
        return None
    source = submission.open_images(root, split)
    if len(source) != _COUNTS.get(split):
        wanted = _COUNTS.get(split, "no list of this name")
        report.notes.append(
            f"{split} in {source.root} has {len(source)} images, VOC 2012: {wanted}"
        )
    return source


def _check_result(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    image_id: str,
    source: Source | None,
    report: Report,
) -> None:
    if member.size > _LARGEST:
        report.add("too large for a label map", member.name)
        return
    file = archive.extractfile(member)
    content = file.read() if file else b""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as file:
            if file.width * file.height > _MOST_PIXELS:  # before any pixel is decoded
                report.add("too large for a label map", member.name)
                return
            kind, size, palette = file.format, file.size, file.getpalette()
            mode, values = file.mode, np.unique(np.asarray(file))
    except Exception as error:  # the decoders raise a dozen types; all mean a bad file
        report.add(f"cannot be decoded ({type(error).__name__})", member.name)
        return
    if kind != "PNG":
        report.add(f"{kind} under the name of a PNG", member.name)
    if mode != "P":
        report.add(f"pixels of mode {mode}: save class ids as a palette PNG", member.name)
        return
    used = values[values < len(VOC_CLASSES)]
    colours = np.reshape(palette or (), (-1, 3))
    if used.size and (used.max() >= len(colours) or np.any(colours[used] != _PALETTE[used])):
        report.add("another palette than VOC's: pixel values may be no class ids", member.name)
    if values.max() == 255:
        report.add("void (255) predicted: every pixel needs a class of 0..20", member.name)
    elif values.max() >= len(VOC_CLASSES):
        report.add("class ids beyond 20", member.name)
    if source is not None and image_id in source.ids:
        if size != source.size(source.ids.index(image_id))[::-1]:
            report.add("not of its image's size: resize the scores, not the image", member.name)


def _check_ids(seen: Sequence[str], split: str, source: Source | None, report: Report) -> None:
    counts = Counter(seen)
    report.results = len(counts)
    if not seen:
        report.add("holds no label map where the server looks", submission.folder("comp6", "test"))
        return
    for image_id, count in counts.items():
        if count > 1:
            report.add("there twice", image_id)
    if source is None:
        wanted = _COUNTS.get(split)
        if wanted and len(counts) != wanted:
            report.add(f"VOC 2012's {split} has {wanted} images, not {len(counts)}", split)
        return
    for image_id in source.ids:
        if image_id not in counts:
            report.add(f"an image of {split} without a label map", image_id)
    for image_id in counts.keys() - set(source.ids):
        report.add(f"a label map of no image of {split}", image_id)
