"""The parts of the objects of `synthetic_voc`, and how an object is drawn.

A sprite is a list of parts in the unit square (x to the right, y down). A filled part is a
polygon; a stroked part is a line of a fixed width in pixels, so that spokes, legs and poles stay
thin at every scale.
"""

import dataclasses
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageDraw

Paint = Literal["body", "dark", "light", "accent"]
PAINTS: tuple[Paint, ...] = get_args(Paint)
Texture = Literal["plain", "stripes", "bars", "checks", "dots", "patches", "hatch"]
TEXTURES: tuple[Texture, ...] = get_args(Texture)
_SUPERSAMPLE = 4  # samples for each pixel, along each axis


@dataclasses.dataclass(frozen=True)
class Part:
    """Points (x, y) in the unit square, filled, or stroked when `width_px` is positive."""

    paint: Paint
    points: tuple[tuple[float, float], ...]
    width_px: float = 0.0


@dataclasses.dataclass(frozen=True)
class Sprite:
    """One kind of object.

    Attributes:
      parts: painted in this order.
      aspect: width divided by height.
      colors: RGB, 0..255, of body, dark, light and accent.
      texture: pattern that modulates the body's brightness.
    """

    parts: tuple[Part, ...]
    aspect: float
    colors: tuple[tuple[int, int, int], ...]
    texture: Texture = "plain"


def fill(paint: Paint, *points: tuple[float, float]) -> Part:
    """A filled polygon."""
    return Part(paint, points)


def box(paint: Paint, left: float, top: float, right: float, bottom: float) -> Part:
    """A filled rectangle."""
    return Part(paint, ((left, top), (right, top), (right, bottom), (left, bottom)))


def oval(paint: Paint, x: float, y: float, rx: float, ry: float) -> Part:
    """A filled ellipse around (x, y)."""
    return Part(paint, _ellipse(x, y, rx, ry))


def line(paint: Paint, *points: tuple[float, float], width_px: float = 1.4) -> Part:
    """A stroked polyline."""
    return Part(paint, points, width_px)


def wheel(x: float, y: float, rx: float, ry: float, *, spokes: int) -> tuple[Part, ...]:
    """A stroked rim with stroked spokes."""
    rim = _ellipse(x, y, rx, ry)
    turns = [2 * np.pi * (spoke + 0.3) / spokes for spoke in range(spokes)]
    return (
        Part("dark", (*rim, rim[0]), 1.7),
        *(line("dark", (x, y), (x + rx * np.cos(t), y + ry * np.sin(t)), width_px=1.1)
          for t in turns),
    )  # fmt: skip


def legs(paint: Paint, top: float, *columns: float, width_px: float = 1.6) -> tuple[Part, ...]:
    """Vertical strokes from `top` to the ground."""
    return tuple(line(paint, (x, top), (x, 0.98), width_px=width_px) for x in columns)


def _ellipse(x, y, rx, ry):
    turns = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    return tuple((float(x + rx * np.cos(t)), float(y + ry * np.sin(t))) for t in turns)


def draw(
    sprite: Sprite, *, height_px: float, degrees: float, mirror: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a sprite, antialiased.

    Returns:
      Colour, float32 [h w 3] in 0..255, and coverage, float32 [h w] in 0..1.
    """
    width_px = height_px * sprite.aspect * rng.uniform(0.88, 1.14)
    radius = 0.5 * np.hypot(width_px, height_px)
    side = int(np.ceil(2 * radius)) + 4
    turn = np.deg2rad(degrees)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    extent = np.array([-width_px if mirror else width_px, height_px])

    canvas = Image.new("L", (side * _SUPERSAMPLE, side * _SUPERSAMPLE))
    pen = ImageDraw.Draw(canvas)
    for part in sprite.parts:
        points = ((np.array(part.points) - 0.5) * extent) @ rotation + side / 2
        flat = [tuple(point) for point in points * _SUPERSAMPLE]
        index = 1 + PAINTS.index(part.paint)
        if part.width_px:
            # A stroke has the same width at every scale, but must not cover a tiny object.
            width = min(part.width_px, 0.5 + 0.07 * height_px)
            pen.line(flat, fill=index, width=max(1, round(width * _SUPERSAMPLE)), joint="curve")
        else:
            pen.polygon(flat, fill=index)

    tint = rng.uniform(0.86, 1.14, 3) * rng.uniform(0.85, 1.12)
    colors = np.clip(np.array(sprite.colors) * tint, 0, 255).astype(np.uint8)
    # A pixel is the mean of its samples; samples outside count as black until the division.
    painted = canvas.copy()
    painted.putpalette(bytes(3) + colors.tobytes())
    color = np.asarray(painted.convert("RGB").reduce(_SUPERSAMPLE), np.float32)
    coverage, body = (
        np.asarray(canvas.point(table).reduce(_SUPERSAMPLE), np.float32) / 255
        for table in ([0] + [255] * 255, [0, 255] + [0] * 254)
    )
    color = np.minimum(color / np.maximum(coverage, 1 / 255)[..., None], 255)
    pattern = 1 + body * (texture(sprite.texture, side, rng) - 1)
    return color * pattern[..., None], coverage


def texture(kind: Texture, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return a brightness factor around 1, float32 [side side], with a random phase."""
    y, x = np.mgrid[:side, :side] + rng.uniform(0, 8, (2, 1, 1))
    if kind == "stripes":
        wave = np.sin(1.6 * (x + 0.5 * y))
    elif kind == "bars":
        wave = np.sin(1.3 * y)
    elif kind == "checks":
        wave = np.sign(np.sin(1.1 * x) * np.sin(1.1 * y))
    elif kind == "dots":
        wave = np.cos(1.9 * x) * np.cos(1.9 * y)
    elif kind == "hatch":
        wave = np.sin(1.5 * (x - y))
    elif kind == "patches":
        wave = np.tanh(4 * (np.sin(0.55 * x + 2 * np.sin(0.3 * y)) + np.sin(0.6 * y)))
    else:
        wave = np.zeros((side, side))
    return (1 + 0.26 * wave).astype(np.float32)
