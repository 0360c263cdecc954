"""`synthetic_voc`: a small drawn data set in VOC's layout, for runs with no download.

It has the background and seven of VOC's classes, is made in seconds from a seed, and is designed
so that small networks learn it in minutes and the contributions of the FCN-to-DeepLab models are
visible in the scores:

* thin parts (spokes, legs, stems, poles in front of objects): skips and decoders;
* object sizes from 8 to 88 pixels, in images of about 104: multi-scale context;
* bus and train are drawn with the same sprite, which only the horizon at the top of the image
  distinguishes (town: bus; mountains: train): field of view;
* textured ground, clutter in muted colours, shadows and occlusion.

Masks hold VOC's palette indices, with a void band of one pixel around every object. The band is
outside the object, so that parts that are one pixel thin are still scored.
"""

import dataclasses
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from seg_jax import progress
from seg_jax.checks import UserError
from seg_jax.data.datasets import voc2012 as voc
from seg_jax.data.source import Source
from seg_jax.data.synthetic import sprites
from seg_jax.data.synthetic.sprite_table import SPRITES
from seg_jax.types import IGNORE, VOC_CLASSES, voc_palette

VERSION = 2  # part of every id and so of the list's checksum: raise it when the images change
COUNTS = {"train": 320, "val": 96}
HORIZONS = ("town", "mountains")
CLASSES = ("background", *SPRITES)
TWINS = ("bus", "train")  # (in town, before mountains)
OBJECT_SIZES_PX = (8.0, 88.0)  # geometric mean of width and height

_IDS = tuple(map(VOC_CLASSES.index, CLASSES))  # in the masks
# Colours of the ground: no class has them.
_GROUNDS = ((122, 128, 98), (134, 132, 130), (150, 134, 110), (106, 120, 116))


def splits(root: Path) -> tuple[str, ...]:
    """Return the names of the lists."""
    if _is_absent(root):
        return (*COUNTS, "trainval")
    names = voc.splits(root)
    _check_version(voc.open_split(root, names[0]))
    return names


def open_split(root: Path, split: str) -> Source:
    """Return a split; the data set is written first if the folder is absent or empty."""
    if _is_absent(root):
        write(root)
    whole = _check_version(voc.open_split(root, split, name="synthetic_voc"))
    palette = np.zeros_like(whole.palette)
    palette[: len(_IDS)], palette[IGNORE] = whole.palette[list(_IDS)], whole.palette[IGNORE]
    return dataclasses.replace(
        whole,
        classes=CLASSES,
        label_ids={IGNORE: IGNORE} | {value: class_id for class_id, value in enumerate(_IDS)},
        palette=palette,
    )


def _is_absent(root: Path) -> bool:
    return not root.exists() or (root.is_dir() and not any(root.iterdir()))


def _check_version(source: Source) -> Source:
    if not all(name.startswith(f"v{VERSION}s") for name in source.ids[:1]):
        raise UserError(
            f"{source.root} was not drawn by this version ({VERSION}) of synthetic_voc: name "
            "another folder with --data.root, or delete this one to have it drawn again"
        )
    return source


def write(
    root: Path, *, seed: int = 0, train: int = COUNTS["train"], val: int = COUNTS["val"]
) -> Path:
    """Draw the data set into `root`/VOC2012 and return that folder; `root` must be new or empty.

    Everything is drawn in a folder beside it, which is renamed at the end, so `root` is never
    incomplete. If two processes draw at once, the result of the first to finish is kept; both are
    the same.

    Args:
      root: the data set's folder.
      seed: of all images; train and val use disjoint streams of random numbers.
      train: number of training images.
      val: number of validation images.
    """
    if not _is_absent(root):
        raise UserError(f"{root} exists and is not empty; choose another folder or delete it")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as folder:
            complete = Path(folder) / root.name
            _write_voc(complete / "VOC2012", seed, {"train": train, "val": val})
            os.rename(complete, root)
    except OSError as error:
        if not (root / "VOC2012").is_dir():  # else another process was faster
            raise UserError(
                f"{root}: cannot be written ({error}); choose another folder with --data.root or "
                "$SEG_JAX_DATA"
            ) from error
    return root / "VOC2012"


