"""The README's table: one row for each family, and one for each network with scored weights.

`report.table` has one row for each network; this table says in a dozen rows what was measured here
and on which images.
"""

from collections.abc import Sequence

from seg_jax import experiment, papers
from seg_jax.report import rows, table
from seg_jax.report.grid import NONE, Column, Grid, percent
from seg_jax.results import Record, load_records

MARKERS = ("<!-- front:begin -->", "<!-- front:end -->")
QUICK_DATA = "synthetic_voc"  # what the suite `quick` is scored on


def quick_records() -> list[Record]:
    """Read the committed records of suite `quick`: experiments/results/quick/*.json."""
    return load_records(sorted((experiment.folder() / "results" / "quick").glob("*.json")))


def front_grid(records: Sequence[Record], quick: Sequence[Record]) -> Grid:
    """Return one row for each family: its best published score and the best measured here.

    Args:
      records: measured on official data sets, or with published weights.
      quick: records of suite `quick`; shown for a family without a record on an official data set.
    """
    columns = (
        Column("family"), Column("paper"), Column("published", number=True),
        Column("here", number=True), Column('what "here" is'),
    )  # fmt: skip
    networks = rows.networks(records)
    cells = []
    for family in papers.FAMILIES:
        network = max((row for row in networks if row.family == family), key=_published)
        cells.append((family, _paper(network), _figure(network), *_here(family, networks, quick)))
        for record in records:
            if record.weights and record.family == family:
                own = next(row for row in networks if row.experiment == record.experiment)
                what = f"{record.weights.name}, our forward pass: {record.data.description}"
                score = percent(record.metrics["mean_iou"])
                cells.append((family, "published weights", _figure(own), score, what))
    return Grid(columns, tuple(cells))


def _published(row: rows.NetworkRow) -> tuple:
    """Sort key of published figures: the authors' own before others', a network's before those of
    its variants (trained on COCO first, say), then the highest mIoU.
    """
    figure = row.headline
    if figure is None:
        return (False, False, False, 0.0)
    own = figure.experiment == row.experiment
    return (True, figure.origin != "reimplementation", own, figure.miou or 0.0)


def _paper(row: rows.NetworkRow) -> str:
    """Shorten "Long, Shelhamer & Darrell, CVPR 2015, ..." to "Long et al., CVPR 2015, ..."."""
    words = experiment.get(row.experiment).paper.split(", ")
    last = next((index for index, word in enumerate(words) if " & " in word), 0)
    return ", ".join([f"{words[0].split(' & ')[0]} et al.", *words[last + 1 :]])


def _figure(row: rows.NetworkRow) -> str:
    figure = row.headline
    shown = table.figure_text(figure)
    return f"{shown}, {figure.dataset} {figure.split}" if figure else shown


def _here(
    family: str, networks: Sequence[rows.NetworkRow], quick: Sequence[Record]
) -> tuple[str, str]:
    """Return a family's best score on official images, else on synthetic ones, and its origin."""
    official = [record for row in networks if row.family == family for record in row.records]
    if official:
        best = max(official, key=_mean_iou)
        return percent(_mean_iou(best)), f"{best.experiment}, trained here: {best.data.description}"
    drawn = [r for r in quick if r.family == family and r.data.name == QUICK_DATA]
    if drawn:
        best = max(drawn, key=_mean_iou)
        what = f"drawn images; a reduced network after {best.training.steps} steps"
        if best.training.pretraining in {record.experiment for record in quick}:
            what += f", from {best.training.pretraining}"
        return percent(_mean_iou(best)), what
    return table.NOT_RUN, NONE


def _mean_iou(record: Record) -> float:
    return record.metrics["mean_iou"] or 0.0
