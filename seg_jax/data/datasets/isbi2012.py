"""ISBI 2012 EM segmentation challenge: 30 grey sections of 512x512 pixels. As released,

    train-volume.tif train-labels.tif    stacks of 30 pages

or as single images in the order of the stack

    image/<n>.png label/<n>.png          n = 0..29

Masks hold 0 = membrane and 255 = inside a cell; there is no void. The masks of the challenge's test
sections are not public, so "val" is the last six training sections, 24 to 29: neighbouring sections
look alike, and one block at the end has the fewest neighbours. "train" is 0 to 23, "trainval" all.

Data: https://imagej.net/events/isbi-2012-segmentation-challenge
"""

from pathlib import Path

from seg_jax.checks import UserError, unknown
from seg_jax.data import images
from seg_jax.data.source import Source
from seg_jax.types import voc_palette

GET = "put the challenge's train-volume.tif and train-labels.tif"
SECTIONS = {"train": range(24), "val": range(24, 30), "trainval": range(30)}
_VOLUME, _LABELS = "train-volume.tif", "train-labels.tif"


def splits(root: Path) -> tuple[str, ...]:
    """Return the names of the splits."""
    stacks = (root / _VOLUME).is_file() and (root / _LABELS).is_file()
    if not stacks and not ((root / "image").is_dir() and (root / "label").is_dir()):
        raise UserError(
            f"{root} holds no {_VOLUME} and {_LABELS}, nor folders image/ and label/ with 0.png "
            "... 29.png; put them there, or name their folder with --data.root"
        )
    return tuple(SECTIONS)


def open_split(root: Path, split: str) -> Source:
    """Read one split, in the order of the stack; sections that are missing are left out."""
    if split not in splits(root):
        raise UserError(f"split {split!r} of ISBI 2012: {unknown(split, SECTIONS)}")
    if (root / _VOLUME).is_file():
        pages = images.page_count(root / _VOLUME)
        there = [number for number in SECTIONS[split] if number < pages]
        image_paths, label_paths = (_VOLUME,) * len(there), (_LABELS,) * len(there)
    else:
        pages = 0
        there = [number for number in SECTIONS[split] if (root / f"image/{number}.png").is_file()]
        image_paths = tuple(f"image/{number}.png" for number in there)
        label_paths = tuple(f"label/{number}.png" for number in there)
    return Source(
        name="isbi2012" if len(there) == len(SECTIONS[split]) else "isbi2012-part",
        split=split,
        root=root,
        ids=tuple(f"{number:02d}" for number in there),
        image_paths=image_paths,
        label_paths=label_paths,
        classes=("membrane", "cell"),
        label_ids={0: 0, 255: 1},
        palette=voc_palette(),
        official=len(SECTIONS[split]),
        pages=tuple(there) if pages else (),
    )
