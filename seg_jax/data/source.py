"""`Source`: one split of a data set, as every reader returns it, and the strict reading of it."""

import codecs
import dataclasses
import hashlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from seg_jax import files
from seg_jax.checks import UserError
from seg_jax.data import bands, images, palettes
from seg_jax.types import IGNORE

LIST_BYTES = 64 * 2**20  # of a list of ids: some millions of lines
MOST_CLASSES = 254  # 255 is void
_REFUSED = 254  # stands for a value that may not occur
_ID_LETTERS, _CLASS_LETTERS = 1024, 200


class Record(TypedDict):
    """One labelled image, as stored."""

    id: str
    image: np.ndarray  # uint8 [h w 3], RGB; or uint8 or float32 [h w channels]
    label: np.ndarray  # uint8 [h w], class id or IGNORE


def _percentile(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 100


@dataclasses.dataclass(frozen=True)
class _Chosen(Sequence):
    """Some items of a sequence, read when they are asked for."""

    items: Sequence
    chosen: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index):
        return self.items[self.chosen[index]]


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """One split of a data set: the names of its files and the meaning of their pixels.

    Pixels are read by index, so a Source is small when pickled for worker processes.

    Attributes:
      name: of the data set, as a record quotes it; "-part" marks an incomplete one.
      split: name of the list, e.g. "val".
      root: folder that the paths below are relative to.
      ids: a name for each image, in the list's order.
      image_paths: of the images.
      label_paths: of the masks.
      classes: names, by class id.
      label_ids: class id (or IGNORE) of every value that a mask may hold; any other is an error.
      palette: colour of every class id, uint8 [256 3].
      official: number of images in the official list of this name; 0: there is no such list.
      pages: page of each image and mask, where the files are TIFF stacks.
      records: (image, mask) as the bytes of their files by index, where they are packed; the
        paths are then only names.
      mask_palette: the colours that the data set's own palette masks have, uint8 [256 3]; a mask
        whose palette contradicts it is an error. None: any palette may stand there.
      allow_outside: paths may lead out of `root`.
      channels: of the images, see `Preprocessing.channels`.
      range: of their values, see `Preprocessing.range`.
    """

    name: str
    split: str
    root: Path
    ids: tuple[str, ...]
    image_paths: tuple[str, ...]
    label_paths: tuple[str, ...]
    classes: tuple[str, ...]
    label_ids: Mapping[int, int]
    palette: np.ndarray
    official: int = 0
    pages: tuple[int, ...] = ()
    records: Sequence[tuple[bytes, bytes]] | None = None
    mask_palette: np.ndarray | None = None
    allow_outside: bool = False
    channels: int = 3
    range: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, name: str) -> "Source":
        """Return "held20", a fifth of the images, or "but20", the others.

        An image belongs to the first by the hash of its id: whatever else is in the list.

        Raises:
          UserError: another name, or a part without images.
        """
        match = re.fullmatch(r"(held|but)([1-9][0-9]?)", name)
        if not match:
            raise UserError(
                f"split {self.split}:{name:.40}: parts are held20 and but20, in percent"
            )
        chosen = [
            index
            for index, image in enumerate(self.ids)
            if (_percentile(image) < int(match[2])) == (match[1] == "held")
        ]
        if not chosen:
            raise UserError(f"split {self.split}:{name} has no images: {self.split} is too small")

        def of(items: Sequence) -> tuple:
            return tuple(items[index] for index in chosen)

        return dataclasses.replace(
            self,
            split=f"{self.split}:{name}",
            ids=of(self.ids),
            image_paths=of(self.image_paths),
            label_paths=of(self.label_paths),
            pages=of(self.pages) if self.pages else (),
            records=None if self.records is None else _Chosen(self.records, tuple(chosen)),
            official=0,
        )

    def __getitem__(self, index: int) -> Record:
        """Read one image and its mask; a bad one is a UserError that names the file."""
        image_file, label_file = self.files(index)
        label = self._read_label(label_file)
        image = self.read_image(image_file)
        if image.shape[:2] != label.shape:
            raise UserError(size_mismatch(label_file, label.shape, image.shape[:2]))
        return {"id": self.ids[index], "image": image, "label": label}

    def read_image(self, file: images.File) -> np.ndarray:
        """Read an image: uint8 or, with a `range`, float32 [h w channels]."""
        if bands.is_plain(file, self.channels, self.range):
            return images.read_image(file)
        return bands.read(file, self.channels, self.range)

    def with_values(self, meant: Mapping[int, int]) -> "Source":
        """Return the source with another class id (or IGNORE) for some values of its masks.

        Raises:
          UserError: a class id that is none of the data set's.
        """
        for value, class_id in meant.items():
            if class_id != IGNORE and class_id >= self.num_classes:
                raise UserError(
                    f"--data.map {value}={class_id}: {self.name} has the class ids 0 to "
                    f"{self.num_classes - 1}"
                )
        return dataclasses.replace(self, label_ids={**self.label_ids, **meant})

    def files(self, index: int) -> tuple[images.File, images.File]:
        """Return where an image and its mask are stored."""
        names = self.image_file(index), self.label_file(index)
        if self.records is not None:
            image, label = self.records[index]
            return images.Encoded(str(names[0]), image), images.Encoded(str(names[1]), label)
        if self.pages:
            page = self.pages[index]
            return images.Page(names[0], page), images.Page(names[1], page)
        return names

    def image_file(self, index: int) -> Path:
        """Return the path of an image."""
        return self._path(self.image_paths[index])

    def label_file(self, index: int) -> Path:
        """Return the path of a mask."""
        return self._path(self.label_paths[index])

    def _path(self, path: str) -> Path:
        if not self.allow_outside and leaves(path):
            raise UserError(f"{self.root}: {outside(path)}")
        return self.root / path

    def label(self, index: int) -> np.ndarray:
        """Read one mask: uint8 [h w], class id or IGNORE."""
        return self._read_label(self.files(index)[1])

    def _read_label(self, file: images.File) -> np.ndarray:
        raw, colors = images.read_label_and_palette(file)
        if colors is not None and self.mask_palette is not None:
            palettes.insist(file, raw, colors, self.mask_palette, self.classes)
        # A bytearray's own functions take a tenth of the time of an array's.
        ids = bytearray(raw).translate(self._table)
        if _REFUSED in ids:
            values = np.unique(raw)
            refused = [value for value in values.tolist() if value not in self.label_ids]
            if refused:  # otherwise a reader of somebody's own has a class of that number
                raise UserError(f"{file}: {self.explain(np.array(refused))}")
        return np.frombuffer(ids, np.uint8).reshape(raw.shape)

    def size(self, index: int) -> tuple[int, int]:
        """Return (height, width) of an image, from the file's header only."""
        file = self.files(index)[0]
        if bands.is_plain(file, self.channels, self.range):
            return images.image_size(file)
        return bands.describe(file).size

    @property
    def num_classes(self) -> int:
        """Number of classes, void not counted."""
        return len(self.classes)

    @property
    def checksum(self) -> str:
        """SHA-256, in hex, of the list: the ids in order, one a line."""
        return digest(self.ids)

    @property
    def description(self) -> str:
        """One line for logs and records: "voc2012-part val: 351 of 1449 images"."""
        of = f" of {self.official}" if self.official and self.official != len(self) else ""
        return f"{self.name} {self.split}: {len(self)}{of} images"

    @property
    def _table(self) -> bytes:
        """Class id by mask value, 256 of them; _REFUSED: the value may not occur."""
        return bytes(self.label_ids.get(value, _REFUSED) for value in range(256))

    def explain(self, values: np.ndarray) -> str:
        """Return the message for mask values that are not in `label_ids`."""
        found = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
        return (
            f"label value {found} is neither a class id (0..{self.num_classes - 1}) nor void "
            f"({IGNORE}); if it means void or a class, say so with --data.map {values[0]}=void or "
            f"{values[0]}=CLASS_ID, or (data set `folder`) with a line in classes.txt, e.g. "
            f"'{values[0]} void'"
        )

    def check_files(self) -> "Source":
        """Return self if the list is sound and every file exists, else raise a UserError.

        Only names are checked here; pixels are checked when they are read.
        """
        problems = list_problems(self)
        if problems:
            more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
            raise UserError(f"{self.name} {self.split} in {self.root}: {problems[0]}{more}")
        return self


