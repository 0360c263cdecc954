"""Prediction images of evaluated runs, side by side: input, truth, and each model's prediction.

Run folders may come from a stranger: only regular files inside a run's folder are embedded, never
what a link there leads to.
"""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from seg_jax import files, metrics
from seg_jax.checks import UserError
from seg_jax.data import colours, images, visualize
from seg_jax.report import names
from seg_jax.results import Record
from seg_jax.results.files import PREDICTIONS
from seg_jax.types import IGNORE

_ERROR_COLOURS = np.zeros((256, 3), np.uint8)
_ERROR_COLOURS[:3] = (222, 226, 230), (153, 27, 30), (255, 255, 255)  # differ also in lightness
_NOTICEABLE = 0.005  # share of a prediction's pixels; the legend leaves out classes with fewer
_MOST_BYTES = 64 * 2**20  # of one image file: the page holds them all, in base64


class Run(NamedTuple):
    """A run folder and its record."""

    folder: Path
    record: Record


WHICH = (
    "Some images of the split, spread evenly, and those with the lowest IoU; first those that "
    "most runs show, the worst before the others."
)


def section(runs: Sequence[Run], *, palette: str = "auto", which: str = WHICH) -> str:
    """Return HTML with one row for each image that any run predicted; empty if there is none.

    Those that most runs predicted come first, and among them the worst.

    Args:
      runs: with their records.
      palette: "auto": the files' own colours; otherwise see `data.colours.of`.
      which: says how the images were chosen.

    Raises:
      UserError: an image file is broken, a link, or has values that are no class of the run.
    """
    groups: dict[tuple[str, str], list[tuple[str, Run]]] = {}
    named = zip(names.short([run.record for run in runs]), runs, strict=True)
    for label, run in named:  # runs on the same images stand side by side
        key = run.record.data.checksum, run.record.data.split
        groups.setdefault(key, []).append((label, run))
    return "\n".join(_group(group, palette, which) for group in groups.values())


def _group(runs: Sequence[tuple[str, Run]], palette: str, which: str) -> str:
    """Return the rows of runs, each with its label, on the same images."""
    for folder in (run.folder / PREDICTIONS for _, run in runs):
        for path in (folder, *sorted(folder.glob("*"))):
            _refuse_link(path)
    ids = {
        path.name.removesuffix(".prediction.png")
        for _, run in runs
        for path in (run.folder / PREDICTIONS).glob("*.prediction.png")
    }
    found = [_row(name, runs, palette) for name in sorted(ids)]
    if not found:
        return ""
    note = (
        f"{which} "
        "Beside each prediction, its errors: dark where the class is wrong, light where right, "
        "white where the truth is void."
    )
    found.sort(key=lambda row: (-row.runs, row.score))  # stable: equal ones by name
    return f'<p class="soft">{note}</p>\n' + "\n".join(row.html for row in found)


class _Row(NamedTuple):
    """An image's row, how many runs predicted it, and its mean IoU: of the worst of them."""

    runs: int
    score: float
    html: str


def _row(name: str, runs: Sequence[tuple[str, Run]], palette_name: str) -> _Row:
    file_name = f"{name}.prediction.png"
    having = [item for item in runs if (item[1].folder / PREDICTIONS / file_name).exists()]
    first, classes = having[0][1].folder / PREDICTIONS, having[0][1].record.classes
    chosen = None if palette_name == "auto" else colours.of(classes, palette_name)
    truth, palette, truth_png = _read_label(first / f"{name}.truth.png", len(classes), chosen)
    input_jpg = _read_jpeg(first / f"{name}.input.jpg")
    size = truth.shape
    figures = [
        figure(input_jpg, "image/jpeg", "input", "", size),
        figure(truth_png, "image/png", "truth", "", size),
    ]
    present, scores = set(np.unique(truth).tolist()), []
    for title, run in having:
        label, _, content = _read_label(run.folder / PREDICTIONS / file_name, len(classes), chosen)
        values, pixels = np.unique(label, return_counts=True)
        present |= set(values[pixels >= _NOTICEABLE * label.size].tolist())
        note, score = _score(truth, label, len(classes))
        scores.append(score)
        figures.append(figure(content, "image/png", title, note, size))
        if label.shape == truth.shape:
            wrong = _png(visualize.label_image(_errors(truth, label), _ERROR_COLOURS))
            figures.append(figure(wrong, "image/png", "errors", "", size))
    shown_classes = legend(sorted(present), classes, palette)
    return _Row(
        len(having),
        min(scores),
        f'<section class="row"><h3>{html.escape(name)}</h3>{shown_classes}'
        f'<div class="strip compared">{"".join(figures)}</div></section>',
    )


