"""The rows of the tables as data, made from records and published figures only."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from seg_jax import experiment, papers
from seg_jax.results import Record, load_records

# Names that publications use for the official, complete data sets. A record of anything else, such
# as voc2012-part or synthetic_voc, was measured on other images and is never compared with papers.
OFFICIAL = {"voc2012": "VOC 2012", "camvid": "CamVid", "isbi2012": "ISBI 2012"}
_HIDDEN = {("VOC 2012", "test"), ("VOC 2011", "test"), ("ISBI 2012", "test")}  # labels: server only
DEFAULT = ("VOC 2012", "val")
_SCORED = {"CamVid": ("CamVid", "test")}  # by data set: the split of its published figures
TRIMAP_PX = (2, 5)  # half-widths shown in tables; reports plot all


@dataclasses.dataclass(frozen=True)
class NetworkRow:
    """One network: its published score, and what was measured here on the same images.

    Attributes:
      experiment: its name.
      family: of its architecture.
      headline: the published figure to compare with, or None.
      test: the published figure on VOC 2012 test, or None.
      records: our records on the headline's split, or on VOC 2012 val if there are none or its
        labels are not public; of an experiment without a published figure, on the split that its
        data set's figures are for (CamVid: test). Under the headline's protocol, or the plainest
        available.
    """

    experiment: str
    family: str
    headline: papers.Figure | None
    test: papers.Figure | None
    records: tuple[Record, ...]


def labels(records: Sequence[Record]) -> list[str]:
    """Return a name for each record, by which a page tells it from the others: the experiment's (of
    published weights, theirs), with the run's where several have that, and a number as a last
    resort.
    """
    names = [record.weights.name if record.weights else record.experiment for record in records]
    both = [
        f"{name}, run {record.run}" if names.count(name) > 1 else name
        for name, record in zip(names, records, strict=True)
    ]
    return [
        f"{name} ({both[: index + 1].count(name)})" if both.count(name) > 1 else name
        for index, name in enumerate(both)
    ]


def measured_on(record: Record) -> str:
    """Return images and protocol of a record in words."""
    protocol = record.cutting.partition(":")[0]  # the table of origins has all of it
    return f"{record.data.description}, protocol {protocol} ({record.protocol})"


def networks(records: Iterable[Record]) -> list[NetworkRow]:
    """Return one row for each network that has a published figure, is registered for an official
    data set, or has a record on one; in the order of `papers.order`.
    """
    records = list(records)
    registered = [
        name for name in experiment.names() if experiment.get(name).data.dataset in OFFICIAL
    ]
    measured = [record.experiment for record in records if images_of(record)]
    names = dict.fromkeys([*papers.experiments(), *registered, *measured])
    return [_network_row(name, records) for name in sorted(names, key=papers.order)]


def _network_row(name: str, records: Sequence[Record]) -> NetworkRow:
    headline = papers.headline(name)
    wanted = DEFAULT
    if headline and (headline.dataset, headline.split) not in _HIDDEN:
        wanted = (headline.dataset, headline.split)
    own = [record for record in records if record.experiment == name]
    if headline is None:
        known = [images for record in own if (images := images_of(record))]
        wanted = next((_SCORED[data] for data, _ in known if data in _SCORED), wanted)
    matching = [record for record in own if images_of(record) == wanted]
    return NetworkRow(
        experiment=name,
        family=papers.family_of(name) or next((r.family for r in own), ""),
        headline=headline,
        test=papers.test_figure(name),
        records=_of_one_protocol(matching or [r for r in own if images_of(r) == DEFAULT], headline),
    )


def _of_one_protocol(
    records: Sequence[Record], headline: papers.Figure | None
) -> tuple[Record, ...]:
    """Return the records under the headline's protocol or, if there are none, the plainest one; of
    settings that a sweep chose only where there are no others.
    """

    def rank(record: Record) -> tuple:
        same = headline is not None and same_views(record.protocol, headline.protocol)
        found = record.protocol
        views = not same, found.crf, len(found.scales), found.flip, record.cutting, str(found)
        return record.searched is not None, *views  # the recipe's own settings come first

    best = min(map(rank, records), default=None)
    return tuple(record for record in records if rank(record) == best)


def same_views(one: papers.Protocol, other: papers.Protocol) -> bool:
    """Whether two protocols have the same scales, mirror images and CRF."""
    return (one.scales, one.flip, one.crf) == (other.scales, other.flip, other.crf)


def images_of(record: Record) -> tuple[str, str] | None:
    """Return (data set, split) as publications name them, or None if the record is not comparable:
    measured on other images, on validation images that the model was trained on, or with
    published weights, whose score says nothing about our training.
    """
    if record.data.name not in OFFICIAL or record.weights:
        return None
    trained_on = record.training.data.split if record.training.data else ""
    if record.data.split == "val" and trained_on.startswith("trainval"):
        return None
    if record.data.split == "seg11valid":  # FCN's 736 images, part of VOC 2011 val
        return "VOC 2011", "seg11valid"
    return OFFICIAL[record.data.name], record.data.split


def network_json(row: NetworkRow) -> dict[str, Any]:
    """Return a network's row as JSON."""
    return {
        "experiment": row.experiment,
        "family": row.family,
        "published": row.headline and dataclasses.asdict(row.headline),
        "published_test": row.test and dataclasses.asdict(row.test),
        "state": "measured" if row.records else "not run",
        "measured": [measured_json(record) for record in row.records],
    }


def measured_json(record: Record) -> dict[str, Any]:
    """Return a record with its metrics, protocol and provenance as JSON, without counts."""
    whole = record.to_dict()
    return {name: value for name, value in whole.items() if name not in ("counts", "config")}


def trimap(record: Record, half_width_px: int) -> float | None:
    """Return the trimap mIoU at a half-width in px; None if the record does not have it."""
    return record.metrics["trimap_mean_iou"].get(str(half_width_px))


def committed_records() -> list[Record]:
    """Read the records that are part of the project: experiments/results/*.json."""
    return load_records(sorted((experiment.folder() / "results").glob("*.json")))
