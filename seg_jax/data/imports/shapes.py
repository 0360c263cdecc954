"""LabelMe, CVAT and Supervisely: shapes with a class, painted in their files' order.

A later shape covers an earlier one, as in these tools. What no shape covers is the class
background, with id 0. Points and lines are no areas: they are left out, and counted in a note.
"""

import base64
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw

from seg_jax import files
from seg_jax.checks import UserError
from seg_jax.data import images
from seg_jax.data.imports.layout import BACKGROUND, Import, Item, inside, listed
from seg_jax.data.source import MOST_CLASSES

_JSON_BYTES = 256 * 2**20  # of one LabelMe file, which may hold its image
_XML_BYTES = 256 * 2**20
_MOST_POINTS = 100_000  # of a polygon


class Shape(NamedTuple):
    """One area.

    Attributes:
      name: of its class.
      points: (x, y) in pixels: a polygon, two corners of a box, or centre and border of a circle.
      kind: "polygon", "box", "circle" or "mask".
      holes: polygons that it does not cover.
      mask: pixels, bool [h w], whose first pixel is at `points[0]` ("mask").
    """

    name: str
    points: list[tuple[float, float]]
    kind: str = "polygon"
    holes: tuple[list[tuple[float, float]], ...] = ()
    mask: np.ndarray | None = None


class Picture(NamedTuple):
    """One image and its areas, as a tool's file has them."""

    id: str
    image: Path
    shapes: list[Shape]
    split: str = ""


def paint(shapes: list[Shape], classes: dict[str, int], size: tuple[int, int]) -> np.ndarray:
    """Return the mask, uint8 [h w], of shapes in their order."""
    picture = Image.new("L", (size[1], size[0]), 0)
    for shape in shapes:
        value = classes[shape.name]
        area = Image.new("1", picture.size, 0)
        draw = ImageDraw.Draw(area)
        if shape.kind == "mask" and shape.mask is not None:
            area.paste(
                Image.fromarray(shape.mask), (int(shape.points[0][0]), int(shape.points[0][1]))
            )
        elif shape.kind == "box":
            (x0, y0), (x1, y1) = shape.points
            draw.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=1)
        elif shape.kind == "circle":
            (x, y), (u, v) = shape.points
            radius = float(np.hypot(u - x, v - y))
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
        else:
            draw.polygon(shape.points, fill=1, outline=1)
            for hole in shape.holes:
                draw.polygon(hole, fill=0)
        picture.paste(value, mask=area)
    return np.array(picture)


def as_import(kind: str, pictures: list[Picture], left_out: Counter, classes: Any = ()) -> Import:
    """Return the import of pictures; classes that the tool lists come first, in its order."""
    used = sorted({shape.name for picture in pictures for shape in picture.shapes})
    names = [name for name in dict.fromkeys((*classes, *used)) if name != BACKGROUND]
    if len(names) >= MOST_CLASSES:
        raise UserError(f"{kind}: {len(names)} classes; at most {MOST_CLASSES - 1}")
    ids = {name: number for number, name in enumerate((BACKGROUND, *names))}
    notes = [
        f"{count} shapes of type {name} are no areas: left out" for name, count in left_out.items()
    ]

    def item(picture: Picture) -> Item:
        return Item(
            picture.id, picture.image, lambda size: paint(picture.shapes, ids, size), picture.split
        )

    return Import(kind, (BACKGROUND, *names), tuple(map(item, pictures)), notes=tuple(notes))


def _points(numbers: Any, what: str) -> list[tuple[float, float]]:
    found = np.array(numbers, np.float64)
    if found.ndim != 2 or found.shape[1] != 2 or not 0 < len(found) <= _MOST_POINTS:
        raise ValueError(f"{what} of shape {found.shape}")
    if not (np.abs(found) <= 1e6).all():
        raise ValueError(f"{what} far outside of the image")
    return [(float(x), float(y)) for x, y in found]


