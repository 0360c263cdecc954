"""Cityscapes (Cordts et al., CVPR 2016) in its own layout: 2048x1024 pixels, 19 classes.

    leftImg8bit/<split>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png
    gtFine/<split>/<city>/<city>_<sequence>_<frame>_gtFine_labelIds.png

Masks hold the label ids 0..33, of which 19 are scored and the others are void. The masks of the
test split are not public.

Data: leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, https://www.cityscapes-dataset.com
"""

from pathlib import Path

import numpy as np

from seg_jax.checks import UserError, unknown
from seg_jax.data.source import Source, is_hidden
from seg_jax.types import IGNORE

GET = (
    "unzip leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip "
    "(https://www.cityscapes-dataset.com)"
)
COUNTS = {"train": 2975, "val": 500}
_LABEL_IDS = 34  # 0..33
# Label id, name and colour of the scored classes (labels.py of the data set's scripts).
_SCORED = (
    (7, "road", (128, 64, 128)), (8, "sidewalk", (244, 35, 232)), (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)), (13, "fence", (190, 153, 153)), (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)), (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)), (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)), (24, "person", (220, 20, 60)), (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)), (27, "truck", (0, 0, 70)), (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)), (32, "motorcycle", (0, 0, 230)), (33, "bicycle", (119, 11, 32)),
)  # fmt: skip
CLASSES = tuple(name for _, name, _ in _SCORED)


def folder(root: Path) -> Path:
    """Return `root` if it holds leftImg8bit/ and gtFine/."""
    if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
        return root
    raise UserError(
        f"{root} holds no folders leftImg8bit/ and gtFine/; unzip leftImg8bit_trainvaltest.zip and "
        "gtFine_trainvaltest.zip there, or name their folder with --data.root"
    )


def splits(root: Path) -> tuple[str, ...]:
    """Return the names of the splits that the folder has."""
    home = folder(root)
    return tuple(split for split in COUNTS if (home / "leftImg8bit" / split).is_dir())


def open_split(root: Path, split: str) -> Source:
    """Read one split, city by city."""
    home = folder(root)
    if split not in splits(root):
        raise UserError(f"split {split!r} of Cityscapes: {unknown(split, splits(root))}")
    found = sorted((home / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
    found = [path for path in found if not is_hidden(f"{path.parent.name}/{path.name}")]
    ids = tuple(path.name.removesuffix("_leftImg8bit.png") for path in found)
    cities = [path.parent.name for path in found]
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(_SCORED)] = [color for _, _, color in _SCORED]
    void = dict.fromkeys(range(_LABEL_IDS), IGNORE)
    return Source(
        name="cityscapes" if len(ids) == COUNTS[split] else "cityscapes-part",
        split=split,
        root=home,
        ids=ids,
        image_paths=_paths("leftImg8bit/{}/{}/{}_leftImg8bit.png", split, cities, ids),
        label_paths=_paths("gtFine/{}/{}/{}_gtFine_labelIds.png", split, cities, ids),
        classes=CLASSES,
        label_ids=void | {value: number for number, (value, _, _) in enumerate(_SCORED)},
        palette=palette,
        official=COUNTS[split],
    )


def _paths(pattern: str, split: str, cities: list[str], ids: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(pattern.format(split, city, name) for city, name in zip(cities, ids, strict=True))
