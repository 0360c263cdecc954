"""Tables of results in Markdown and JSON, and the generated sections of pages."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from seg_jax.checks import UserError
from seg_jax.papers import Figure
from seg_jax.report import rows, seeds
from seg_jax.report.grid import NONE, Column, Grid, count, duration, percent
from seg_jax.results import Record, load_records

BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
NOT_RUN = "not run"
_BY_CLASS = {
    "IoU": "per_class_iou", "boundary F1": "per_class_boundary_f1",
    "precision": "per_class_precision", "recall": "per_class_recall", "Dice (F1)": "per_class_dice",
}  # fmt: skip
_CAPTION = """\
Mean IoU in percent. *Published*: by the authors, or else by the reimplementation named; with the
experiment's own recipe, under the plainest protocol reported. *Here*: measured by this code on the
same images; of several seeds, mean ± standard deviation. VOC 2012 test is scored by the challenge's
server only: those figures are for orientation; some used more training data or a CRF, as the last
column says. †: quoted, not verified against its source."""


def as_markdown(paths: Sequence[Path] = ()) -> str:
    """Return the table of the given runs; without any, the table of all networks.

    Args:
      paths: run folders, records, or folders of them; none: the committed records, beside the
        published figures of each network.

    Raises:
      UserError: a record cannot be read.
    """
    if paths:
        return measurements_markdown(load_records(list(paths)))
    return networks_markdown(rows.committed_records())


def as_json(paths: Sequence[Path] = ()) -> dict[str, Any]:
    """Return what `as_markdown` shows, with all metrics, protocol and provenance, as JSON."""
    records = load_records(list(paths)) if paths else rows.committed_records()
    shown = {"measurements": [rows.measured_json(record) for record in records]}
    if not paths:
        shown["line"] = [rows.network_json(row) for row in rows.networks(records)]
    return shown


def networks_markdown(records: Iterable[Record]) -> str:
    """Return the table of all networks, and below it the measurements that it is made from."""
    records = list(records)
    parts = [networks_grid(records).as_markdown(), _CAPTION]
    official = [record for record in records if rows.images_of(record)]
    published = [record for record in records if record.weights]
    other = [r for r in records if not (rows.images_of(r) or r.weights)]
    if official:
        parts += ["Measurements:", measurements_markdown(official)]
    if published:
        parts += ["Published weights, our forward pass:", measurements_markdown(published)]
    if other:
        parts += [
            "Measured on other images, or on images trained on: not comparable with the above:",
            measurements_markdown(other),
        ]
    return "\n\n".join(parts)


def networks_grid(records: Iterable[Record]) -> Grid:
    """Return one row for each network: the published score, ours, and VOC 2012 test."""
    columns = (
        Column("family"), Column("experiment"), Column("published", number=True), Column("on"),
        Column("protocol"), Column("here", number=True), Column("VOC 2012 test", number=True),
        Column("with"),
    )  # fmt: skip
    return Grid(columns, tuple(_network_cells(row) for row in rows.networks(records)))


def _network_cells(row: rows.NetworkRow) -> tuple[str, ...]:
    head, test = row.headline, row.test
    return (
        row.family,
        row.experiment,
        figure_text(head),
        f"{head.dataset} {head.split}" if head else NONE,
        _protocol(head) if head else NONE,
        _here(row),
        figure_text(test),
        f"{_protocol(test)}; {test.date}" if test else NONE,
    )


def figure_text(figure: Figure | None) -> str:
    """Format a published figure: "65.0", "68.96 †" (unverified), "–" (none)."""
    if figure is None:
        return NONE
    if figure.miou is None:
        return ", ".join(f"{name} {value:g}" for name, value in figure.metrics) or NONE
    text = f"{figure.miou:.2f}"
    text = text[:-1] if text.endswith("0") else text  # 62.25, but 65.0
    return text + (" †" if figure.verified == "unverified" else "")


def _protocol(figure: Figure) -> str:
    by = f"; {figure.source}" if figure.origin == "reimplementation" else ""
    return f"{figure.protocol}; {figure.pretraining}{by}"


def _here(row: rows.NetworkRow) -> str:
    if not row.records:
        return NOT_RUN
    scores = [record.metrics["mean_iou"] for record in row.records]
    known = [score for score in scores if score is not None]
    text = seeds.mean_and_sd(scores)
    if len(known) > 1:
        different = {record.training.seed for record in row.records}
        text += f" ({len(known)} {'seeds' if len(different) == len(known) else 'runs'})"
    record = row.records[0]
    images = rows.images_of(record)
    on = (row.headline.dataset, row.headline.split) if row.headline else rows.DEFAULT
    if images and images != on:
        text += f" ({images[0]} {images[1]})"
    if row.headline and not rows.same_views(record.protocol, row.headline.protocol):
        text += f" ({record.protocol})"
    if record.searched:
        text += f" ({record.searched})"
    return text


def measurements_markdown(records: Sequence[Record]) -> str:
    """Return a table of scores, below it one of settings with several seeds, and one of how each
    was obtained.
    """
    grids = (score_grid(records), seeds.grid(records), provenance_grid(records))
    return "\n\n".join(grid.as_markdown() for grid in grids if grid)


def record_text(record: Record) -> str:
    """Return one record as Markdown of at most 100 columns: one line with mIoU, split and protocol,
    then all scores, how they were obtained, and the IoU of each class.
    """
    metrics = record.metrics
    classes = Grid(
        (Column("class"), *(Column(title, number=True) for title in _BY_CLASS)),
        tuple(
            (name, *(percent(metrics[metric][name]) for metric in _BY_CLASS.values()))
            for name in metrics["per_class_iou"]
        ),
    )
    parts = [
        headline(record),
        _scores(metrics).as_markdown(),
        _origin(record),
        classes.as_markdown(),
    ]
    if record.training.selection.endswith(f" on {record.data.split}"):
        parts.append(
            f"The checkpoint is the {record.training.selection}, the images of this score, which "
            "is optimistic for that: choose by another list (train.evaluate_split)."
        )
    return "\n\n".join(parts)


def headline(record: Record) -> str:
    """Return one line: mIoU, split and protocol."""
    return f"mIoU {percent(record.metrics['mean_iou'])} % on {rows.measured_on(record)}"


def _origin(record: Record) -> str:
    """Return how a record was obtained, as a Markdown list whose lines are wrapped."""
    grid = provenance_grid([record])
    cells = dict(zip([column.title for column in grid.columns], grid.rows[0], strict=True))
    training = record.training
    cells["parameters"] = count(training.parameters)
    if not record.weights:
        cells["training"] = f"{training.steps} steps of {training.batch_size} images"
        if training.seconds is not None:
            cells["training"] += f", {duration(training.seconds)}"
    cells["settings"] = seeds.chosen(record)
    known = {title: cell for title, cell in cells.items() if cell != NONE}
    return "\n".join(
        textwrap.fill(f"- {title}: {cell}", 100, subsequent_indent="  ", break_on_hyphens=False)
        for title, cell in known.items()
    )


def _scores(metrics: dict[str, Any]) -> Grid:
    """Return the metrics, one in each row."""
    named = {
        "mean IoU": metrics["mean_iou"],
        "pixel accuracy": metrics["pixel_accuracy"],
        "mean accuracy": metrics["mean_accuracy"],
        "frequency-weighted IoU": metrics["frequency_weighted_iou"],
        "boundary F1": metrics["boundary_f1"],
        "mean Dice": metrics["mean_dice"],
        "mean IoU of single images": metrics["mean_image_iou"],
        "accuracy within 7 px of a boundary": metrics["boundary_accuracy"],
        "accuracy elsewhere": metrics["internal_accuracy"],
        **{f"IoU of {size} objects": iou for size, iou in metrics["object_iou"].items()},
        **{f"trimap mIoU, {px} px": iou for px, iou in metrics["trimap_mean_iou"].items()},
    }
    shown = [(name, percent(value)) for name, value in named.items() if value is not None]
    for name, error in metrics.get("membrane_errors", {}).items():  # hundredths of a percent matter
        shown.append((f"ISBI 2012 {name.replace('_', ' ')}", percent(error, digits=4)))
    return Grid((Column("metric"), Column("%", number=True)), tuple(shown))


def score_grid(records: Sequence[Record]) -> Grid:
    """Return one row for each record: metrics, object sizes and cost."""
    titles = ("mIoU", "pixel acc.", "mean acc.", "fwIoU")
    columns = (
        Column("experiment"),
        *(Column(title, number=True) for title in titles),
        *(Column(f"trimap {px} px", number=True) for px in rows.TRIMAP_PX),
        Column("boundary F1", number=True), Column("small objects", number=True),
        Column("medium", number=True), Column("parameters", number=True),
        Column("steps", number=True), Column("training", number=True), Column("images"),
    )  # fmt: skip
    names = ("mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")
    return Grid(
        columns,
        tuple(
            (
                name,
                *(percent(record.metrics[name]) for name in names),
                *(percent(rows.trimap(record, px)) for px in rows.TRIMAP_PX),
                percent(record.metrics["boundary_f1"]),
                *(percent(record.metrics["object_iou"][size]) for size in ("small", "medium")),
                count(record.training.parameters),
                NONE if record.weights else _steps(record),
                duration(record.training.seconds),
                record.data.description,
            )
            for name, record in zip(rows.labels(records), records, strict=True)
        ),
    )


def _steps(record: Record) -> str:
    chosen = record.training.selection
    return f"{record.training.steps} ({chosen})" if chosen else str(record.training.steps)


def provenance_grid(records: Sequence[Record]) -> Grid:
    """Return one row for each record: training, protocol, seed, code, machine, date."""
    columns = tuple(
        map(
            Column,
            ("experiment", "pre-training", "trained on", "crop", "protocol", "seed", "revision",
             "device", "date"),
        )
    )  # fmt: skip
    return Grid(
        columns,
        tuple(
            (
                name,
                record.training.pretraining,
                _trained_on(record),
                "x".join(map(str, record.training.crop)) or NONE,
                f"{record.cutting}; {record.protocol}",
                NONE if record.weights else str(record.training.seed),
                revision(record),
                "{devices} x {kind}".format(**record.device),
                record.date[:10],
            )
            for name, record in zip(rows.labels(records), records, strict=True)
        ),
    )


def _trained_on(record: Record) -> str:
    if record.weights:
        return f"{record.weights.trained_on}; saw VOC 2012 val: {record.weights.saw_val}"
    return record.training.data.description if record.training.data else "unknown"


def revision(record: Record) -> str:
    """Return the abbreviated commit, with "+" if the checkout had uncommitted changes."""
    if record.revision is None:
        return "no checkout"
    return record.revision[:10] + ("+" if record.dirty else "")


def render_readme(text: str, records: Iterable[Record]) -> str:
    """Return a page's text with the table of all networks between its markers rewritten.

    Raises:
      UserError: a marker is missing or out of order.
    """
    return write_section(text, (BEGIN, END), networks_markdown(records))


def write_section(text: str, markers: tuple[str, str], content: str) -> str:
    """Return the text with everything between two markers replaced by `content`.

    Raises:
      UserError: a marker is missing or out of order.
    """
    begin, end = markers
    found = re.search(f"{begin}.*?{end}", text, re.DOTALL)
    if not found:
        raise UserError(f"the page has no section between {begin} and {end}: add both markers")
    return f"{text[: found.start()]}{begin}\n{content}\n{end}{text[found.end() :]}"
