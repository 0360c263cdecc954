"""Colours of classes: VOC's for VOC's, else ones that colour-blind readers can tell apart."""

import functools
from collections.abc import Sequence
from typing import Literal

import numpy as np

from seg_jax import checks
from seg_jax.types import IGNORE, VOC_CLASSES, voc_palette

Palette = Literal["auto", "voc", "safe"]
PALETTES = ("auto", "voc", "safe")
# Okabe and Ito, "Color Universal Design" (2008), without black, which overlays leave transparent.
_OKABE_ITO = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167),
)  # fmt: skip
_VOID = (190, 190, 190)
_BACKGROUND = {"background", "other", "unlabeled", "unlabelled", "__background__"}
# Deuteranopia, complete, of linear RGB: Machado, Oliveira and Fernandes, IEEE TVCG 15(6), 2009.
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
     [-0.011820, 0.042940, 0.968881]]
)  # fmt: skip


def of(classes: Sequence[str], palette: str = "auto") -> np.ndarray:
    """Return the colours of label maps, uint8 [256 3].

    Args:
      classes: names by class id.
      palette: "voc"; "safe": `safe`; "auto": VOC's for VOC's classes, else the safe one.
    """
    checks.one_of(PALETTES, palette=palette)
    if palette == "voc" or (palette == "auto" and tuple(classes) == VOC_CLASSES):
        return voc_palette()
    return safe(bool(classes) and classes[0].strip().lower() in _BACKGROUND)


def safe(background: bool) -> np.ndarray:
    """Return colours that differ also for most colour-blind readers, uint8 [256 3].

    Okabe's and Ito's seven, and then each time the one of a grid of 512 that is farthest, in
    CIELAB, from those before, in normal vision and with deuteranopia alike. With many classes any
    palette fails: see the distances in its test. Void is light grey.

    Args:
      background: class 0 is the background: black, which overlays leave as it is.
    """
    palette = np.zeros((256, 3), np.uint8)
    palette[int(background) : IGNORE] = _ordered()[: IGNORE - int(background)]
    palette[IGNORE] = _VOID
    return palette


@functools.cache
def _ordered() -> np.ndarray:
    """Return 255 colours, the most distinct first, uint8 [255 3]."""
    steps = np.linspace(20, 250, 8).round()
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    chosen = [np.array(colour, float) for colour in _OKABE_ITO]
    taken = np.array([*_OKABE_ITO, (0, 0, 0), (255, 255, 255), _VOID], float)
    nearest = np.min([distances(grid, colour) for colour in taken], axis=0)
    while len(chosen) < IGNORE:
        best = int(nearest.argmax())
        chosen.append(grid[best])
        nearest = np.minimum(nearest, distances(grid, grid[best]))
    return np.array(chosen).astype(np.uint8)


def distances(colours: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return how far colours, 0..255 [n 3], are from another one [3], float64 [n]: the smaller of
    the Euclidean distances in CIELAB (CIE 1976) in normal vision and with deuteranopia.
    """
    linear, other_linear = _linear(colours), _linear(other)
    found = []
    for view in (np.eye(3), DEUTERANOPIA):
        a, b = (_lab(np.clip(x @ view.T, 0, 1)) for x in (linear, other_linear))
        found.append(np.sqrt(((a - b) ** 2).sum(-1)))
    return np.minimum(*found)


def _linear(colour: np.ndarray) -> np.ndarray:
    """Return linear RGB, 0..1, of sRGB, 0..255 (IEC 61966-2-1)."""
    share = np.asarray(colour, float) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    """Return CIELAB [... 3] of linear RGB, 0..1, under D65."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)
