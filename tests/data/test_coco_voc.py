"""COCO's JSON, imported, read with VOC's classes."""

import json
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from seg_jax import __main__, data
from seg_jax.checks import UserError
from seg_jax.types import VOC_CLASSES

# A few of COCO's names in its own order, among them all of VOC's.
COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "bird",
    "cat", "dog", "horse", "sheep", "cow", "elephant", "bottle", "chair", "couch", "potted plant",
    "dining table", "tv",
)  # fmt: skip


def export(root, names):
    """One image with a column for each category, the first bare; and one without any."""
    width = len(names) + 1
    for name in ("a", "b"):
        Image.fromarray(np.zeros((60, width, 3), np.uint8)).save(root / f"{name}.png")
    annotations = [
        {"id": n, "image_id": 5, "category_id": 10 * n, "iscrowd": 0,
         "segmentation": {"size": [60, width], "counts": [60 * n, 60, 60 * (width - n - 1)]}}
        for n in range(1, len(names) + 1)
    ]  # fmt: skip
    content = {
        "images": [
            {"id": number, "file_name": f"{name}.png", "height": 60, "width": width}
            for number, name in ((5, "a"), (6, "b"))
        ],
        "annotations": annotations,
        "categories": [{"id": 10 * n, "name": name} for n, name in enumerate(names, start=1)],
    }
    (root / "_annotations.coco.json").write_text(json.dumps(content))
    return root


def test_names_become_voc_s_and_all_others_background(tmp_path, monkeypatch):
    (tmp_path / "coco").mkdir()
    out = tmp_path / "coco_folder"
    assert not __main__.main(
        ["data", "import", str(export(tmp_path / "coco", COCO)), "--out", str(out)]
    )
    (out / "train.txt").write_text("a\nb\n")
    # The page's list of images with more than 1,000 labelled pixels: 20 columns of 60.
    page = (pathlib.Path(__file__).parents[2] / "docs/recipes.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    source = data.open_source("coco_voc", out, "labelled")
    assert source.ids == ("a",)
    assert source.name == "coco-voc:coco_folder" and source.classes == VOC_CLASSES
    row = source[0]["label"][0]
    found = {name: VOC_CLASSES[value] for name, value in zip(COCO, row[1:], strict=True)}
    assert row[0] == 0
    assert [name for name, voc in found.items() if voc == "background"] == ["truck", "elephant"]
    assert set(found.values()) == set(VOC_CLASSES)
    renamed = {name: voc for name, voc in found.items() if voc not in (name, "background")}
    assert renamed == {
        "motorcycle": "motorbike", "airplane": "aeroplane", "couch": "sofa", "tv": "tvmonitor",
        "potted plant": "pottedplant", "dining table": "diningtable",
    }  # fmt: skip


def test_another_folder_is_refused(tmp_path):
    (tmp_path / "coco").mkdir()
    out = tmp_path / "out"
    __main__.main(["data", "import", str(export(tmp_path / "coco", COCO[:-2])), "--out", str(out)])
    with pytest.raises(UserError, match=r"classes\.txt: holds no class for VOC's diningtable, tv"):
        data.open_source("coco_voc", out, "val")
