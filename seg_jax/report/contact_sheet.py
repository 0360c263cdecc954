"""`data view`: images of a data set beside their masks, as one PNG or one HTML file."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seg_jax.checks import UserError, unknown
from seg_jax.data import visualize
from seg_jax.data.source import Source
from seg_jax.report import page
from seg_jax.report.images import figure, legend
from seg_jax.types import IGNORE

_TILE = 256  # pixels: longer side of an image in the PNG
_CAPTION, _GAP, _COLUMNS = 18, 8, 3
_VOID = (224, 224, 192)  # VOC's colour of void


def choose(source: Source, count: int, *, seed: int = 0, class_name: str = "") -> list[int]:
    """Return the indices of up to `count` images, drawn without replacement, in list order.

    Args:
      source: the split.
      count: number of images.
      seed: of the random draw.
      class_name: draw only images with at least one pixel of this class; "": any image.
    """
    order = np.random.default_rng(seed).permutation(len(source)).tolist()
    if not class_name:
        return sorted(order[:count])
    if class_name not in source.classes:
        raise UserError(f"class: {unknown(class_name, source.classes)}")
    class_id, found = source.classes.index(class_name), []
    for index in order:
        if (source.label(index) == class_id).any():
            found.append(index)
        if len(found) == count:
            break
    if not found:
        raise UserError(f"{source.description}: {class_name} occurs in none of the images")
    return sorted(found)


def write(source: Source, indices: Sequence[int], out: Path) -> None:
    """Write a contact sheet in the format that the suffix of `out` names: .png or .html."""
    if out.suffix not in (".png", ".html"):
        raise UserError(
            f"{out}: a contact sheet is written as .png or .html; choose one of the two"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".png":
        as_image(source, indices).save(out)
    else:
        out.write_text(as_html(source, indices), encoding="utf-8")


def as_image(source: Source, indices: Sequence[int]) -> Image.Image:
    """Return a grid of pairs, image and coloured mask, with a legend of the classes below."""
    palette = _palette(source)
    tiles, present = [], set()
    for index in indices:
        record = source[index]
        present |= set(np.unique(record["label"]).tolist())
        tiles.append(_tile(record["id"], record["image"], palette[record["label"]]))
    columns = min(_COLUMNS, len(tiles))
    width, height = (2 * _TILE + 2 * _GAP), (_TILE + _CAPTION + _GAP)
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for place, tile in enumerate(tiles):
        sheet.paste(tile, (place % columns * width, place // columns * height))
    return visualize.with_legend(
        np.asarray(sheet), np.array(sorted(present), np.uint8), palette, source.classes
    )


def as_html(source: Source, indices: Sequence[int]) -> str:
    """Return a self-contained HTML page: each image, its mask and the share of each class."""
    palette = _palette(source)
    rows = []
    for index in indices:
        record = source[index]
        label = record["label"]
        values, pixels = np.unique(label, return_counts=True)
        note = ", ".join(
            f"{_name(source, value)} {100 * count / label.size:.1f} %"
            for value, count in zip(values.tolist(), pixels.tolist(), strict=True)
        )
        size = f"{label.shape[1]}x{label.shape[0]}"
        blended = visualize.overlay(record["image"], label, palette)
        figures = (
            figure(_jpeg(record["image"]), "image/jpeg", "image", size, label.shape),
            figure(_mask_png(label, palette), "image/png", "mask", note, label.shape),
            figure(_jpeg(blended), "image/jpeg", "both", "", label.shape),
        )
        strip = f'<div class="strip">{"".join(figures)}</div>'
        rows.append((record["id"], legend(values.tolist(), source.classes, palette) + strip))
    introduction = f"{len(indices)} images, {source.num_classes} classes"
    return page.page(source.description, rows, introduction=introduction)


def _palette(source: Source) -> np.ndarray:
    palette = source.palette.copy()
    palette[IGNORE] = _VOID
    return palette


def _name(source: Source, value: int) -> str:
    return "void" if value == IGNORE else source.classes[value]


def _tile(name: str, image: np.ndarray, colours: np.ndarray) -> Image.Image:
    tile = Image.new("RGB", (2 * _TILE + 2 * _GAP, _TILE + _CAPTION + _GAP), "white")
    scale = _TILE / max(image.shape[:2])
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    size = (width, height)
    tile.paste(Image.fromarray(image).resize(size), (_GAP // 2, _CAPTION))
    mask = Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)
    tile.paste(mask, (_TILE + _GAP, _CAPTION))
    font = ImageFont.load_default(size=12)
    ImageDraw.Draw(tile).text((_GAP // 2, 2), name, fill="#222222", font=font)
    return tile


def _jpeg(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=85)
    return content.getvalue()


def _mask_png(label: np.ndarray, palette: np.ndarray) -> bytes:
    content = io.BytesIO()
    visualize.label_image(label, palette).save(content, "PNG")
    return content.getvalue()