def _score(truth: np.ndarray, label: np.ndarray, num_classes: int) -> tuple[str, float]:
    """Return what is written below a prediction, and its mean IoU (1 where nothing is known)."""
    known = truth != IGNORE
    if label.shape != truth.shape or not known.any():
        return "", 1.0
    seen = known & (label < num_classes)
    iou = metrics.mean_iou(metrics.confusion_on_host(truth[seen], label[seen], num_classes))
    share = (label == truth)[known].mean()
    return f"{100 * share:.1f} % of pixels right, mean IoU {100 * iou:.1f}", iou


def _errors(truth: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return what is wrong in a prediction, uint8 [h w]: 0 right, 1 wrong, 2 void."""
    return np.where(truth == IGNORE, 2, label != truth).astype(np.uint8)


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def figure(content: bytes, kind: str, title: str, note: str, size: tuple[int, ...]) -> str:
    """Return an image as HTML, embedded in the page.

    Args:
      content: of the image file.
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
    """Return the legend in HTML: names and colours of classes.

    Args:
      present: class ids; may hold IGNORE (void).
      classes: names by class id.
      palette: uint8 [256 3].
    """

    def entry(value: int) -> str:
        name = "void" if value == IGNORE else classes[value]
        red, green, blue = palette[value]
        swatch = f'<i style="background:rgb({red},{green},{blue})"></i>'
        return f"<span>{swatch}{html.escape(name)}</span>"

    return f'<p class="legend">{" ".join(map(entry, present))}</p>'


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise UserError(
            f"{path}: is a link, and a report embeds only a run's own files; replace it by what it "
            "leads to, or evaluate the run again"
        )


def _read_jpeg(path: Path) -> bytes:
    """Return the content of a JPEG file."""
    content = files.read_bytes(path, most=_MOST_BYTES)
    with images.open_image(images.Encoded(str(path), content)) as file:
        if file.format != "JPEG":
            raise UserError(f"{path}: is no JPEG but {file.format}; evaluate the run again")
    return content


def _read_label(
    path: Path, num_classes: int, chosen: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Return a palette PNG's values, uint8 [h w], its palette, uint8 [256 3], and its content; with
    a chosen palette, the file as it would be in that.
    """
    content = files.read_bytes(path, most=_MOST_BYTES)
    try:
        with images.open_image(images.Encoded(str(path), content)) as file:
            if (file.format, file.mode) != ("PNG", "P"):
                raise ValueError(f"{file.format}, mode {file.mode}")
            palette = np.zeros((256, 3), np.uint8)
            colours = np.array(file.getpalette("RGB"), np.uint8).reshape(-1, 3)
            palette[: len(colours)] = colours
            label = np.array(file)
    except (OSError, ValueError, TypeError, UserError) as error:
        detail = str(error).removeprefix(f"{path}: ")
        raise UserError(f"{path}: is no palette PNG ({detail}); evaluate the run again") from error
    strange = np.unique(label[(label >= num_classes) & (label != IGNORE)])
    if strange.size:
        raise UserError(
            f"{path}: holds {strange[:5].tolist()}, but the run has {num_classes} classes; "
            "evaluate the run again"
        )
    if chosen is not None:
        return label, chosen, _png(visualize.label_image(label, chosen))
    return label, palette, content
