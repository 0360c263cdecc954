"""Which tool or data set a folder or file comes from, by what lies in it."""

import dataclasses
from pathlib import Path

from seg_jax import files
from seg_jax.checks import UserError
from seg_jax.data.imports import coco, colors, shapes
from seg_jax.data.imports.layout import MOST_JSON, Import, listed

_SPLITS = {"train": "train", "valid": "val", "val": "val", "validation": "val", "test": "test"}
# Folders of images and of their masks: VOC's and CVAT's, CamVid's, Cityscapes', and usual names.
_FOLDERS = (
    ("JPEGImages", "SegmentationClass"),
    ("701_StillsRaw_full", "LabeledApproved_full"),
    ("leftImg8bit", "gtFine"),
    ("images", "masks"), ("images", "labels"), ("images", "annotations"), ("imgs", "masks"),
    ("img", "masks_human"), ("image", "label"), ("images", "mask"),
)  # fmt: skip
KINDS = "colour masks, COCO (also Roboflow's), LabelMe, CVAT, Supervisely, VOC's SegmentationClass"


@dataclasses.dataclass(frozen=True)
class Options:
    """What the user says of a source.

    Attributes:
      images: folder of the images; None: found.
      masks: folder of the masks; None: found.
      colors: name or file of a table of colours; empty: by the layout.
      distance: see `colors.read`.
      unknown_void: see `colors.read`.
    """

    images: Path | None = None
    masks: Path | None = None
    colors: str = ""
    distance: float = 0.0
    unknown_void: bool = False


def read(source: Path, options: Options) -> Import:
    """Return the import of a source.

    Raises:
      UserError: it is of no known kind, or cannot be read.
    """
    if source.is_file():
        return _file(source, options.images or source.parent)
    if not source.is_dir():
        raise UserError(f"{source}: no such file or folder")
    if options.masks is None and not options.colors:
        if found := _tool(source, options):
            return found
    image_folder, mask_folder = mask_folders(source, options)
    table = options.colors or _table_of(source, mask_folder)
    found = colors.read(
        colors.pairs(image_folder, mask_folder),
        colors.table(table),
        distance=options.distance,
        unknown_void=options.unknown_void,
    )
    splits = [_SPLITS.get(item.id.split("/")[0], "") for item in found.items]
    if not all(splits):
        return found
    items = zip(found.items, splits, strict=True)
    return dataclasses.replace(
        found, items=tuple(dataclasses.replace(item, split=split) for item, split in items)
    )


def mask_folders(source: Path, options: Options) -> tuple[Path, Path]:
    """Return the folders of images and masks; UserError if they cannot be told."""
    for image_name, mask_name in _FOLDERS:
        found = options.images or source / image_name, options.masks or source / mask_name
        if all(path.is_dir() for path in found):
            return found
    raise UserError(
        f"{source}: of no kind that is known ({KINDS}); for masks, name the folders with --images "
        "and --masks"
    )


def _table_of(source: Path, masks: Path) -> str:
    for place in (source / "labelmap.txt", masks / "labelmap.txt", source / "label_colors.csv"):
        if place.is_file():
            return str(place)
    known = {"gtFine": "cityscapes", "LabeledApproved_full": "camvid", "SegmentationClass": "voc"}
    if masks.name in known:
        return known[masks.name]
    raise UserError(
        f"{masks}: which colour is which class? --colors takes {', '.join(colors.TABLES)}, a CSV "
        "'name,r,g,b', or find, which lists the colours that occur"
    )


def _tool(source: Path, options: Options) -> Import | None:
    if (source / "meta.json").is_file():
        return shapes.read_supervisely(source)
    parts = []
    for name, split in _SPLITS.items():  # Roboflow's
        path = source / name / "_annotations.coco.json"
        if path.is_file():
            parts.append(coco.read(path, path.parent, split=split, prefix=f"{split}/"))
    if parts:
        return _joined(parts)
    if (source / "annotations.xml").is_file():
        image_folder = options.images or source / "images"
        return shapes.read_cvat(
            source / "annotations.xml", image_folder if image_folder.is_dir() else source
        )
    found = listed(source, (".json",))
    if (source / "annotations").is_dir() and found:
        instances = [path for path in found if path.parent == source / "annotations"]
        parts = [_coco_of(path, source, options) for path in instances if _is_coco(path)]
        if parts:
            return _joined(parts)
    if len(found) == 1 and _is_coco(found[0]):
        return _file(found[0], options.images or found[0].parent)
    if found and _has(found[0], "shapes"):
        return shapes.read_labelme(source)
    return None


def _coco_of(path: Path, source: Path, options: Options) -> Import:
    """COCO's own layout: annotations/instances_SPLIT.json and [images/]SPLIT/."""
    name = path.stem.removeprefix("instances_").removeprefix("person_keypoints_")
    split = next((s for key, s in _SPLITS.items() if name.startswith(key)), "")
    places = [source / "images" / name, source / name, source / "images"]
    folder = options.images or next((place for place in places if place.is_dir()), source)
    return coco.read(path, folder, split=split, prefix=f"{split}/" if split else "")


def _file(path: Path, image_folder: Path) -> Import:
    if path.suffix.lower() == ".json" and _is_coco(path):
        return coco.read(path, image_folder)
    if path.suffix.lower() == ".xml":
        return shapes.read_cvat(path, image_folder)
    raise UserError(f"{path}: of no kind that is known ({KINDS})")


def _is_coco(path: Path) -> bool:
    return _has(path, "annotations") and _has(path, "images")


def _has(path: Path, key: str) -> bool:
    content = files.read_json(path, most=MOST_JSON)
    return isinstance(content, dict) and key in content


def _joined(parts: list[Import]) -> Import:
    if any(part.classes != parts[0].classes for part in parts):
        raise UserError(f"{parts[0].kind} and the other lists name different categories")
    items = tuple(item for part in parts for item in part.items)
    if not all(item.split for item in items):
        items = tuple(dataclasses.replace(item, split="") for item in items)
    notes = tuple(note for part in parts for note in part.notes)
    return dataclasses.replace(parts[0], items=items, notes=notes)
