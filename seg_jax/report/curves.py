"""Curves of training and validation, one small chart a run, on axes that can be compared."""

import html
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seg_jax.report import rows, svg
from seg_jax.report.images import Run
from seg_jax.results import Record
from seg_jax.runs import log

_POINTS = 300  # per curve: more would not be visible in a small chart
Points = list[tuple[float, float]]


def training(runs: Sequence[Run]) -> str:
    """Return the loss over the steps; runs that minimise the same loss have the same y-axis."""
    return _multiples(runs, lambda run: read(run.folder, "train", "loss"), "loss", _loss_of)


def validation(runs: Sequence[Run]) -> str:
    """Return mIoU on the validation split over the steps, on one y-axis for the same images."""

    def points(run: Run) -> Points:
        return [(step, 100 * y) for step, y in read(run.folder, "evaluate", "mean_iou")]

    return _multiples(runs, points, "mIoU of the validation split, %", _images_of)


def _multiples(
    runs: Sequence[Run],
    points_of: Callable[[Run], Points],
    name: str,
    comparable: Callable[[Record], Any],
) -> str:
    curves = [points_of(run) for run in runs]
    values: dict[Any, list[float]] = {}
    for run, points in zip(runs, curves, strict=True):
        finite = [y for _, y in points if math.isfinite(y)]
        values.setdefault(comparable(run.record), []).extend(finite)
    charts = []
    names = rows.labels([run.record for run in runs])
    where = [rows.measured_on(run.record) for run in runs]
    for run, points, label, images in zip(runs, curves, names, where, strict=True):
        drawn = svg.chart(
            [svg.Series(name, points)],
            x_title="step",
            y_title=name,
            y_values=values[comparable(run.record)],
            width=320,
            height=170,
        )
        if drawn:
            heading = f"<h3>{html.escape(label)}</h3>"
            if len(set(where)) > 1:  # else the page says it once
                heading += f'<p class="soft">{html.escape(images)}</p>'
            charts.append(f"<div>{heading}{drawn}</div>")
    return f'<div class="multiples">{"".join(charts)}</div>' if charts else ""


def _loss_of(record: Record) -> str:
    """Return what two runs must have in common for their losses to be comparable."""
    return json.dumps([record.config.get("loss"), record.classes], sort_keys=True)


def _images_of(record: Record) -> str:
    return f"{record.data.split} {record.data.checksum}"


def read(run: Path, kind: str, name: str) -> Points:
    """Return (step, value) from a run's log, evenly thinned; the last step is always kept.

    Args:
      run: the run folder.
      kind: of the lines: "train", "evaluate".
      name: of the value.
    """
    points = [
        (line["step"], line[name])
        for line in log.read(run)
        if line["kind"] == kind and type(line.get(name)) in (int, float)
    ]
    stride = -(-len(points) // _POINTS) or 1
    return points[::-stride][::-1]