def _write_voc(home: Path, seed: int, counts: dict[str, int]) -> None:
    lists = home / "ImageSets" / "Segmentation"
    for folder in (home / "JPEGImages", home / "SegmentationClass", lists):
        folder.mkdir(parents=True)
    ids: dict[str, list[str]] = {}
    total = sum(counts.values())
    bar = progress.bar(total=total, desc="drawing synthetic_voc", unit="image", leave=True)
    for stream, (split, count) in enumerate(counts.items()):
        ids[split] = [f"v{VERSION}s{seed}_{split}_{number:04d}" for number in range(count)]
        for number, name in enumerate(ids[split]):
            image, label = scene(np.random.default_rng([VERSION, seed, stream, number]))
            Image.fromarray(image).save(
                home / "JPEGImages" / f"{name}.jpg", quality=95, subsampling=0
            )
            mask = Image.fromarray(label)
            mask.putpalette(voc_palette().tobytes())
            mask.save(home / "SegmentationClass" / f"{name}.png")
            bar.update()
    bar.close()
    for split, names in {**ids, "trainval": sum(ids.values(), [])}.items():
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


def scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image: uint8 [h w 3] RGB, and uint8 [h w], VOC's palette index or IGNORE."""
    height, width = (int(side) for side in rng.integers(96, 113, 2))
    kind = HORIZONS[rng.integers(len(HORIZONS))]
    horizon = round(height * rng.uniform(0.24, 0.32))
    image = background(rng, height, width, horizon, kind)
    label = np.zeros((height, width), np.uint8)
    _clutter(rng, image, horizon)

    low, high = np.log(OBJECT_SIZES_PX)
    sizes = np.exp(rng.uniform(low, high, rng.integers(3, 6)))
    sizes[0] = max(sizes[0], rng.uniform(48, 88))  # at least one object is large
    for size in np.sort(sizes):  # small objects are far away: nearer ones are drawn over them
        name = CLASSES[rng.integers(1, len(CLASSES))]
        if name in TWINS:
            name = TWINS[HORIZONS.index(kind)]
        _place(rng, image, label, name, size, horizon)
    _poles(rng, image, label, horizon)

    light = rng.uniform(0.85, 1.12) * rng.uniform(0.95, 1.05, 3)
    image = image * light + rng.normal(0, 4, image.shape)
    return np.clip(image.round(), 0, 255).astype(np.uint8), label


