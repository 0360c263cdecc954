"""Your own images: a folder of images, a folder of masks, a list of classes.

    images/<id>.jpg               .jpg .jpeg .png .bmp .tif .tiff .webp .npy; subfolders allowed
    masks/<id>.png                one 8-bit channel or a palette; .png .bmp .tif .tiff .gif; the
                                  same id, or the id and _mask, _label, _gt, _gtFine_labelIds, _seg
    classes.txt                   the classes
    train.txt val.txt ...         optional: an id, or an image and its mask, on each line

`classes.txt` has one class on each line, the first is class 0; blank lines and lines that start
with # are skipped. Where the mask values are others, or some mean void, every line begins with its
value:

    # value name
    0   void
    1   road
    2   car
    11  void

Values are then numbered as classes in the order of the lines (here road = 0, car = 1). 255 is void
unless a line says otherwise; a value that no line names is an error, never silently void. A table
"name,r,g,b" of names and colours is read as well.

Without train.txt and val.txt, every fifth id in alphabetical order (of fewer than five, the last)
is val and the others are train. Frames of one video belong in one split: write the lists
yourself then. Hidden files and folders are skipped.
"""

import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from seg_jax.checks import UserError, unknown
from seg_jax.data import colours
from seg_jax.data.images import LOSSY_MASK
from seg_jax.data.source import MOST_CLASSES, Source, class_problem, is_hidden, read_list
from seg_jax.types import IGNORE, voc_palette

GET = "put images/, masks/ and classes.txt"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".npy")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".jfif")
# What tools append to an image's name to name its mask, and Cityscapes' ending of an image's name.
MASK_ENDINGS = ("", "_mask", "_label", "_labels", "_gt", "_gtFine_labelIds", "_seg")
_IMAGE_ENDING = "_leftImg8bit"
_VAL_EVERY = 5
_CLASSES_BYTES = 2**20


def splits(root: Path) -> tuple[str, ...]:
    """Return the names of the lists, or of the default ones where there is none."""
    for part in ("images", "masks"):
        if not (root / part).is_dir():
            raise UserError(
                f"{root} has no folder {part}/; the data set `folder` is images/, masks/ and "
                "classes.txt, with the masks named like the images"
            )
    lists = sorted(
        path.stem
        for path in root.glob("*.txt")
        if path.name != "classes.txt" and not is_hidden(path.name)
    )
    return tuple(lists) or ("train", "val")


def open_split(root: Path, split: str) -> Source:
    """Read one split."""
    if split not in splits(root):
        raise UserError(f"split {split!r}: no {root / split}.txt; {unknown(split, splits(root))}")
    classes, label_ids, palette = read_classes(root / "classes.txt")
    images = _by_id(root / "images", IMAGE_SUFFIXES)
    masks = _by_id(root / "masks", MASK_SUFFIXES)
    pairs = [_pair(line, images, masks) for line in _lines(root, split, tuple(images.values()))]
    if any(mask is None for _, _, mask in pairs):
        _refuse_lossy(root / "masks", [image_id for image_id, _, mask in pairs if mask is None])
    return Source(
        name=f"folder:{root.absolute().name}",
        split=split,
        root=root,
        ids=tuple(image_id for image_id, _, _ in pairs),
        image_paths=tuple(f"images/{image}" for _, image, _ in pairs),
        label_paths=tuple(f"masks/{mask or f'{name}.png'}" for name, _, mask in pairs),
        classes=classes,
        label_ids=label_ids,
        palette=palette,
    )


def read_classes(path: Path) -> tuple[tuple[str, ...], dict[int, int], np.ndarray]:
    """Read classes.txt.

    Returns:
      Names by class id; the class id (or IGNORE) of every mask value; a palette, uint8 [256 3],
      that of `colours.of` where the file has no colours.
    """
    if not os.path.lexists(path):
        raise UserError(f"{path}: no such file; write one class a line, the first is class 0")
    lines = [line for line in read_list(path, limit=_CLASSES_BYTES) if not line.startswith("#")]
    lines, colors = _split_colors(path, lines)
    matches = [re.fullmatch(r"(\d{1,9})[\s,:]+(.+)", line, re.ASCII) for line in lines]
    values = {int(match[1]) for match in matches if match and _is_void(match[2])}
    if values == {IGNORE} and sum(map(bool, matches)) == 1:  # names, and one line "255 void"
        lines = [line for line, match in zip(lines, matches, strict=True) if not match]
        matches = [None] * len(lines)
    if any(matches) and not all(matches):
        plain = lines[[bool(match) for match in matches].index(False)]
        raise UserError(
            f"{path}: {plain[:80]!r} has no value, other lines have; number all or none"
        )
    entries = [
        (int(match[1]), match[2].strip()) if match else (number, line)
        for number, (match, line) in enumerate(zip(matches, lines, strict=True))
    ]
    classes, label_ids = [], {IGNORE: IGNORE}
    palette = voc_palette()
    named = set()
    for number, (value, name) in enumerate(entries):
        if problem := class_problem(name):
            raise UserError(f"{path}: {problem}")
        if value > 255 or value in named:
            problem = "is above 255" if value > 255 else "occurs twice"
            raise UserError(f"{path}: value {value} ({name!r}) {problem}")
        named.add(value)
        label_ids[value] = IGNORE if _is_void(name) else len(classes)
        if not _is_void(name):
            if colors:
                palette[len(classes)] = colors[number]
            classes.append(name)
    if not 0 < len(classes) <= MOST_CLASSES:
        raise UserError(
            f"{path}: {len(classes)} classes; there must be between 1 and {MOST_CLASSES}"
        )
    return tuple(classes), label_ids, palette if colors else colours.of(classes)


