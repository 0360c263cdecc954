"""One page that compares networks trained by one recipe on the same images: comparison.html.

Every score has its interval from the image bootstrap, every difference a paired test on the same
images (`metrics.bootstrap`). Two networks are called apart only if the test, corrected for the
number of pairs (Holm), says so at 5 %, and their difference is larger than the seeds' variation
lets expect.
"""

import dataclasses
import html
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from seg_jax import files
from seg_jax.checks import UserError
from seg_jax.kernels.crf import presets
from seg_jax.metrics import bootstrap
from seg_jax.metrics.bootstrap import Interval
from seg_jax.report import heat_map, images, interval_chart, names, page, seeds, svg, table
from seg_jax.report.grid import Column, Grid, count, percent
from seg_jax.report.rows import trimap
from seg_jax.reproduce import differing_images, other_protocols, plan
from seg_jax.reproduce.other_protocols import Scored
from seg_jax.reproduce.plan import Run
from seg_jax.results import Record, image_counts, load
from seg_jax.runs import log

_PX = (2, 5)  # half-widths of the bands in the table
_THIN = 5  # rarest classes that the table shows
_LEVEL = 0.05
# What a CRF is for: scores near boundaries.
_EDGES: dict[str, Callable[[Record], float | None]] = {
    f"trimap {_PX[0]} px": lambda record: trimap(record, _PX[0]),
    "boundary F1": lambda record: record.metrics["boundary_f1"],
}


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """The runs of one experiment that differ in their seeds.

    Attributes:
      name: of the experiment.
      title: what the page calls it: its architecture, if it is the only one of that.
      runs: of it.
      records: one a run, on the split that publications score.
      counts: of the images of each record, int64 [n 3 k].
      ids: of these images.
    """

    name: str
    title: str
    runs: tuple[Run, ...]
    records: tuple[Record, ...]
    counts: tuple[np.ndarray, ...]
    ids: tuple[str, ...]

    @property
    def scores(self) -> tuple[float, ...]:
        """Mean IoU of each run."""
        return tuple(record.metrics["mean_iou"] or 0.0 for record in self.records)

    def mean(self, metric: str, key: str | None = None) -> str:
        """Format a metric's mean over the runs, and its standard deviation if there are several."""
        found = [record.metrics[metric] for record in self.records]
        return seeds.mean_and_sd([one if key is None else one.get(key) for one in found])


