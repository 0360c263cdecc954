"""Your own pictures: a folder of images, a folder of masks, a list of classes.

    images/<id>.jpg               any of .jpg .jpeg .png .bmp .tif .tiff .webp; subfolders allowed
    masks/<id>.png                one 8-bit channel or a palette; the same id, .png .bmp .tif .tiff
    classes.txt                   the classes
    train.txt val.txt ...         optional: one id a line

`classes.txt` has one class a line, the first is class 0; blank lines and lines that start with #
do not count. Where the values in the masks are others, or some mean void, every line begins with
its value:

    # value name
    0   void
    1   road
    2   car
    11  void

Values are then numbered as classes in the order of the lines (here road = 0, car = 1). 255 is void
unless a line says otherwise; a value that no line names is an error, never silently void.

Without train.txt and val.txt, every fifth id in alphabetical order is val and the others are
train. Frames of one video belong into one split: write the lists yourself.
"""

import re
from pathlib import Path

from seg_jax.checks import UserError, unknown
from seg_jax.data.source import Source, read_list
from seg_jax.types import IGNORE, voc_palette

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
_VAL_EVERY = 5


def splits(root: Path) -> tuple[str, ...]:
    """Return the names of the lists, or of the default ones where there is none."""
    for part in ("images", "masks"):
        if not (root / part).is_dir():
            raise UserError(
                f"{root} has no folder {part}/; the data set `folder` is images/, masks/ and "
                "classes.txt, with the masks named like the images"
            )
    lists = sorted(path.stem for path in root.glob("*.txt") if path.name != "classes.txt")
    return tuple(lists) or ("train", "val")


def open_split(root: Path, split: str) -> Source:
    """Read one split."""
    if split not in splits(root):
        raise UserError(f"split {split!r}: no {root / split}.txt; {unknown(split, splits(root))}")
    classes, label_ids = read_classes(root / "classes.txt")
    images = _by_id(root / "images", IMAGE_SUFFIXES)
    masks = _by_id(root / "masks", MASK_SUFFIXES)
    ids = _split_ids(root, split, images)
    return Source(
        name=f"folder:{root.absolute().name}",
        split=split,
        root=root,
        ids=ids,
        image_paths=tuple(f"images/{images.get(name, f'{name}.jpg')}" for name in ids),
        label_paths=tuple(f"masks/{masks.get(name, f'{name}.png')}" for name in ids),
        classes=classes,
        label_ids=label_ids,
        palette=voc_palette(),
    )


def read_classes(path: Path) -> tuple[tuple[str, ...], dict[int, int]]:
    """Read classes.txt: names by class id, and the class id (or IGNORE) of every mask value."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; write one class a line, the first is class 0")
    lines = [line for line in read_list(path) if not line.startswith("#")]
    matches = [re.fullmatch(r"(\d{1,9})[\s,:]+(.+)", line, re.ASCII) for line in lines]
    if any(matches) and not all(matches):
        plain = lines[[bool(match) for match in matches].index(False)]
        raise UserError(f"{path}: {plain!r} has no value, other lines have; number all or none")
    entries = [
        (int(match[1]), match[2].strip()) if match else (number, line)
        for number, (match, line) in enumerate(zip(matches, lines, strict=True))
    ]
    classes, label_ids = [], {IGNORE: IGNORE}
    named = set()
    for value, name in entries:
        if value > 255 or value in named:
            problem = "is above 255" if value > 255 else "occurs twice"
            raise UserError(f"{path}: value {value} ({name!r}) {problem}")
        named.add(value)
        label_ids[value] = IGNORE if name == "void" else len(classes)
        if name != "void":
            classes.append(name)
    if not 0 < len(classes) < IGNORE:
        raise UserError(f"{path}: {len(classes)} classes; there must be between 1 and 254")
    return tuple(classes), label_ids


def _by_id(folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Return the path, relative to the folder, of every picture in it by its id."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        relative = path.relative_to(folder)
        name = relative.with_suffix("").as_posix()
        if name in found:
            raise UserError(f"{path} and {found[name]} have the same id {name!r}; rename one")
        found[name] = relative.as_posix()
    return found


def _split_ids(root: Path, split: str, images: dict[str, str]) -> tuple[str, ...]:
    path = root / f"{split}.txt"
    if path.is_file():
        return tuple(line if line in images else _id(line) for line in read_list(path))
    is_val = split == "val"
    return tuple(
        name
        for number, name in enumerate(sorted(images), start=1)
        if (number % _VAL_EVERY == 0) == is_val
    )


def _id(line: str) -> str:
    """An id may be written with its image's suffix."""
    path = Path(line)
    return path.with_suffix("").as_posix() if path.suffix.lower() in IMAGE_SUFFIXES else line