def digest(ids: Iterable[str]) -> str:
    """Return the SHA-256, in hex, of ids in the given order, one a line."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def list_problems(source: Source) -> list[str]:
    """Return a message for every problem of a list and of the names of its files."""
    if not source.ids:
        return ["the list is empty"]
    problems = [
        f"id {name!r} occurs {count} times in the list"
        for name, count in Counter(source.ids).items()
        if count > 1
    ]
    # Results are named after ids, whatever the paths are.
    problems += [outside(name) for name in source.ids if leaves(name)]
    problems += [
        f"id {name[:_ID_LETTERS]!r}... has {len(name)} characters, more than {_ID_LETTERS}"
        for name in source.ids
        if len(name) > _ID_LETTERS
    ]
    if source.records is not None:
        return problems
    named: set[str] = set()  # kinds of which an example is given
    for kind, paths in (("image", source.image_paths), ("mask", source.label_paths)):
        for path in dict.fromkeys(paths):
            if leaves(path) and not source.allow_outside:
                problems.append(f"listed {kind}: {outside(path)}")
            elif not is_file(source.root / path):
                there = "" if kind in named else _what_lies_there(source.root / path)
                named.add(kind)
                problems.append(f"listed {kind} {source.root / path} does not exist{there}")
    return list(dict.fromkeys(problems))


def _what_lies_there(path: Path) -> str:
    """Return names in the folder of a missing file, in words: it may be named otherwise."""
    try:
        with os.scandir(path.parent) as entries:
            names = sorted(e.name for e in itertools.islice(entries, 1000) if e.name[0] != ".")
    except (OSError, ValueError):
        return ""
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"; its folder has {shown}" if names else "; its folder is empty"


def class_problem(name: str) -> str:
    """Return what is wrong with a class's name, "" if nothing is."""
    if not name.strip():
        return "an empty class name"
    if len(name) > _CLASS_LETTERS:
        return f"a class name of {len(name)} characters, {name[:20]!r}...; at most {_CLASS_LETTERS}"
    return ""


