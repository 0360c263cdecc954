"""The contract that every data set's reader fulfils, and the strict reading behind it."""

import dataclasses
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from seg_jax.checks import UserError
from seg_jax.data import images
from seg_jax.types import IGNORE


class Record(TypedDict):
    """One labelled picture, as stored."""

    id: str
    image: np.ndarray  # uint8 [h w 3], RGB
    label: np.ndarray  # uint8 [h w], class id or IGNORE


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """One split of a data set: names of files, and what their pixels mean. Pixels are read by
    index, so a Source pickles small and can be sent to worker processes.

    Attributes:
      name: of the data set, as a record quotes it; "-part" marks an incomplete one.
      split: name of the list, e.g. "val".
      root: folder that the paths below are relative to.
      ids: one name a picture, in the list's order.
      image_paths: of the pictures.
      label_paths: of the masks.
      classes: names, by class id.
      label_ids: class id (or IGNORE) of every value that a mask may hold; any other is an error.
      palette: colour of every class id, uint8 [256 3].
      official: pictures in the official list of this name; 0: there is none.
      pages: page of each picture and mask, where the files are TIFF stacks.
      records: (picture, mask) as the bytes of their files by index, where they are packed; the
        paths are then only names.
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

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Record:
        """Read one picture and its mask; a bad one is a UserError that names the file."""
        image_file, label_file = self.files(index)
        label = self._read_label(label_file)
        image = images.read_image(image_file)
        if image.shape[:2] != label.shape:
            raise UserError(size_mismatch(label_file, label.shape, image.shape[:2]))
        return {"id": self.ids[index], "image": image, "label": label}

    def files(self, index: int) -> tuple[images.File, images.File]:
        """Return where a picture and its mask lie."""
        names = self.image_file(index), self.label_file(index)
        if self.records is not None:
            pair = zip(names, self.records[index], strict=True)
            return tuple(images.Encoded(str(name), content) for name, content in pair)
        if self.pages:
            return tuple(images.Page(name, self.pages[index]) for name in names)
        return names

    def image_file(self, index: int) -> Path:
        """Return the path of a picture."""
        return self.root / self.image_paths[index]

    def label_file(self, index: int) -> Path:
        """Return the path of a mask."""
        return self.root / self.label_paths[index]

    def label(self, index: int) -> np.ndarray:
        """Read one mask: uint8 [h w], class id or IGNORE."""
        return self._read_label(self.files(index)[1])

    def _read_label(self, file: images.File) -> np.ndarray:
        raw = images.read_label(file)
        ids = self._table.take(raw)
        if (ids < 0).any():
            raise UserError(f"{file}: {self.explain(np.unique(raw[ids < 0]))}")
        return ids.astype(np.uint8)

    def size(self, index: int) -> tuple[int, int]:
        """Return (height, width) of a picture, from the file's header only."""
        return images.image_size(self.files(index)[0])

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
    def _table(self) -> np.ndarray:
        """Class id by mask value, int16 [256]; -1: the value may not occur."""
        table = np.full(256, -1, np.int16)
        for value, class_id in self.label_ids.items():
            table[value] = class_id
        return table

    def explain(self, values: np.ndarray) -> str:
        """Return what is wrong with mask values that `label_ids` lacks, and the remedy."""
        found = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
        return (
            f"label value {found} is neither a class id (0..{self.num_classes - 1}) nor void "
            f"({IGNORE}); if it means void or a class, read the data with --data.dataset folder "
            f"and give the value a line in classes.txt, e.g. '{values[0]} void'"
        )

    def check_files(self) -> "Source":
        """Return self if the list is sound and every file exists, else raise a UserError.

        Looks at names only: the pixels are read, and checked, when they are used.
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
    """Return everything that is wrong with a list and its files' names, in words."""
    if not source.ids:
        return ["the list is empty"]
    problems = [
        f"id {name!r} occurs {count} times in the list"
        for name, count in Counter(source.ids).items()
        if count > 1
    ]
    if source.records is not None:
        return problems
    for kind, paths in (("image", source.image_paths), ("mask", source.label_paths)):
        # os.path's, for Path's raises where a name is too long.
        missing = [p for p in dict.fromkeys(paths) if not os.path.isfile(source.root / p)]
        problems += [f"listed {kind} {source.root / path} does not exist" for path in missing]
    return problems


def size_mismatch(path: images.File, label: tuple[int, ...], image: tuple[int, ...]) -> str:
    """Return the message for a mask whose size is not its picture's; both (height, width)."""
    hint = "rotate" if tuple(label) == tuple(image)[::-1] else "resize (nearest neighbour)"
    return (
        f"{path}: mask of {label[1]}x{label[0]} pixels for an image of {image[1]}x{image[0]}; "
        f"{hint} the mask to the image's size"
    )


def read_list(path: Path) -> list[str]:
    """Return a list file's lines: stripped, blank ones left out, CRLF and BOM tolerated.

    Only line ends separate lines, and only ASCII's blanks are stripped: what else Unicode counts as
    either may stand in a file's name.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such list") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list ({error})") from error
    lines = (line.strip(" \t") for line in re.split(r"[\r\n]+", text))
    return [line for line in lines if line]
