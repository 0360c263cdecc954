"""Example images of runs side by side: input, truth, and the prediction of every model."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from seg_jax.checks import UserError
from seg_jax.results import Record
from seg_jax.results.files import PICTURES
from seg_jax.types import IGNORE

_NOTICEABLE = 0.005  # of a prediction's pixels: the legend leaves out classes with fewer


class Run(NamedTuple):
    """A run folder and its record."""

    folder: Path
    record: Record


def section(runs: Sequence[Run]) -> str:
    """Return HTML with a row for every image that some run predicted; empty if there is none."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:  # runs on the same images stand side by side
        groups.setdefault((run.record.data.checksum, run.record.data.split), []).append(run)
    return "\n".join(_group(group) for group in groups.values())


def _group(runs: Sequence[Run]) -> str:
    ids = {
        path.name.removesuffix(".prediction.png")
        for run in runs
        for path in (run.folder / PICTURES).glob("*.prediction.png")
    }
    return "\n".join(_row(name, runs) for name in sorted(ids))


def _row(name: str, runs: Sequence[Run]) -> str:
    having = [run for run in runs if (run.folder / PICTURES / f"{name}.prediction.png").exists()]
    first = having[0].folder / PICTURES
    truth, palette = _read(first / f"{name}.truth.png")
    figures = [
        _figure(first / f"{name}.input.jpg", "input", "", truth.shape),
        _figure(first / f"{name}.truth.png", "truth", "", truth.shape),
    ]
    present = set(np.unique(truth).tolist())
    for run in having:
        path = run.folder / PICTURES / f"{name}.prediction.png"
        label, _ = _read(path)
        values, pixels = np.unique(label, return_counts=True)
        present |= set(values[pixels >= _NOTICEABLE * label.size].tolist())
        figures.append(
            _figure(path, run.record.experiment, _share_right(truth, label), truth.shape)
        )
    classes = legend(sorted(present), having[0].record.classes, palette)
    return (
        f'<section class="row"><h3>{html.escape(name)}</h3>{classes}'
        f'<div class="strip">{"".join(figures)}</div></section>'
    )


def _share_right(truth: np.ndarray, label: np.ndarray) -> str:
    known = truth != IGNORE
    if label.shape != truth.shape or not known.any():
        return ""
    return f"{100 * (label == truth)[known].mean():.1f} % of pixels right"


def _figure(path: Path, title: str, note: str, size: tuple[int, int]) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return figure(
        content, "image/jpeg" if path.suffix == ".jpg" else "image/png", title, note, size
    )


def figure(content: bytes, kind: str, title: str, note: str, size: tuple[int, int]) -> str:
    """Return an image in HTML, embedded in the page.

    Args:
      content: of the file.
      kind: "image/jpeg" or "image/png".
      title: below the image, plain text.
      note: smaller, below the title, plain text.
      size: (height, width) in pixels.
    """
    data = base64.b64encode(content).decode()
    height, width = size
    title, note = html.escape(title), html.escape(note)
    return (
        f'<figure><img class="{kind[6:]}" src="data:{kind};base64,{data}" width="{width}" '
        f'height="{height}" alt="{title}" loading="lazy">'
        f"<figcaption>{title}<small>{note}</small></figcaption></figure>"
    )


def legend(present: Sequence[int], classes: Sequence[str], palette: np.ndarray) -> str:
    """Return the classes' names and colours in HTML.

    Args:
      present: class ids, and IGNORE.
      classes: names by class id.
      palette: uint8 [256 3].
    """

    def entry(value: int) -> str:
        name = "void" if value == IGNORE else classes[value]
        red, green, blue = palette[value]
        swatch = f'<i style="background:rgb({red},{green},{blue})"></i>'
        return f"<span>{swatch}{html.escape(name)}</span>"

    return f'<p class="legend">{" ".join(map(entry, present))}</p>'


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return a palette PNG's values, uint8 [h w], and its palette, uint8 [256 3]."""
    try:
        with Image.open(path) as file:
            colours = np.array(file.getpalette(), np.uint8).reshape(-1, 3)
            palette = np.zeros((256, 3), np.uint8)
            palette[: len(colours)] = colours
            return np.array(file), palette
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is no palette PNG ({error}); evaluate the run again") from error