def is_file(path: Path) -> bool:
    """Return whether there is a file of that name; a name that no file can have has none."""
    try:
        return os.path.isfile(path)  # os.path's, for Path's raises where a name is too long
    except ValueError:  # a zero byte
        return False


def leaves(path: str) -> bool:
    """Return whether a path out of a list leads out of the folder that it is relative to."""
    return path.startswith("/") or ".." in path.split("/") or "\0" in path


def outside(path: str) -> str:
    """Return the message for a path or an id that leads out of the data set's folder."""
    return (
        f"{path!r} leads out of the data set's folder; copy or link the file into the folder, or "
        "allow it with --data.allow-outside if you trust the list (`evaluate` and `crf search`: "
        "--allow-outside)"
    )


def is_hidden(path: str) -> bool:
    """Return whether a relative path is a hidden or system file, or in such a folder: never data.

    Those are names that begin with a dot (.ipynb_checkpoints, .thumbnails, ._x) and __MACOSX.
    """
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some images of a split, in any order, or some of them several times.

    Attributes:
      source: the split.
      indices: index in `source` of every image.
    """

    source: Source
    indices: tuple[int, ...]

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""
        return self.source.classes

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        """Read one image and its mask."""
        return self.source[self.indices[index]]

    def size(self, index: int) -> tuple[int, int]:
        """Return (height, width) of an image without decoding it."""
        return self.source.size(self.indices[index])


def size_mismatch(path: images.File, label: tuple[int, ...], image: tuple[int, ...]) -> str:
    """Return the message for a mask and an image of different sizes, both (height, width)."""
    hint = "rotate" if tuple(label) == tuple(image)[::-1] else "resize (nearest neighbour)"
    return (
        f"{path}: mask of {label[1]}x{label[0]} pixels for an image of {image[1]}x{image[0]}; "
        f"{hint} the mask to the image's size"
    )


def read_list(path: Path, *, limit: int = LIST_BYTES) -> list[str]:
    """Return a list file's lines: stripped, blank ones left out; CRLF and a byte order mark are
    tolerated, and UTF-16 is read where such a mark says so.

    Lines end at CR and LF only, and only ASCII blanks are stripped: other characters that Unicode
    counts as line ends or blanks may be part of a file's name.

    Args:
      path: the file.
      limit: bytes that it may have.
    """
    if not os.path.lexists(path):  # a link that leads nowhere is another error
        raise UserError(f"{path}: no such list")
    content = files.read_bytes(path, most=limit)
    try:
        utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read as a list ({error})") from error
    lines = (line.strip(" \t") for line in re.split(r"[\r\n]+", text))
    return [line for line in lines if line]
