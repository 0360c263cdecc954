"""What an import gives, and writing it as images/, masks/, classes.txt and the lists."""

import dataclasses
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from seg_jax import files, progress
from seg_jax.checks import UserError
from seg_jax.data import images
from seg_jax.data.source import MOST_CLASSES, class_problem, leaves, size_mismatch
from seg_jax.types import IGNORE, voc_palette

MOST_JSON = 512 * 2**20  # bytes: COCO's instances_train2017.json has 450 MB
MOST_FILES = 2_000_000
BACKGROUND = "background"


@dataclasses.dataclass(frozen=True)
class Item:
    """One image, and what makes its mask.

    Attributes:
      id: of the image in the new data set, a path without suffix.
      image: file to copy.
      label: returns uint8 [h w], class ids or IGNORE, for the image's (height, width).
      split: list that it belongs to; empty: there are no lists.
    """

    id: str
    image: Path
    label: Callable[[tuple[int, int]], np.ndarray]
    split: str = ""


@dataclasses.dataclass(frozen=True)
class Import:
    """What was found in a source.

    Attributes:
      kind: of the source, in words.
      classes: names by class id.
      items: its images.
      colors: of the classes; empty: VOC's.
      notes: what the user has to know, e.g. shapes that are not areas.
    """

    kind: str
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    colors: tuple[tuple[int, int, int], ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Written:
    """What an import wrote.

    Attributes:
      images: number of them.
      pixels: of each class, void last.
    """

    images: int
    pixels: tuple[int, ...]


def inside(root: Path, name: str, what: str) -> Path:
    """Return the file of a name that was read from a source; it must lie in `root`.

    Raises:
      UserError: the name is absolute, leads out of the folder, or there is no such file.
    """
    name = name.replace("\\", "/").removeprefix("./")
    if not name or leaves(name) or len(name) > 1024:
        raise UserError(f"{root}: {what} names {name[:80]!r}, which leads out of the folder")
    path = root / name
    if not path.is_file() or root.resolve() not in path.resolve().parents:
        raise UserError(
            f"{path}: {what} names this file, which is not there, or is a link out of the folder"
        )
    return path


def listed(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the files of a folder, subfolders included, that end so; hidden ones are left out."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n != "__MACOSX")
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                found.append(Path(place) / name)
        if len(found) > MOST_FILES:
            raise UserError(f"{folder}: more than {MOST_FILES} files; import a part of them")
    return found


def write(found: Import, out: Path) -> Written:
    """Write a data set `folder`, whole or not at all.

    Args:
      found: what to write.
      out: its folder, which must not exist or be empty.

    Raises:
      UserError: the folder is not empty; no image, two of one id, too many classes; an image or a
        mask that cannot be read or whose sizes differ.
    """
    _check(found)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists already; choose an empty folder with --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name[:100]}.{os.urandom(8).hex()}.part")
    palette = voc_palette()
    palette[: len(found.colors)] = found.colors or palette[:0]
    totals = np.zeros(256, np.int64)
    try:
        for item in progress.bar(found.items, desc="importing", unit="image"):
            totals += _write_item(item, part, palette, len(found.classes))
        _write_lists(found, part)
        if out.is_dir():
            out.rmdir()
        os.replace(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    pixels = (*totals[: len(found.classes)].tolist(), int(totals[IGNORE]))
    return Written(len(found.items), pixels)


def _check(found: Import) -> None:
    if not found.items:
        raise UserError(f"{found.kind}: it holds no image with labels")
    if not 0 < len(found.classes) <= MOST_CLASSES:
        raise UserError(f"{found.kind}: {len(found.classes)} classes; at most {MOST_CLASSES}")
    for name in found.classes:
        if problem := class_problem(name):
            raise UserError(f"{found.kind}: {problem}")
        if not name.isprintable() or name != name.strip() or name.startswith("#"):
            raise UserError(f"{found.kind}: the class name {name[:80]!r} cannot be in a list")
    repeated = [name for name, count in Counter(found.classes).items() if count > 1]
    if repeated:
        raise UserError(f"{found.kind}: two classes are called {repeated[0]!r}; rename one")
    seen: dict[str, Path] = {}
    for item in found.items:
        if leaves(item.id) or not item.id or len(item.id) > 200 or not item.id.isprintable():
            raise UserError(f"{item.image}: its id {item.id[:80]!r} cannot name a file")
        if item.id in seen:
            raise UserError(
                f"{item.image} and {seen[item.id]} would both be {item.id!r}; rename one"
            )
        seen[item.id] = item.image


def _write_item(item: Item, root: Path, palette: np.ndarray, classes: int) -> np.ndarray:
    """Write one image and its mask; return the pixels of each value, [256]."""
    size = images.image_size(item.image)
    label = item.label(size)
    if label.shape != size:
        raise UserError(size_mismatch(item.image, label.shape, size))
    counts = np.bincount(label.ravel(), minlength=256)
    assert not counts[classes:IGNORE].any(), "every importer maps to class ids"
    suffix = item.image.suffix.lower()
    image, mask = root / f"images/{item.id}{suffix}", root / f"masks/{item.id}.png"
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    with files.open_regular(item.image) as stored, image.open("xb") as copy:
        shutil.copyfileobj(stored, copy)
    picture = Image.fromarray(label)
    picture.putpalette(palette.tobytes())
    picture.save(mask)
    return counts


def _write_lists(found: Import, root: Path) -> None:
    lines = list(found.classes)
    if found.colors:
        table = zip(found.classes, found.colors, strict=True)
        lines = ["name,r,g,b", *(",".join(map(str, (name, *color))) for name, color in table)]
    (root / "classes.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
    for split in {item.split for item in found.items} - {""}:
        ids = [item.id for item in found.items if item.split == split]
        (root / f"{split}.txt").write_text("\n".join([*ids, ""]), encoding="utf-8")
