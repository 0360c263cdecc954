"""Small exports of labelling tools, as they write them, all of the same two areas."""

import base64
import io
import json
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 12, 20
# Two areas: an axis-parallel rectangle of whole pixels, and another that covers a part of it.
ROAD, CAR = np.s_[2:9, 3:15], np.s_[4:7, 10:19]
EXPECTED = np.zeros((HEIGHT, WIDTH), np.uint8)
EXPECTED[ROAD], EXPECTED[CAR] = 1, 2


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    Image.fromarray(pixels).save(path)


def corners(area, *, last=0) -> list[list[int]]:
    """Corners of an area; `last` = 1: centres of its border pixels, as PIL draws polygons."""
    (top, bottom), (left, right) = ((s.start, s.stop - last) for s in area)
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def runs(mask: np.ndarray) -> list[int]:
    """Run lengths in C order, beginning with those of 0, by the definition."""
    flat, found, value = mask.ravel().tolist(), [], False
    while flat:
        length = next((n for n, each in enumerate(flat) if each != value), len(flat))
        found.append(length)
        flat, value = flat[length:], not value
    return found


def area_mask(area) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[area] = True
    return mask


def coco_json(root: Path, names=("a.png", "b.png"), form="polygon", folder="") -> Path:
    annotations = []
    for number, name in enumerate(names):
        image(root / folder / name)
        for category, area in ((7, ROAD), (9, CAR)):
            shape = {"polygon": [sum(corners(area), [])]}.get(form) or {
                "size": [HEIGHT, WIDTH], "counts": runs(area_mask(area).T)
            }  # fmt: skip
            annotations.append({"id": len(annotations), "image_id": number, "category_id": category,
                                "segmentation": shape, "iscrowd": 0})  # fmt: skip
    path = root / folder / "_annotations.coco.json"
    content = {
        "images": [
            {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH}
            for number, name in enumerate(names)
        ],
        "annotations": annotations,
        "categories": [{"id": 7, "name": "road"}, {"id": 9, "name": "car"}],
    }
    path.write_text(json.dumps(content))
    return path


def labelme(root: Path) -> Path:
    for name in ("a", "b"):
        image(root / f"{name}.png")
        shapes = [
            {"label": "road", "points": corners(ROAD, last=1), "shape_type": "polygon"},
            {"label": "car", "points": corners(CAR, last=1)[::2], "shape_type": "rectangle"},
            {"label": "car", "points": [[1, 1]], "shape_type": "point"},
        ]
        content = {"version": "5.4.1", "shapes": shapes, "imagePath": f"..\\x\\{name}.png"}
        (root / f"{name}.json").write_text(json.dumps(content))
    return root


def cvat(root: Path) -> Path:
    image(root / "images/a.png")
    polygon = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners(ROAD, last=1))
    mask = area_mask(CAR)[CAR]
    (root / "annotations.xml").write_text(
        f"""<?xml version="1.0" encoding="utf-8"?>
        <annotations><version>1.1</version>
        <meta><job><labels><label><name>road</name></label>
        <label><name>car</name></label></labels></job></meta>
        <image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">
          <mask label="car" rle="{",".join(map(str, runs(mask)))}" left="10" top="4"
            width="9" height="3" z_order="1"/>
          <polygon label="road" points="{polygon}" z_order="0"/>
          <polyline label="road" points="1,1;2,2" z_order="0"/>
        </image></annotations>"""
    )
    return root


def supervisely(root: Path) -> Path:
    image(root / "ds/img/a.png")
    (root / "ds/ann").mkdir(parents=True)
    covered = io.BytesIO()
    opaque = np.where(area_mask(CAR)[CAR], 255, 0).astype(np.uint8)
    Image.fromarray(np.dstack([opaque] * 4)).save(covered, "PNG")
    packed = base64.b64encode(zlib.compress(covered.getvalue())).decode()
    objects = [
        {"classTitle": "road", "geometryType": "polygon",
         "points": {"exterior": corners(ROAD, last=1), "interior": []}},
        {"classTitle": "car", "geometryType": "bitmap",
         "bitmap": {"data": packed, "origin": [10, 4]}},
    ]  # fmt: skip
    (root / "ds/ann/a.png.json").write_text(json.dumps({"objects": objects}))
    (root / "meta.json").write_text(json.dumps({"classes": [{"title": "road"}, {"title": "car"}]}))
    return root


SOURCES = {"labelme": labelme, "cvat": cvat, "supervisely": supervisely}