def networks(runs: Sequence[Run]) -> list[Network]:
    """Read the records of finished runs, grouped by experiment in order."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.experiment.name, []).append(run)
    records = {name: tuple(load(run.record) for run in group) for name, group in groups.items()}
    titles = names.short([group[0] for group in records.values()])
    return [
        _network(name, title, groups[name], records[name])
        for name, title in zip(groups, titles, strict=True)
    ]


def _network(name: str, title: str, group: Sequence[Run], records: tuple[Record, ...]) -> Network:
    found = [
        image_counts.load(image_counts.path_of(run.record), record)
        for run, record in zip(group, records, strict=True)
    ]
    if len({one.ids for one in found}) > 1:
        raise UserError(f"{name}: its runs were scored on different images; evaluate them again")
    return Network(
        name, title, tuple(group), records, tuple(one.counts for one in found), found[0].ids
    )


def write(
    suite: str, runs: Sequence[Run], steps: Sequence[Run], workdir: Path, *, command: str = ""
) -> Path:
    """Write comparison.html for the finished runs of a suite, and its intervals and waterfall as
    SVG files; return the page's path.

    Args:
      suite: its name.
      runs: of the networks.
      steps: further runs that the waterfall needs.
      workdir: receives the page, and the pictures of it in pictures/.
      command: for the records of other protocols, which are made here.

    Raises:
      UserError: a record or its counts cannot be read, or networks saw different images.
    """
    compared = networks(runs)
    if len({one.ids for one in compared}) > 1:
        raise UserError(f"{suite}: networks were scored on different images; evaluate them again")
    record = compared[0].records[0]
    refined = plan.refined(suite)
    pairs = other_protocols.with_crf(refined, runs, command)
    titles = names.short([before.record for before, _ in pairs])
    charts = {
        "intervals": _interval_chart(compared),
        "crf": _crf_chart(pairs, titles),
        "waterfall": _waterfall_chart(suite, (*runs, *steps), command),
    }
    text = page.page(
        f"Suite {suite}: {len(compared)} networks, one recipe",
        [
            ("Scores", scores_grid(compared).as_html() + _scores_note(compared)),
            ("Intervals", _intervals(charts["intervals"])),
            ("Differences", differences_grid(compared).as_html() + _differences_note(compared)),
            ("With a dense CRF", _with_crf(charts["crf"], crf_grid(titles, pairs), refined)),
            ("While training", _curves(compared)),
            ("Step by step", _waterfall(charts["waterfall"])),
            ("Where they differ most", _pictures(compared, workdir)),
            ("Which classes are taken for which", _confusions(compared)),
            ("How each was obtained", table.provenance_grid(_records(compared)).as_html()),
        ],
        introduction=(
            f"Measured on {record.data.description}, after {record.training.steps} steps of "
            f"{record.training.batch_size} images. Scores are in percent."
        ),
    )
    for name, drawn in charts.items():
        if drawn:
            files.write_text(workdir / f"{name}.svg", page.chart_file(drawn))
    path = workdir / "comparison.html"
    files.write_text(path, text)
    return path


def _records(compared: Sequence[Network]) -> list[Record]:
    return [record for one in compared for record in one.records]


def scores_grid(compared: Sequence[Network]) -> Grid:
    """Return one row for each network: mean ± standard deviation over its seeds."""
    first = compared[0].records[0]
    pixels = np.array(first.counts.confusion).sum(1)
    thin = [first.classes[index] for index in np.argsort(pixels)[: min(_THIN, len(pixels) - 1)]]
    columns = (
        Column("network"), Column("seeds", number=True), Column("mIoU", number=True),
        Column("95 % of image draws", number=True), *(Column(name, number=True) for name in thin),
        *(Column(f"trimap {px} px", number=True) for px in _PX),
        Column("boundary F1", number=True), Column("small objects", number=True),
        Column("parameters", number=True), Column("multiply-adds", number=True),
        Column("s/image", number=True),
    )  # fmt: skip
    return Grid(columns, tuple(_score_cells(one, thin) for one in compared))


def _score_cells(one: Network, thin: Sequence[str]) -> tuple[str, ...]:
    from seg_jax.analysis import overview

    found = bootstrap.interval(one.counts)
    seconds = statistics.fmean(r.evaluation_seconds / r.counts.images for r in one.records)
    operations = overview.analyse_experiment(one.runs[0].experiment).multiply_adds
    return (
        one.title,
        str(len(one.records)),
        one.mean("mean_iou"),
        f"{percent(found.low)} to {percent(found.high)}",
        *(one.mean("per_class_iou", name) for name in thin),
        *(one.mean("trimap_mean_iou", str(px)) for px in _PX),
        one.mean("boundary_f1"),
        one.mean("object_iou", "small"),
        count(one.records[0].training.parameters),
        f"{operations / 1e9:.2f} G",
        f"{seconds:.2f}",
    )


def _scores_note(compared: Sequence[Network]) -> str:
    height, width = compared[0].records[0].training.crop
    return _paragraph(
        "The classes shown are the rarest ones. Multiply-adds: of one forward pass of a training "
        f"crop of {height}x{width} px. Seconds an image: of the whole evaluation, with its metrics "
        "and the compilation, on the machine it ran on. ±: standard deviation over seeds."
    )


def _interval_chart(compared: Sequence[Network]) -> str:
    bars = [
        interval_chart.Bar(one.title, bootstrap.interval(one.counts), one.scores)
        for one in compared
    ]
    return interval_chart.intervals(bars, title="mIoU, %")


def _intervals(drawn: str) -> str:
    return _scrolling(drawn) + _paragraph(
        f"Line: 95 % of {bootstrap.SAMPLES:,} draws of the images; dot: the score, or the mean "
        "over seeds; ticks: single seeds. The line does not hold the seeds' variation."
    )


def compare_all(compared: Sequence[Network]) -> dict[tuple[int, int], Interval]:
    """Return the differences of all pairs (later minus earlier), p-values corrected by Holm."""
    pairs = [(i, j) for j in range(len(compared)) for i in range(j)]
    found = [bootstrap.difference(compared[j].counts, compared[i].counts) for i, j in pairs]
    adjusted = bootstrap.holm([one.p_value for one in found])
    return {
        pair: dataclasses.replace(one, p_value=p)
        for pair, one, p in zip(pairs, found, adjusted, strict=True)
    }


def are_apart(one: Network, other: Network, gain: Interval) -> bool:
    """Whether a difference is more than chance, of the images and of the seeds.

    Of the seeds: larger than twice its standard error by Welch, where both have several.
    """
    spread = [
        statistics.variance(network.scores) / len(network.scores)
        for network in (one, other)
        if len(network.scores) > 1
    ]
    by_seeds = len(spread) < 2 or abs(gain.value) > 2 * math.sqrt(sum(spread))
    return gain.p_value < _LEVEL and by_seeds


def differences_grid(compared: Sequence[Network]) -> Grid:
    """Return a table of row minus column in points of mIoU; a star: the two are apart."""
    gains = compare_all(compared)
    columns = (
        Column("row minus column"),
        *(Column(one.title, number=True) for one in compared[:-1]),
    )
    rows = []
    for j, network in enumerate(compared[1:], 1):
        cells = []
        for i in range(len(compared) - 1):
            gain = gains.get((i, j))
            star = " *" if gain and are_apart(compared[i], network, gain) else ""
            cells.append(f"{100 * gain.value:+.1f}{star}" if gain else "")
        rows.append((network.title, *cells))
    return Grid(columns, tuple(rows))


def _differences_note(compared: Sequence[Network]) -> str:
    gains = compare_all(compared)
    apart = sum(are_apart(compared[i], compared[j], gain) for (i, j), gain in gains.items())
    seeds = min(len(one.records) for one in compared)
    text = (
        f"{apart} of {len(gains)} pairs are apart (*): the paired bootstrap over the images, "
        "corrected for the number of pairs (Holm), rejects an equal score at 5 %"
    )
    if seeds > 1:
        text += ", and the difference is over twice its standard error over seeds."
    else:
        text += (
            ". With one seed a network this says nothing about another training of the same two: "
            "the seeds' variation is not known."
        )
    return _paragraph(text)


def _curves(compared: Sequence[Network]) -> str:
    lines = []
    for one in compared:
        points = [
            (line["step"], 100 * line["mean_iou"])
            for line in log.read(one.runs[0].folder)
            if line["kind"] == "evaluate" and isinstance(line.get("mean_iou"), float)
        ]
        lines.append(svg.Series(one.title, points))
    split = compared[0].runs[0].experiment.data.val_split
    drawn = svg.chart(lines, x_title="step", y_title=f"mIoU on {split}, %")
    return drawn and _scrolling(drawn) + svg.legend([line.name for line in lines]) + _paragraph(
        "A curve that still rises at its end belongs to a network that has not converged."
    )


def _crf_chart(pairs: Sequence[tuple[Scored, Scored]], titles: Sequence[str]) -> str:
    bars = [
        interval_chart.Bar(name, bootstrap.interval([one.counts]))
        for title, pair in zip(titles, pairs, strict=True)
        for name, one in zip((title, f"{title}, with CRF"), pair, strict=True)
    ]
    return interval_chart.intervals(bars, title="mIoU, %")


def _with_crf(drawn: str, grid: Grid, steps: Sequence[plan.Step]) -> str:
    return drawn and _scrolling(drawn) + grid.as_html() + _paragraph(
        f"With {presets.words(steps[0].evaluation['crf'])}; the first seed of each. Lines: 95 % of "
        "the draws of the images. Change: of mIoU, by paired draws."
    )


def crf_grid(titles: Sequence[str], pairs: Sequence[tuple[Scored, Scored]]) -> Grid:
    """Return a table of the same networks without a dense CRF and with it.

    Args:
      titles: of the networks.
      pairs: of each, (without, with).
    """
    columns = [
        Column(name, number=True)
        for name in ("mIoU", "with CRF", "change", "95 % of image draws")
        + tuple(f"{name}{crf}" for name in _EDGES for crf in ("", ", with CRF"))
    ]
    rows = []
    for title, (before, after) in zip(titles, pairs, strict=True):
        gain = bootstrap.difference([after.counts], [before.counts])
        cells = [percent(one.record.metrics["mean_iou"]) for one in (before, after)]
        cells += [f"{100 * gain.value:+.1f}", f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}"]
        cells += [percent(read(one.record)) for read in _EDGES.values() for one in (before, after)]
        rows.append((title, *cells))
    return Grid((Column("network"), *columns), tuple(rows))


def _waterfall_chart(suite: str, runs: Sequence[Run], command: str) -> str:
    found = other_protocols.waterfall(plan.waterfall(suite), runs, command)
    return "" if found is None else interval_chart.waterfall(*found, title="mIoU, %")


def _waterfall(drawn: str) -> str:
    return drawn and _scrolling(drawn) + _paragraph(
        "Each step changes one thing. The whisker is the 95 % interval of the change, by paired "
        "draws of the images, one seed; a grey step may be chance."
    )


def _pictures(compared: Sequence[Network], workdir: Path) -> str:
    chosen = differing_images.most_different([one.counts[0] for one in compared])
    found = []
    for one in compared:
        folder = workdir / "pictures" / one.name
        differing_images.predict(one.runs[0], chosen, folder)
        found.append(images.Run(folder, one.records[0]))
    which = "The images on which the networks' IoU varies most; the first seed of each."
    return images.section(found, which=which)


def _confusions(compared: Sequence[Network]) -> str:
    parts = []
    for one in compared:
        matrix = np.sum([np.array(record.counts.confusion) for record in one.records], axis=0)
        total = matrix.sum(1, keepdims=True)
        shares = np.divide(matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)
        classes = [name[:7] for name in one.records[0].classes]
        drawn = heat_map.heat_map(
            [("", shares.tolist())],
            x_title="predicted",
            y_title="true",
            x_labels=classes,
            y_labels=classes,
            title=one.title,
        )
        parts.append(f"<details><summary>{html.escape(one.title)}</summary>{drawn}</details>")
    note = "Shares of each true class's pixels, all seeds together; the highest is framed."
    return _paragraph(note) + "\n".join(parts)


def _paragraph(text: str) -> str:
    return f'<p class="soft">{html.escape(text)}</p>'


def _scrolling(drawn: str) -> str:
    """On a narrow screen, a chart keeps a size at which it can be read."""
    return f'<div class="scroll">{drawn}</div>'
