"""Masks that are RGB images: the class of every colour, from a known table, a CSV or labelmap.txt.

No colour is guessed: one that is in no table is void only where that is asked for, and one near a
table's colour (JPEG, resizing) is taken for it only within a stated distance.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seg_jax.checks import UserError
from seg_jax.data import images
from seg_jax.data.datasets import folder
from seg_jax.data.imports.layout import Import, Item, listed
from seg_jax.data.source import read_list
from seg_jax.types import IGNORE, VOC_CLASSES, voc_palette

_MASKS = (".png", ".bmp", ".tif", ".tiff", ".gif", ".jpg", ".jpeg")
# Endings of a mask's name, beside those of `folder`: CamVid's and Cityscapes'.
_ENDINGS = (*folder.MASK_ENDINGS, "_L", "_gtFine_color", "_gtCoarse_color", "_color", "_rgb")
_LISTED = 64  # colours in a listing
Color = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Table:
    """Names and colours of classes, and of what is void."""

    classes: tuple[tuple[str, Color], ...]
    void: tuple[Color, ...] = ()


def _table(text: str, *void: Color) -> Table:
    rows = [line.split() for line in text.strip().splitlines()]
    return Table(tuple((name, (int(r), int(g), int(b))) for r, g, b, name in rows), void)


# Brostow et al. 2009, label_colors.txt of the release: 31 classes and Void.
CAMVID = _table(
    """
    64 128 64 Animal
    192 0 128 Archway
    0 128 192 Bicyclist
    0 128 64 Bridge
    128 0 0 Building
    64 0 128 Car
    64 0 192 CartLuggagePram
    192 128 64 Child
    192 192 128 Column_Pole
    64 64 128 Fence
    128 0 192 LaneMkgsDriv
    192 0 64 LaneMkgsNonDriv
    128 128 64 Misc_Text
    192 0 192 MotorcycleScooter
    128 64 64 OtherMoving
    64 192 128 ParkingBlock
    64 64 0 Pedestrian
    128 64 128 Road
    128 128 192 RoadShoulder
    0 0 192 Sidewalk
    192 128 128 SignSymbol
    128 128 128 Sky
    64 128 192 SUVPickupTruck
    0 0 64 TrafficCone
    0 64 64 TrafficLight
    192 64 128 Train
    128 128 0 Tree
    192 128 192 Truck_Bus
    64 0 64 Tunnel
    192 192 0 VegetationMisc
    64 192 0 Wall
    """,
    (0, 0, 0),
)
# Cordts et al. 2016: the 19 classes that are scored; the colours of the others are void. A license
# plate has the colour of a car, and cannot be told from one.
CITYSCAPES = _table(
    """
    128 64 128 road
    244 35 232 sidewalk
    70 70 70 building
    102 102 156 wall
    190 153 153 fence
    153 153 153 pole
    250 170 30 traffic_light
    220 220 0 traffic_sign
    107 142 35 vegetation
    152 251 152 terrain
    70 130 180 sky
    220 20 60 person
    255 0 0 rider
    0 0 142 car
    0 0 70 truck
    0 60 100 bus
    0 80 100 train
    0 0 230 motorcycle
    119 11 32 bicycle
    """,
    *((0, 0, 0), (111, 74, 0), (81, 0, 81), (250, 170, 160), (230, 150, 140), (180, 165, 180)),
    *((150, 100, 100), (150, 120, 90), (0, 0, 90), (0, 0, 110)),
)
VOC = Table(
    tuple(
        (name, (int(r), int(g), int(b)))
        for name, (r, g, b) in zip(VOC_CLASSES, voc_palette()[:21], strict=True)
    ),
    ((224, 224, 192),),
)
TABLES = {"camvid": CAMVID, "cityscapes": CITYSCAPES, "voc": VOC}


def table(name: str) -> Table:
    """Return a known table, or that of a file: a CSV "name,r,g,b", or CVAT's labelmap.txt.

    Raises:
      UserError: there is neither, or a line is not of that form.
    """
    if name in TABLES:
        return TABLES[name]
    path = Path(name)
    if not path.is_file():
        raise UserError(f"--colors {name}: no such file; known tables: {', '.join(TABLES)}")
    classes, void = [], []
    for line in read_list(path, limit=2**20):
        if line.startswith("#") or re.fullmatch(
            r"\w+\s*,\s*r\w*\s*,\s*g\w*\s*,\s*b\w*", line, re.I
        ):
            continue
        match = re.fullmatch(
            r"(.+?)\s*[:,\t ]\s*(\d{1,3})\s*[, ]\s*(\d{1,3})\s*[, ]\s*(\d{1,3})(:.*)?", line
        )
        color = tuple(int(match[n]) for n in (2, 3, 4)) if match else (256,)
        if not match or max(color) > 255:
            raise UserError(f"{path}: {line[:80]!r} is not 'name,r,g,b' with numbers of 0 to 255")
        if match[1].strip().lower() in ("void", "unlabeled", "ignore"):
            void.append(color)
        else:
            classes.append((match[1].strip(), color))
    colors = [color for _, color in classes] + void
    if len(set(colors)) < len(colors):
        twice = next(color for color in colors if colors.count(color) > 1)
        raise UserError(f"{path}: the colour {twice} stands for two classes")
    return Table(tuple(classes), tuple(void))


def pairs(image_folder: Path, mask_folder: Path) -> list[tuple[str, Path, Path]]:
    """Return the id, image and mask of every mask, found by the usual endings of its name.

    Raises:
      UserError: a mask belongs to no image.
    """
    known = {
        path.relative_to(image_folder).with_suffix("").as_posix(): path
        for path in listed(image_folder, folder.IMAGE_SUFFIXES)
        if mask_folder == image_folder or mask_folder not in path.parents
    }
    by_name = {Path(name).name.removesuffix("_leftImg8bit"): name for name in known}
    found = []
    for mask in listed(mask_folder, _MASKS):
        name = mask.relative_to(mask_folder).with_suffix("").as_posix()
        bases = [name.removesuffix(end) for end in _ENDINGS if name.endswith(end)]
        ids = [base for base in bases if base in known]
        ids += [by_name[Path(base).name] for base in bases if Path(base).name in by_name]
        if not ids:
            raise UserError(f"{mask}: no image in {image_folder} has this name")
        if known[ids[0]] != mask:
            found.append((ids[0], known[ids[0]], mask))
    return found


def count(masks: Sequence[Path]) -> list[tuple[Color, int, int]]:
    """Return every colour with its number of pixels and of masks, the most frequent first."""
    totals: dict[int, list[int]] = {}
    for mask in masks:
        codes, numbers = np.unique(_codes(images.read_image(mask)), return_counts=True)
        for code, number in zip(codes.tolist(), numbers.tolist(), strict=True):
            entry = totals.setdefault(code, [0, 0])
            entry[0] += number
            entry[1] += 1
    order = sorted(totals.items(), key=lambda item: -item[1][0])
    return [
        ((code >> 16, code >> 8 & 255, code & 255), pixels, there)
        for code, (pixels, there) in order
    ]


def listing(found: list[tuple[Color, int, int]], masks: int) -> str:
    """Return the colours as a CSV whose names are to be filled in, with what occurs as comments."""
    total = sum(pixels for _, pixels, _ in found)
    lines = ["name,r,g,b"]
    for number, (color, pixels, images_) in enumerate(found[:_LISTED]):
        lines.append(f"# {100 * pixels / total:.3g} % of the pixels, in {images_} of {masks} masks")
        lines.append(",".join(map(str, (f"class{number}", *color))))
    if len(found) > _LISTED:
        lines.append(f"# and {len(found) - _LISTED} more: these masks hold blended colours")
    return "\n".join(lines)


def _codes(pixels: np.ndarray) -> np.ndarray:
    wide = pixels.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def read(
    found: Sequence[tuple[str, Path, Path]],
    known: Table,
    *,
    distance: float = 0.0,
    unknown_void: bool = False,
    split: str = "",
) -> Import:
    """Return an import of colour masks.

    Args:
      found: id, image and mask.
      known: colours of the classes.
      distance: largest Euclidean distance, in 0..255 units of RGB, of a colour that is taken for
        the nearest of the table; 0: only the table's own.
      unknown_void: other colours are void; otherwise they are an error that names mask and colours.
      split: list of all of them.
    """
    colors = np.array([c for _, c in known.classes] + list(known.void), np.int32).reshape(-1, 3)
    ids = np.array([*range(len(known.classes)), *[IGNORE] * len(known.void)], np.uint8)

    def label(mask: Path) -> np.ndarray:
        codes, inverse, numbers = np.unique(
            _codes(images.read_image(mask)), return_inverse=True, return_counts=True
        )
        seen = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)
        classes = np.empty(len(codes), np.uint8)
        for start in range(0, len(codes), 4096):  # a photograph has 100,000 colours
            part = slice(start, start + 4096)
            squares = ((seen[part, None] - colors) ** 2).sum(-1)
            nearest = squares.argmin(1)
            far = np.take_along_axis(squares, nearest[:, None], 1)[:, 0] > distance**2
            if far.any() and not unknown_void:
                order = np.flatnonzero(far)[np.argsort(-numbers[part][far])][:4] + start
                names = ", ".join(
                    f"({seen[i, 0]}, {seen[i, 1]}, {seen[i, 2]}) in {numbers[i]} px" for i in order
                )
                raise UserError(
                    f"{mask}: colours of no class: {names}: add them to the table, take colours "
                    "near it with --distance, or make them void with --unknown-void"
                )
            classes[part] = np.where(far, IGNORE, ids[nearest])
        return classes[inverse].reshape(inverse.shape if inverse.ndim == 2 else -1)

    def item(name: str, image: Path, mask: Path) -> Item:
        def shaped(size: tuple[int, int]) -> np.ndarray:
            height, width = images.image_size(mask)
            return label(mask).reshape(height, width)

        return Item(name, image, shaped, split)

    names = tuple(name for name, _ in known.classes)
    table_colors = tuple(color for _, color in known.classes)
    items = tuple(item(*entry) for entry in found)
    return Import("colour masks", names, items, table_colors)
