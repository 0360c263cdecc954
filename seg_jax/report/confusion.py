"""A run's classes in numbers: a table of each, and which are taken for which."""

import html
from collections.abc import Sequence

import numpy as np

from seg_jax import metrics
from seg_jax.report import rows
from seg_jax.report.grid import Column, Grid, percent
from seg_jax.results import Record

_MOST_CELLS = 30  # classes of a matrix that is shown whole; of more, only the confusions
_MOST_PAIRS = 12


def classes(record: Record) -> str:
    """Return a table of one run's classes: IoU, Dice, accuracy, boundary F1, share of pixels."""
    matrix = np.array(record.counts.confusion, np.int64)
    truth = matrix.sum(1)
    values = {
        "IoU": metrics.per_class_iou(matrix),
        "Dice": metrics.per_class_dice(matrix),
        "accuracy": metrics.per_class_accuracy(matrix),
        "of the pixels": truth / max(1, truth.sum()),
    }
    boundary = record.metrics["per_class_boundary_f1"]
    columns = (
        Column("class"),
        *(Column(name, number=True) for name in (*values, "boundary F1")),
    )
    body = tuple(
        (name, *(_percent(value[index]) for value in values.values()), percent(boundary[name]))
        for index, name in enumerate(record.classes)
    )
    return Grid(columns, body).as_html()


def matrix(records: Sequence[Record]) -> str:
    """Return each run's confusions: the matrix in percent of the true pixels, and the largest."""
    return "\n".join(map(_one, rows.labels(records), records))


def _one(label: str, record: Record) -> str:
    counts = np.array(record.counts.confusion, np.int64)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    drawn = _matrix(record.classes, shares) if len(record.classes) <= _MOST_CELLS else ""
    return f"<h3>{html.escape(label)}</h3>{_pairs(record.classes, counts)}{drawn}"


def _pairs(names: Sequence[str], counts: np.ndarray) -> str:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    total = max(1, int(wrong.sum()))
    order = wrong.ravel().argsort(kind="stable")[::-1][:_MOST_PAIRS]
    pairs = [
        (names[i // len(names)], names[i % len(names)], _percent(wrong.flat[i] / total))
        for i in map(int, order)
        if wrong.flat[i]
    ]
    columns = (Column("truth"), Column("taken for"), Column("of all wrong pixels, %", number=True))
    return Grid(columns, tuple(pairs)).as_html() if pairs else ""


def _matrix(names: Sequence[str], shares: np.ndarray) -> str:
    """Return the matrix as a table: rows are the truth, cells are in percent of it."""
    head = "".join(f"<th><span>{html.escape(name)}</span></th>" for name in names)
    body = []
    for name, row in zip(names, shares, strict=True):
        shown = [f"{100 * share:.0f}" for share in row]
        cells = "".join(
            f'<td style="--share:{text}%">{text if text != "0" else ""}</td>' for text in shown
        )
        body.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    return (
        '<p class="soft">Rows: truth. Columns: prediction. Cells: percent of the true pixels.</p>'
        f'<div class="scroll"><table class="matrix"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _percent(value: float) -> str:
    return percent(None if np.isnan(value) else float(value))