def _explained(path: Path, tool: str, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be read as {tool} ({type(error).__name__}: {error})")


def read_labelme(root: Path) -> Import:
    """Return the import of a folder of LabelMe's JSON files beside their images."""
    pictures, left_out = [], Counter()
    kinds = {"polygon": "polygon", "rectangle": "box", "circle": "circle"}
    for path in listed(root, (".json",)):
        content = files.read_json(path, most=_JSON_BYTES)
        try:
            shapes = []
            for entry in content["shapes"]:
                kind = entry.get("shape_type") or "polygon"
                if kind not in kinds:
                    left_out[str(kind)[:40]] += 1
                    continue
                points = _points(entry["points"], f"a {kind}")
                if len(points) < 3 if kind == "polygon" else len(points) != 2:
                    raise ValueError(f"a {kind} of {len(points)} points")
                shapes.append(Shape(str(entry["label"]), points, kinds[kind]))
            name = str(content["imagePath"]).replace("\\", "/").rpartition("/")[2]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _explained(path, "LabelMe", error) from error
        image = inside(path.parent, name, path.name)
        pictures.append(Picture(path.relative_to(root).with_suffix("").as_posix(), image, shapes))
    return as_import("LabelMe", pictures, left_out)


def read_cvat(path: Path, image_folder: Path) -> Import:
    """Return the import of CVAT's "for images" XML, version 1.1."""
    content = files.read_bytes(path, most=_XML_BYTES)
    if re.search(rb"<!\s*(DOCTYPE|ENTITY)", content, re.I):  # an entity may stand for gigabytes
        raise UserError(f"{path}: has a document type or entities, which CVAT does not write")
    pictures, left_out = [], Counter()
    try:
        tree = ElementTree.fromstring(content)
        names = [entry.findtext("name") or "" for entry in tree.iter("label")]
        for entry in tree.iter("image"):
            image = inside(image_folder, entry.attrib["name"], f"{path.name}")
            size = images.image_size(image)
            if (int(entry.attrib["height"]), int(entry.attrib["width"])) != size:
                raise ValueError(f"image {entry.attrib['name']} has another size than its file")
            parts = []
            for number, each in enumerate(entry):
                shape = _cvat_shape(each, size)
                if shape is None:
                    left_out[each.tag[:40]] += 1
                else:
                    parts.append((int(each.attrib.get("z_order", 0)), number, shape))
            shapes = [shape for _, _, shape in sorted(parts, key=lambda part: part[:2])]
            place = image.relative_to(image_folder).with_suffix("").as_posix()
            split = {"train": "train", "validation": "val", "test": "test"}.get(
                entry.attrib.get("subset", "").lower(), ""
            )
            pictures.append(Picture(place, image, shapes, split))
    except (KeyError, TypeError, ValueError, ElementTree.ParseError) as error:
        raise _explained(path, "CVAT's XML", error) from error
    if not all(picture.split for picture in pictures):
        pictures = [picture._replace(split="") for picture in pictures]
    return as_import("CVAT", pictures, left_out, filter(None, names))


def _cvat_shape(each: Any, size: tuple[int, int]) -> Shape | None:
    get = each.attrib
    if each.tag == "polygon":
        pairs = [tuple(map(float, pair.split(","))) for pair in get["points"].split(";")]
        return Shape(get["label"], _points(pairs, "a polygon"))
    if each.tag == "box":
        corners = [(get["xtl"], get["ytl"]), (get["xbr"], get["ybr"])]
        return Shape(get["label"], _points([list(map(float, c)) for c in corners], "a box"), "box")
    if each.tag == "mask":
        left, top, width, height = (int(get[name]) for name in ("left", "top", "width", "height"))
        if not (
            0 <= left and 0 <= top and 0 < width <= size[1] - left and 0 < height <= size[0] - top
        ):
            raise ValueError(f"a mask of {width} x {height} at {left}, {top} leaves the image")
        runs = [int(run) for run in get["rle"].split(",")]
        if min(runs) < 0 or sum(runs) != width * height:  # along the rows, beginning with 0
            raise ValueError("run lengths of a mask that do not fill it")
        covered = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
        return Shape(get["label"], [(left, top)], "mask", mask=covered)
    return None


def read_supervisely(root: Path) -> Import:
    """Return the import of a Supervisely project: meta.json and DATASET/{img,ann}."""
    meta = files.read_json(root / "meta.json", most=_JSON_BYTES)
    try:
        classes = [str(entry["title"]) for entry in meta["classes"]]
    except (KeyError, TypeError) as error:
        raise _explained(root / "meta.json", "Supervisely's project", error) from error
    pictures, left_out = [], Counter()
    for path in listed(root, (".json",)):
        if path.parent.name != "ann":
            continue
        content = files.read_json(path, most=_JSON_BYTES)
        image = inside(path.parents[1] / "img", path.stem, path.name)
        try:
            shapes = []
            for entry in content["objects"]:
                shape = _supervisely_shape(entry, images.max_pixels())
                if shape is None:
                    left_out[str(entry.get("geometryType"))[:40]] += 1
                else:
                    shapes.append(shape)
        except (KeyError, TypeError, ValueError, AttributeError, zlib.error) as error:
            raise _explained(path, "Supervisely's annotation", error) from error
        place = f"{path.parents[1].relative_to(root).as_posix()}/{image.stem}".removeprefix("./")
        pictures.append(Picture(place, image, shapes))
    return as_import("Supervisely", pictures, left_out, classes)


def _supervisely_shape(entry: Any, most: int) -> Shape | None:
    name, kind = str(entry["classTitle"]), entry["geometryType"]
    if kind == "polygon":
        points = entry["points"]
        holes = tuple(_points(hole, "a hole") for hole in points.get("interior", []))
        return Shape(name, _points(points["exterior"], "a polygon"), holes=holes)
    if kind == "rectangle":
        return Shape(name, _points(entry["points"]["exterior"], "a rectangle"), "box")
    if kind == "bitmap":
        packed = base64.b64decode(entry["bitmap"]["data"], validate=True)
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(packed, most)
        if unpacker.unconsumed_tail:
            raise ValueError("a bitmap that unpacks to more than an image")
        with images.open_image(images.Encoded("bitmap", content)) as picture:
            covered = np.array(picture.convert("RGBA"))[..., 3] > 0
            if picture.mode in ("1", "L", "P"):  # without opacity, the values themselves
                covered = np.array(picture.convert("L")) > 0
        return Shape(name, _points([entry["bitmap"]["origin"]], "an origin"), "mask", mask=covered)
    return None
