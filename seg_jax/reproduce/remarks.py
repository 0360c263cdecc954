"""What to see in a suite's table, in sentences: each is made from the numbers that it names."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from seg_jax import config, data, metrics
from seg_jax.data.source import Source
from seg_jax.data.synthetic.dataset import TWINS
from seg_jax.metrics import bootstrap, coarse
from seg_jax.report import names
from seg_jax.report.grid import percent
from seg_jax.reproduce.plan import Run
from seg_jax.results import Record, image_counts, load

_STRIDES = (8, 16, 32)  # at which the truth itself is scored, where a network has one of them


class _Row(NamedTuple):
    """A run's name as the page shows it, and its record."""

    title: str
    record: Record

    @property
    def miou(self) -> float:
        return self.record.metrics["mean_iou"] or 0.0


def remarks(runs: Sequence[Run]) -> list[str]:
    """Return what a table of finished runs shows; empty unless several saw the same images.

    Args:
      runs: of a suite; only those of the experiments' own seeds are compared.
    """
    runs = [run for run in runs if run.first]
    records = [load(run.record) for run in runs]
    if len(records) < 2 or len({(r.data.checksum, r.classes) for r in records}) > 1:
        return []
    rows = [_Row(*pair) for pair in zip(names.short(records), records, strict=True)]
    where = runs[0].experiment.data
    source = data.open_configured(where, runs[0].split)
    found = [
        _overall(rows, runs),
        _extremes(rows, "boundary F1, how well edges are met", _boundary_f1),
        _extremes(rows, "IoU of small objects", _small_objects),
        *_skips(rows),
        _strides(rows, runs, source),
        _twins(rows),
        _starts(rows),
    ]
    return [sentence for sentence in found if sentence]


def _overall(rows: Sequence[_Row], runs: Sequence[Run]) -> str:
    best, worst = max(rows, key=_miou), min(rows, key=_miou)
    run = runs[rows.index(best)]
    counts = image_counts.load(image_counts.path_of(run.record), best.record).counts
    drawn = bootstrap.interval([counts], samples=1_000)
    return (
        f"{best.title} has the highest mIoU, {percent(best.miou)}, and {worst.title} the lowest, "
        f"{percent(worst.miou)}. One seed and {best.record.counts.images} images: other images of "
        f"this kind would put {best.title} between {percent(drawn.low)} and {percent(drawn.high)} "
        "(95 % of draws)."
    )


def _miou(row: _Row) -> float:
    return row.miou


def _boundary_f1(row: _Row) -> float | None:
    return row.record.metrics["boundary_f1"]


def _small_objects(row: _Row) -> float | None:
    return row.record.metrics["object_iou"]["small"]


def _extremes(rows: Sequence[_Row], what: str, value: Callable[[_Row], float | None]) -> str:
    known = [(score, row.title) for row in rows if (score := value(row)) is not None]
    if len(known) < 2:
        return ""
    (high, best), (low, worst) = max(known), min(known)
    return f"Best in {what}: {best}, {percent(high)}; last {worst}, {percent(low)}."


def _skips(rows: Sequence[_Row]) -> list[str]:
    """Return one sentence for each run that goes on from another of its family."""
    by_name = {row.record.experiment: row for row in rows}
    found = []
    for row in rows:
        before = by_name.get(row.record.training.pretraining)
        if before is None or before.record.family != row.record.family:
            continue
        changes = _class_iou(row) - _class_iou(before)
        largest = int(np.nanargmax(np.abs(changes)))
        found.append(
            f"{row.title} goes on from {before.title}: mIoU {percent(before.miou)} to "
            f"{percent(row.miou)}, most in {row.record.classes[largest]}, "
            f"{percent(_class_iou(before)[largest])} to {percent(_class_iou(row)[largest])}."
        )
    return found


def _class_iou(row: _Row) -> np.ndarray:
    return metrics.per_class_iou(np.array(row.record.counts.confusion))


def _strides(rows: Sequence[_Row], runs: Sequence[Run], source: Source) -> str:
    """Say how the truth itself scores at the strides of the networks' scores."""
    strides = {row.title: _output_stride(row.record) for row in rows}
    shown = [stride for stride in _STRIDES if stride in strides.values()]
    if not shown:
        return ""
    scores = {stride: truth_at_stride(source, stride) for stride in shown}
    listed = ", ".join(f"{percent(scores[stride])} at stride {stride}" for stride in shown)
    coarsest = [row for row in rows if strides[row.title] == shown[-1]]
    named = ", ".join(
        f"{row.title} {percent(row.miou)}"
        + (" (learned scores can put an edge where averages do not)" if above else "")
        for row in coarsest
        for above in [row.miou > scores[shown[-1]]]
    )
    return (
        "What a coarse grid of scores leaves: the truth itself, scaled down and back, has a mIoU "
        f"of {listed}. With one score every {shown[-1]} px: {named}."
    )


def _output_stride(record: Record) -> int:
    """Return the pixels between two scores of a network without finer maps: 0 for the others."""
    model = config.from_dict(record.config).model
    refined = getattr(model, "decoder", None) is not None or type(model).__name__ == "GCN"
    return 0 if refined else int(getattr(model, "output_stride", 0))


def truth_at_stride(source: Source, stride: int) -> float:
    """Return the mean IoU of a split's truth after it was scaled down by `stride` and back."""
    classes = len(source.classes)
    total = np.zeros((classes, classes), np.int64)
    for index in range(len(source)):
        label = source.label(index)
        scaled = coarse.at_stride(label, stride, classes)
        total += metrics.confusion_on_host(label, scaled, classes)
    return metrics.mean_iou(total)


def _twins(rows: Sequence[_Row]) -> str:
    """Say how well the two classes of `synthetic_voc` that are drawn alike are told apart."""
    classes = rows[0].record.classes
    if rows[0].record.data.name != "synthetic_voc":
        return ""
    pair = [classes.index(name) for name in TWINS]
    shares = {}
    for row in rows:
        part = np.array(row.record.counts.confusion)[np.ix_(pair, pair)]
        if part.sum():
            shares[row.title] = np.trace(part) / part.sum()
    if not shares:
        return ""
    best, worst = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
    return (
        f"{TWINS[0].capitalize()} and {TWINS[1]} are drawn alike, and only the horizon tells which "
        f"it is. Of their pixels that are given to either, {best} gives {percent(shares[best])} % "
        f"to the right one, {worst} {percent(shares[worst])} %; guessing gives 50."
    )


def _starts(rows: Sequence[_Row]) -> str:
    """Say which runs start from others of the suite, whose steps come on top of their own."""
    by_name = {row.record.experiment: row for row in rows}
    origins: dict[str, list[str]] = {}
    for row in rows:
        origins.setdefault(row.record.training.pretraining, []).append(row.title)
    parts = [
        f"{', '.join(origins.pop(name))} from {row.title} ({row.record.training.steps} steps)"
        for name, row in by_name.items()
        if name in origins
    ]
    if not parts:
        return ""
    others = [
        f" From {'random weights' if name == 'none' else name}: {', '.join(titles)}."
        for name, titles in origins.items()
    ]
    return (
        f"Start from the weights of another row, whose steps come on top: {'; '.join(parts)}."
        + "".join(others)
    )


__all__ = ["remarks", "truth_at_stride"]
