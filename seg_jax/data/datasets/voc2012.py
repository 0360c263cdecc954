"""PASCAL VOC in its development kit's layout; masks as palette or grey PNG.

    VOC2012/JPEGImages/<id>.jpg
    VOC2012/SegmentationClass/<id>.png        0..20, 255 = void along the borders
    VOC2012/SegmentationClassAug/<id>.png     VOC's masks, else SBD's, for the lists *aug
    VOC2012/SegmentationClassSBD/<id>.png     SBD's masks, without void, for the lists sbd_*
    VOC2012/ImageSets/Segmentation/<split>.txt

The last two folders and their lists are made by `data prepare voc2012`.

Data: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/
"""

from pathlib import Path, PurePosixPath

from seg_jax.checks import UserError, unknown
from seg_jax.data.source import Source, digest, is_hidden, read_list
from seg_jax.types import IGNORE, VOC_CLASSES, voc_palette

GET = (
    "extract VOCtrainval_11-May-2012.tar (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/) "
    "with `data prepare voc2012 --voc TAR --sbd TGZ`"
)
# Number of images in VOC 2012's lists; the two *aug lists add SBD's training images (Hariharan et
# al., ICCV 2011) that are not in val. FCN was trained on sbd_train and scored on seg11valid.
COUNTS = {
    "train": 1464, "val": 1449, "trainval": 2913, "trainaug": 10582, "trainval_aug": 12031,
    "sbd_train": 8498, "sbd_val": 2857, "seg11valid": 736,
}  # fmt: skip
# SHA-256 of the lists' sorted ids, one on each line; SBD's own lists are covered by the MD5 of its
# archive.
OFFICIAL = {
    "train": "129f1fe991729b1862115b77738c938c149c1f167baa02b4b3186aea9f0d6a84",
    "val": "6f8edc37993764f6e212237d39546fb595246244147e8a050813c520aac0ade1",
    "trainval": "09c882f4c5ae3c692a0fb3bcf6df06c6f3e95ab9e09fb4182cfe28218d9eb22d",
    "trainaug": "855dff350b7f447bf43cb98ea626a32e0d0b3b7c5786e03b2712a21355b635bf",
    "trainval_aug": "df102d6b2ca349fa99aadcf3a13209924fb0bf655b1c682c75eb7e51ccbda540",
    "seg11valid": "33d3d44294e02741ecd3877459009a5d5f937069edde1a441bfcd5f38029d59b",
}


def folder(root: Path) -> Path:
    """Return the folder that holds JPEGImages: `root`, or VOC2012 or VOCdevkit/VOC2012 in it."""
    for candidate in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (candidate / "ImageSets" / "Segmentation").is_dir():
            return candidate
    raise UserError(
        f"{root} holds no VOCdevkit: neither it nor VOC2012 or VOCdevkit/VOC2012 in it has "
        "ImageSets/Segmentation; extract VOCtrainval_11-May-2012.tar there, or name its folder "
        "with --data.root"
    )


def splits(root: Path) -> tuple[str, ...]:
    """Return the names of the lists in ImageSets/Segmentation, the usual ones first."""
    lists = _lists(folder(root)).glob("*.txt")
    names = {path.stem for path in lists if not is_hidden(path.name)}
    return (*(name for name in COUNTS if name in names), *sorted(names - COUNTS.keys()))


def open_split(root: Path, split: str, *, name: str = "voc2012") -> Source:
    """Read one list of a VOCdevkit; a list named "voc2012" that is not the official one is renamed
    "voc2012-part".
    """
    home = folder(root)
    path = _lists(home) / f"{split}.txt"
    if not path.is_file():
        raise UserError(f"split {split!r}: no {path}; {unknown(split, splits(home))}")
    ids = tuple(_id(line) for line in read_list(path))
    label_folder = mask_folder(split)
    official = COUNTS.get(split, 0) if name == "voc2012" else 0
    if name == "voc2012" and not is_official(split, ids):
        name = "voc2012-part"
    return Source(
        name=name,
        split=split,
        root=home,
        ids=ids,
        image_paths=tuple(f"JPEGImages/{image_id}.jpg" for image_id in ids),
        label_paths=tuple(f"{label_folder}/{image_id}.png" for image_id in ids),
        classes=VOC_CLASSES,
        label_ids={**{value: value for value in range(len(VOC_CLASSES))}, IGNORE: IGNORE},
        palette=voc_palette(),
        official=official,
        mask_palette=voc_palette(),
    )


def mask_folder(split: str) -> str:
    """Return the name of the folder that holds a list's masks."""
    if split.startswith("sbd_"):
        return "SegmentationClassSBD"
    return "SegmentationClassAug" if split.endswith("aug") else "SegmentationClass"


def is_official(split: str, ids: tuple[str, ...]) -> bool:
    """Return whether the ids are those of VOC 2012's list of that name, in any order."""
    if split not in OFFICIAL:
        return split in COUNTS and len(set(ids)) == COUNTS[split]
    return OFFICIAL[split] == digest(sorted(ids))


def _id(line: str) -> str:
    """Return the id of a line; DeepLab's lists have two paths in place of an id:
    "/JPEGImages/<id>.jpg /SegmentationClassAug/<id>.png".
    """
    return PurePosixPath(line.split()[0]).stem if "/" in line else line


def _lists(home: Path) -> Path:
    return home / "ImageSets" / "Segmentation"
