"""The report of some runs as one HTML file: scores, curves, images, protocol and provenance."""

import html
import json
from collections.abc import Sequence

from seg_jax import metrics
from seg_jax.report import confusion, curves, images, page, rows, seeds, svg, table
from seg_jax.report.grid import percent
from seg_jax.report.images import Run
from seg_jax.results import Record


def render(
    runs: Sequence[Run], *, title: str, palette: str = "auto", remarks: Sequence[str] = ()
) -> str:
    """Return the report of the runs as a self-contained HTML document.

    Args:
      runs: run folders with their records; `metrics.jsonl` and `predictions/` of a folder are
        shown if they exist.
      title: of the page, plain text.
      palette: of the images, see `images.section`.
      remarks: sentences on what to see in the scores, plain text.
    """
    records = [run.record for run in runs]
    measured_on = "; ".join(dict.fromkeys(map(rows.measured_on, records)))
    return page.page(
        title,
        [
            ("Scores", table.score_grid(records).as_html() + _reading_aid()),
            ("What to see", _list(remarks)),
            ("Seeds", _seeds(records)),
            ("Images", images.section(runs, palette=palette)),
            ("Near the boundaries", _trimap(records)),
            ("Objects", _objects(records)),
            ("Classes", _classes(records)),
            ("What is taken for what", confusion.matrix(records)),
            ("Training loss", curves.training(runs)),
            ("Validation during training", curves.validation(runs)),
            ("How each was obtained", table.provenance_grid(records).as_html() + _details(records)),
        ],
        introduction=f"Measured on {measured_on}. Scores are in percent.",
    )


def _seeds(records: Sequence[Record]) -> str:
    grid = seeds.grid(records)
    return grid.as_html() if grid else ""


def _list(sentences: Sequence[str]) -> str:
    """Return sentences as a list; empty if there are none."""
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="remarks">{items}</ul>' if items else ""


def _reading_aid() -> str:
    return (
        '<p class="soft">mIoU: mean over classes of intersection over union, from one confusion '
        "matrix over the whole split at original image size, void ignored. Trimap: mIoU over the "
        "pixels within that distance of a labelled boundary. Boundary F1: boundaries met "
        "within 0.75 % of the image diagonal, mean over classes and images. Small and medium "
        "objects: IoU of connected components of the truth below 32x32 and 96x96 px, mean over the "
        "components of each class and then over classes.</p>"
    )


def _trimap(records: Sequence[Record]) -> str:
    radii = sorted({px for record in records for px in record.counts.trimap_px})
    if not radii:
        return ""
    place = {px: index for index, px in enumerate(radii)}  # evenly spaced: narrow bands matter most
    lines = [
        svg.Series(
            name,
            [
                (place[px], None if value is None else 100 * value)
                for px in record.counts.trimap_px
                for value in [record.metrics["trimap_mean_iou"][str(px)]]
            ],
        )
        for name, record in zip(rows.labels(records), records, strict=True)
    ]
    drawn = svg.chart(
        lines,
        x_title="half-width of the band around boundaries, px",
        y_title="mIoU within the band, %",
        x_ticks=[(place[px], str(px)) for px in radii],
        width=480,  # wider ones have letters too small for a phone
        height=260,
    )
    return drawn + svg.legend([line.name for line in lines])


def _objects(records: Sequence[Record]) -> str:
    return _bars("objects", metrics.SIZE_NAMES, rows.labels(records), records, "object_iou")


def _classes(records: Sequence[Record]) -> str:
    """Return tables of IoU bars, one for each set of classes: a row per class, a column per run; of
    a single run, all scores of its classes.
    """
    if len(records) == 1:
        return confusion.classes(records[0])
    by_classes: dict[tuple[str, ...], list[tuple[str, Record]]] = {}
    for label, record in zip(rows.labels(records), records, strict=True):
        by_classes.setdefault(record.classes, []).append((label, record))
    return "\n".join(
        _bars("class", classes, [n for n, _ in group], [r for _, r in group], "per_class_iou")
        for classes, group in by_classes.items()
    )


def _bars(
    what: str, names: Sequence[str], labels: Sequence[str], records: Sequence[Record], metric: str
) -> str:
    """Return a table of IoU bars: a row per name, a column per run; empty without scores."""
    scores = [record.metrics[metric] for record in records]
    if all(score[name] is None for score in scores for name in names):
        return ""
    head = "".join(f"<th>{html.escape(label)}</th>" for label in labels)
    body = []
    for name in names:
        cells = "".join(_bar(score[name]) for score in scores)
        body.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr><th>IoU of {what}</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _bar(value: float | None) -> str:
    if value is None:
        return f'<td class="number">{percent(None)}</td>'
    return f'<td class="bar" style="--share:{100 * value:.1f}%">{percent(value)}</td>'


def _details(records: Sequence[Record]) -> str:
    def entry(label: str, record: Record) -> str:
        shown = {
            name: value
            for name, value in record.to_dict().items()
            if name not in ("counts", "metrics", "classes")
        }
        text = html.escape(json.dumps(shown, indent=2, ensure_ascii=False))
        name = html.escape(label)
        return f"<details><summary>{name}: the whole record</summary><pre>{text}</pre></details>"

    return "\n".join(map(entry, rows.labels(records), records))
