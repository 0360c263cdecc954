"""What the tables say, as data: one object a row, from records and published figures only."""

import dataclasses
import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from seg_jax import experiment, papers
from seg_jax.results import Record, load_records

# What an official, complete data set is called in publications. A record of anything else, such as
# voc2012-part or synthetic_voc, is measured on other images: it never stands in a published cell.
OFFICIAL = {"voc2012": "VOC 2012", "camvid": "CamVid", "isbi2012": "ISBI 2012"}
_HIDDEN = {("VOC 2012", "test"), ("VOC 2011", "test"), ("ISBI 2012", "test")}  # labels: server only
_DEFAULT = ("VOC 2012", "val")
TRIMAP_PX = (2, 5)  # the bands of the tables; reports plot all


@dataclasses.dataclass(frozen=True)
class LineRow:
    """One network: the published figure, and what was measured here on the same images.

    Attributes:
      experiment: our name for it.
      family: the architecture's.
      headline: the published figure to compare with, or None.
      test: the figure of VOC 2012 test, or None.
      records: ours, on the headline's split, or on VOC 2012 val where that is not to be had; under
        the headline's protocol, or the plainest there is.
    """

    experiment: str
    family: str
    headline: papers.Figure | None
    test: papers.Figure | None
    records: tuple[Record, ...]


def line(records: Iterable[Record]) -> list[LineRow]:
    """Return a row for every network that has a published figure, is registered for an official
    data set, or has a record on one; in the order of the papers.
    """
    records = list(records)
    registered = [
        name for name in experiment.names() if experiment.get(name).data.dataset in OFFICIAL
    ]
    measured = [record.experiment for record in records if images_of(record)]
    names = dict.fromkeys([*papers.experiments(), *registered, *measured])
    return [_line_row(name, records) for name in sorted(names, key=papers.order)]


def _line_row(name: str, records: Sequence[Record]) -> LineRow:
    headline = papers.headline(name)
    wanted = _DEFAULT
    if headline and (headline.dataset, headline.split) not in _HIDDEN:
        wanted = (headline.dataset, headline.split)
    own = [record for record in records if record.experiment == name]
    matching = [record for record in own if images_of(record) == wanted]
    return LineRow(
        experiment=name,
        family=papers.family_of(name) or next((r.family for r in own), ""),
        headline=headline,
        test=papers.test_figure(name),
        records=_of_one_protocol(
            matching or [r for r in own if images_of(r) == _DEFAULT], headline
        ),
    )


def _of_one_protocol(
    records: Sequence[Record], headline: papers.Figure | None
) -> tuple[Record, ...]:
    """Return the records under the headline's protocol or, without any, under the plainest."""

    def rank(record: Record) -> tuple:
        same = headline is not None and same_views(record.protocol, headline.protocol)
        found = record.protocol
        return not same, found.crf, len(found.scales), found.flip, record.cutting, str(found)

    best = min(map(rank, records), default=None)
    return tuple(record for record in records if rank(record) == best)


def same_views(one: papers.Protocol, other: papers.Protocol) -> bool:
    """Whether two protocols show the image alike: the same scales, mirror image, CRF or not."""
    return (one.scales, one.flip, one.crf) == (other.scales, other.flip, other.crf)


def images_of(record: Record) -> tuple[str, str] | None:
    """Return (data set, split) as publications call them; None for any other images, and for a
    validation split whose images the model was trained on; None for published weights: that
    others' training gives this score here says nothing of ours.
    """
    if record.data.name not in OFFICIAL or record.weights:
        return None
    trained_on = record.training.data.split if record.training.data else ""
    if record.data.split == "val" and trained_on.startswith("trainval"):
        return None
    if record.data.split == "seg11valid":  # FCN's 736 images are a part of VOC 2011's val
        return "VOC 2011", "seg11valid"
    return OFFICIAL[record.data.name], record.data.split


def line_json(row: LineRow) -> dict[str, Any]:
    """Return a row of the table as JSON."""
    return {
        "experiment": row.experiment,
        "family": row.family,
        "published": row.headline and dataclasses.asdict(row.headline),
        "published_test": row.test and dataclasses.asdict(row.test),
        "state": "measured" if row.records else "not run",
        "measured": [measured_json(record) for record in row.records],
    }


def measured_json(record: Record) -> dict[str, Any]:
    """Return a measurement with its protocol and provenance as JSON."""
    whole = record.to_dict()
    return {name: value for name, value in whole.items() if name not in ("counts", "config")}


def trimap(record: Record, half_width_px: int) -> float | None:
    """Return the trimap mIoU at a half-width, None where the record does not have it."""
    return record.metrics["trimap_mean_iou"].get(str(half_width_px))


def committed_records() -> list[Record]:
    """Read the records that are part of the project: experiments/results/*.json."""
    package = importlib.import_module("experiments")
    folder = Path(package.__path__[0]) / "results"
    return load_records(sorted(folder.glob("*.json")))
