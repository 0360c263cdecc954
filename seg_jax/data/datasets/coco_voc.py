"""MS COCO with VOC's classes, for the stage before VOC: all of COCO's other classes are background.

The folder is what `data import` makes of COCO's JSON of instances: images/, masks/, classes.txt
with its 80 names, a list for each split. DeepLab v3 trains on the images with more than 1,000
labelled pixels; a list of them is a file NAME.txt of ids, written once (docs/recipes.md).
"""

import dataclasses
from pathlib import Path

from seg_jax.checks import UserError
from seg_jax.data.datasets import folder
from seg_jax.data.source import Source
from seg_jax.types import IGNORE, VOC_CLASSES, voc_palette

GET = "run `python -m seg_jax data import COCO --out` that folder, for images/, masks/, classes.txt"
# COCO's names of VOC's classes, where they differ.
_NAMES = {
    "airplane": "aeroplane", "motorcycle": "motorbike", "couch": "sofa", "tv": "tvmonitor",
    "potted plant": "pottedplant", "dining table": "diningtable",
}  # fmt: skip

splits = folder.splits


def open_split(root: Path, split: str) -> Source:
    """Read one split of an imported COCO.

    Raises:
      UserError: its classes are not COCO's.
    """
    whole = folder.open_split(root, split)
    names = [_NAMES.get(name, name) for name in whole.classes]
    if missing := [name for name in VOC_CLASSES if name not in names]:
        raise UserError(
            f"{root / 'classes.txt'}: holds no class for VOC's {', '.join(missing[:5])}; the data "
            "set coco_voc is all of COCO's JSON, imported by `data import`"
        )
    ids = [VOC_CLASSES.index(name) if name in VOC_CLASSES else 0 for name in names]
    return dataclasses.replace(
        whole,
        name=whole.name.replace("folder:", "coco-voc:"),
        classes=VOC_CLASSES,
        label_ids={
            value: IGNORE if class_id == IGNORE else ids[class_id]
            for value, class_id in whole.label_ids.items()
        },
        palette=voc_palette(),
    )