def _is_void(name: str) -> bool:
    return name.strip().lower() == "void"


def _split_colors(path: Path, lines: list[str]) -> tuple[list[str], list[tuple[int, ...]]]:
    """Return names and colours of a table "name,r,g,b"; other lines as they are, and no colours."""
    if not lines or not re.fullmatch(
        r"\w+\s*,\s*r(ed)?\s*,\s*g(reen)?\s*,\s*b(lue)?", lines[0].lower()
    ):
        return lines, []
    names, colors = [], []
    for line in lines[1:]:
        *name, red, green, blue = [part.strip() for part in line.split(",")]
        numbers = [red, green, blue] if name else []
        if not numbers or not all(re.fullmatch(r"\d{1,3}", n, re.ASCII) for n in numbers):
            raise UserError(f"{path}: {line[:80]!r} is not 'name,r,g,b', as its first line says")
        color = tuple(map(int, numbers))
        if max(color) > 255:
            raise UserError(f"{path}: {line[:80]!r} has a colour above 255")
        names.append(",".join(name))
        colors.append(color)
    return names, colors


def _key(name: str) -> str:
    """Return one Unicode form of a name: "é" may be stored as one character or as two."""
    return unicodedata.normalize("NFC", name)


def _by_id(folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Return the path, relative to the folder, of every image in it by the `_key` of its id."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.suffix.lower() not in suffixes or is_hidden(relative.as_posix()):
            continue
        name = relative.with_suffix("").as_posix()
        if _key(name) in found:
            raise UserError(f"{path} and {found[_key(name)]} have the same id {name!r}; rename one")
        found[_key(name)] = relative.as_posix()
    return found


def _lines(root: Path, split: str, images: tuple[str, ...]) -> list[str]:
    """Return the lines of the split's list or, without a list, its default ids."""
    path = root / f"{split}.txt"
    if os.path.lexists(path):  # what is no file is then an error
        return read_list(path)
    names = sorted(map(_without_suffix, images))
    if len(names) == 1 and split == "val":
        raise UserError(
            f"{root}: one image cannot be both train and val; add images, or write train.txt and "
            "val.txt"
        )
    every = min(_VAL_EVERY, max(2, len(names)))
    is_val = split == "val"
    return [name for number, name in enumerate(names, start=1) if (number % every == 0) == is_val]


def _pair(
    line: str, images: Mapping[str, str], masks: Mapping[str, str]
) -> tuple[str, str, str | None]:
    """Return the id, image and mask that a line of a list names; paths are inside their folders.

    The mask is None if no mask has a fitting name.
    """
    line = line.removeprefix("./")
    if (found := _find(line, "images", images)) is not None:
        name = _without_suffix(found)
        return name, found, _mask_of(name, masks)
    columns = re.split(r"[\s,;]+", line)
    if len(columns) == 2:
        image = _find(columns[0], "images", images)
        mask = _find(columns[1], "masks", masks)
        if image is not None and mask is not None:
            return _without_suffix(image), image, mask
    # Nothing fits: the paths name what is missing, and the id is made a name inside the folder.
    name = "/".join(part for part in line.split("/") if part not in ("", ".", ".."))
    path = line if Path(line).suffix.lower() in IMAGE_SUFFIXES else f"{line}.jpg"
    mask = f"{_without_suffix(path)}.png" if ".." in line.split("/") else _mask_of(name, masks)
    return _without_suffix(name), path, mask


def _find(name: str, folder: str, paths: Mapping[str, str]) -> str | None:
    """Return the path for an id, a file name, or a path that contains the folder's name."""
    for candidate in (name, name.rpartition(f"{folder}/")[2]):
        for form in (candidate, _without_suffix(candidate)):
            if _key(form) in paths:
                return paths[_key(form)]
    return None


def _mask_of(name: str, masks: Mapping[str, str]) -> str | None:
    for base in (name, name.removesuffix(_IMAGE_ENDING)):
        for ending in MASK_ENDINGS:
            if _key(base + ending) in masks:
                return masks[_key(base + ending)]
    return None


def _without_suffix(name: str) -> str:
    """Return the name without the suffix of an image or mask, if it has one."""
    path = Path(name)
    known = (*IMAGE_SUFFIXES, *MASK_SUFFIXES)
    return path.with_suffix("").as_posix() if path.suffix.lower() in known else name


def _refuse_lossy(folder: Path, missing: list[str]) -> None:
    """Raise a UserError if a missing mask is there as a JPEG."""
    lossy = _by_id(folder, LOSSY_SUFFIXES)
    for name in missing:
        if (mask := _mask_of(name, lossy)) is not None:
            raise UserError(f"{folder / mask}: {LOSSY_MASK}")