def background(
    rng: np.random.Generator, height: int, width: int, horizon: int, kind: str
) -> np.ndarray:
    """Draw sky, ground and, above the horizon row, the town or the mountains: float [h w 3]."""
    sky = np.linspace((118, 150, 190), (200, 208, 214), horizon + 1)[:, None]
    ground = np.array(_GROUNDS[rng.integers(len(_GROUNDS))]) + rng.uniform(-12, 12, 3)
    image = np.empty((height, width, 3))
    image[: horizon + 1] = sky
    depth = np.linspace(0.88, 1.08, height - horizon)[:, None, None]
    image[horizon:] = ground * depth * _mottle(rng, height - horizon, width)[..., None]

    drawing = Image.fromarray(image.astype(np.uint8))
    pen = ImageDraw.Draw(drawing)
    left = -int(rng.integers(0, 8))
    while left < width:
        span = int(rng.integers(9, 18))
        top = horizon - int(rng.integers(horizon // 3, max(horizon // 3 + 1, horizon - 3)))
        shade = int(rng.integers(78, 112))
        if kind == "town":
            pen.rectangle((left, top, left + span, horizon), fill=(shade, shade, shade + 8))
            for x in range(left + 2, left + span - 1, 4):
                for y in range(top + 2, horizon - 1, 4):
                    pen.rectangle((x, y, x + 1, y + 1), fill=(226, 214, 140))
            left += span + 1
        else:
            peak = (left + span, top)
            pen.polygon(((left - 4, horizon), peak, (left + 2 * span + 4, horizon)),
                        fill=(shade, shade + 8, shade + 18))  # fmt: skip
            third = (horizon - top) / 3
            side = (span + 4) / 3
            pen.polygon(((peak[0] - side, top + third), peak, (peak[0] + side, top + third)),
                        fill=(228, 232, 238))  # fmt: skip
            left += round(1.3 * span)
    return np.asarray(drawing, np.float64).copy()


def _mottle(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return the ground's texture, smooth noise and fine grain around 1, float [h w]."""
    knots = rng.normal(0, 0.09, (5, 6))
    coarse = np.asarray(ndimage.zoom(knots, (height / 5, width / 6), order=1))
    coarse = np.resize(coarse, (height, width))
    return 1 + coarse + rng.normal(0, 0.045, (height, width))


def _clutter(rng: np.random.Generator, image: np.ndarray, horizon: int) -> None:
    """Paint muted polygons, some striped, on the ground: background that resembles objects."""
    height, width, _ = image.shape
    for _ in range(rng.integers(5, 12)):
        span = np.exp(rng.uniform(np.log(4), np.log(26)))
        center = rng.uniform((0, horizon + 2), (width, height))
        corners = rng.integers(3, 9)
        turns = np.sort(rng.uniform(0, 2 * np.pi, corners))
        radii = span * rng.uniform(0.35, 0.6, corners)
        points = center + np.stack([radii * np.cos(turns), 0.7 * radii * np.sin(turns)], -1)
        left, top = np.maximum(points.min(0).astype(int), (0, horizon))
        right, bottom = np.minimum(points.max(0).astype(int) + 1, (width, height))
        if left >= right or top >= bottom:
            continue
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).polygon([tuple(point) for point in points - (left, top)], fill=1)
        inside = np.asarray(mask, bool)
        color = rng.uniform(70, 170) + rng.uniform(-22, 22, 3)
        kind = sprites.TEXTURES[rng.integers(len(sprites.TEXTURES))]
        pattern = sprites.texture(kind, max(inside.shape), rng)[
            : inside.shape[0], : inside.shape[1]
        ]
        patch = image[top:bottom, left:right]
        patch[inside] = (color * pattern[..., None])[inside]


def _place(
    rng: np.random.Generator,
    image: np.ndarray,
    label: np.ndarray,
    name: str,
    size_px: float,
    horizon: int,
) -> None:
    """Paint one object, its shadow and its void band; larger objects stand lower in the image."""
    height, width = label.shape
    sprite = SPRITES[name]
    height_px = min(size_px / sprite.aspect**0.5, 0.7 * height)
    color, coverage = sprites.draw(
        sprite,
        height_px=height_px,
        degrees=rng.uniform(-7, 7),
        mirror=bool(rng.random() < 0.5),
        rng=rng,
    )
    side = len(coverage)
    nearness = size_px / OBJECT_SIZES_PX[1]
    foot = horizon + (height - horizon) * np.clip(
        0.2 + 0.7 * nearness + rng.normal(0, 0.14), 0.1, 1
    )
    top = round(foot - (side + height_px) / 2)
    left = round(rng.uniform(0.04, 0.96) * width - side / 2)

    rows, columns = np.arange(side) + top, np.arange(side) + left
    keep = np.ix_((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
    window = np.s_[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
    color, coverage = color[keep], coverage[keep]
    if not coverage.size:
        return
    _shadow(image, foot, left + side / 2, height_px)
    alpha = coverage[..., None]
    image[window] = image[window] * (1 - alpha) + color * alpha
    solid = coverage > 0.42
    band = np.asarray(ndimage.binary_dilation(solid, np.ones((3, 3))), bool) & ~solid
    label[window][band] = IGNORE
    label[window][solid] = VOC_CLASSES.index(name)


def _shadow(image: np.ndarray, foot: float, x: float, height_px: float) -> None:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    inside = ((columns - x) / (0.5 * height_px)) ** 2 + ((rows - foot) / (0.08 * height_px)) ** 2
    image[inside < 1] *= 0.75


def _poles(rng: np.random.Generator, image: np.ndarray, label: np.ndarray, horizon: int) -> None:
    """Paint thin poles of class background in front of everything: they divide objects."""
    height, width = label.shape
    for _ in range(rng.integers(0, 4)):
        x, thick = int(rng.integers(0, width)), int(rng.integers(1, 3))
        top = int(rng.integers(horizon, height - 12))
        bottom = min(height, top + int(rng.integers(20, 60)))
        pole = np.s_[top:bottom, x : x + thick]
        image[pole] = rng.uniform(54, 80) + rng.normal(0, 4, (*label[pole].shape, 1))
        label[pole] = 0
