"""Runs that differ in their seeds only, as one row: mean and standard deviation."""

import json
import statistics
from collections.abc import Sequence

from seg_jax import config
from seg_jax.report.grid import NONE, Column, Grid, percent
from seg_jax.results import Record


def grid(records: Sequence[Record]) -> Grid | None:
    """Return a row for each setting of which there are several runs, or that a sweep chose; None
    without one.

    The standard deviation is the sample's, with n - 1.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        if not record.weights:
            groups.setdefault(_setting(record), []).append(record)
    columns = (
        Column("experiment"), Column("mIoU", number=True), Column("seeds"),
        Column("settings"), Column("images"),
    )  # fmt: skip
    rows = [_row(group) for group in groups.values() if len(group) > 1 or group[0].searched]
    return Grid(columns, tuple(rows)) if rows else None


def mean_and_sd(scores: Sequence[float | None]) -> str:
    """Format scores, shares of 1, in percent: "61.2 ± 0.4"; of one score no deviation."""
    known = [score for score in scores if score is not None]
    if not known:
        return NONE
    text = percent(statistics.fmean(known))
    return f"{text} ± {percent(statistics.stdev(known))}" if len(known) > 1 else text


def chosen(record: Record) -> str:
    """Return how a sweep chose the settings, with their values; "–" if none did."""
    if record.searched is None:
        return NONE
    flat = config.flatten(record.config)
    values = [
        f"{path} {value:.3g}" if isinstance(value, float) else f"{path} {value}"
        for path in record.searched.space
        for name, value in flat.items()
        if name == path or name.startswith(f"{path}.")
    ]
    return f"{record.searched}: {', '.join(values)}"


def _setting(record: Record) -> str:
    """Return what runs must have in common to be repetitions of each other."""
    settings = config.flatten(record.config)
    for name in ("train.seed", "data.root"):
        settings.pop(name, None)
    protocol = [record.data.checksum, record.cutting, str(record.protocol)]
    return json.dumps([record.experiment, settings, protocol], sort_keys=True)


def _row(group: Sequence[Record]) -> tuple[str, ...]:
    first = group[0]
    return (
        first.experiment,
        mean_and_sd([record.metrics["mean_iou"] for record in group]),
        ", ".join(str(record.training.seed) for record in group),
        chosen(first),
        first.data.description,
    )
