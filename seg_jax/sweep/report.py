"""The page of a sweep: what was tried, what came of it, what mattered, and the best command."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_jax import files
from seg_jax import search_space as spaces
from seg_jax.checks import UserError
from seg_jax.inference import protocols
from seg_jax.report import page, seeds
from seg_jax.report import trial_charts as charts
from seg_jax.report.grid import NONE, Column, Grid, duration, percent
from seg_jax.results import files as records
from seg_jax.sweep import importance, promote, search
from seg_jax.sweep.study import Trial

PAGE = "report.html"
_STYLES = {"complete": "s0", "pruned": "s6", "failed": "s4"}
_BEST = "s1"
_MOST_CURVES = 60  # lines in one chart: more cannot be told apart
_Curves = Mapping[str, Mapping[int, float]]


def write(workdir: Path, out: Path, *, url: str = "") -> None:
    """Write the page of a sweep, while it runs or after it.

    Args:
      workdir: of the sweep.
      out: the HTML file.
      url: of the storage, if it is not in the folder.

    Raises:
      UserError: the folder holds no sweep, or its storage cannot be used.
    """
    with promote.opened(workdir, url) as (found, study):
        curves = study.curves()
    files.write_text(Path(out), render(workdir, found, curves))


def render(workdir: Path, found: promote.Sweep, curves: _Curves) -> str:
    """Return the page as a self-contained HTML document.

    Args:
      workdir: of the sweep; records of its trials and promoted runs are read from there.
      found: the sweep.
      curves: what each trial reported: mIoU by percent of its schedule.
    """
    outcome = search.outcome(found.trials, found.experiment)
    best = outcome.best.run if outcome.best else ""
    axes = _axes(found)
    scored = [100 * trial.miou for trial in found.trials if trial.miou is not None]
    miou = charts.linear("mIoU, %", scored or [0.0, 100.0])
    return page.page(
        f"Sweep of {found.experiment.name}",
        [
            ("Best", _best(outcome)),
            ("Trained anew on all training images", _promoted(workdir)),
            ("History", _history(found.trials, best, miou)),
            ("What mattered", _importances(found, curves)),
            ("Settings side by side", _parallel(found.trials, best, axes, miou)),
            ("Each setting", _slices(found.trials, best, axes, miou)),
            ("Scores during training", _curves(found.trials, best, curves)),
            ("All trials", _table(found)),
            ("How it was searched", _settings(found)),
        ],
        introduction=_introduction(workdir, found, best),
    )


def _introduction(workdir: Path, found: promote.Sweep, best: str) -> str:
    """Say run, data and protocol."""
    count = {state: sum(t.state == state for t in found.trials) for state in _STYLES}
    states = ", ".join(f"{number} {state}" for state, number in count.items() if number)
    try:
        record = records.load(workdir / best) if best else None
    except UserError:  # an older sweep's folder, or one elsewhere: the storage is enough
        record = None
    data = found.experiment.data
    images = record.data.description if record else f"{data.dataset} {data.val_split}"
    words = protocols.words(found.experiment.evaluation)
    protocol = f"{record.cutting}; {record.protocol}" if record else words
    training = record.training.data if record else None
    trained = training.description if training else f"{data.dataset} {data.train_split}"
    return (
        f"Folder {workdir.name}: {len(found.trials)} trials ended ({states or 'none'}), "
        f"{len(found.running)} running; {found.experiment.train.steps} steps of "
        f"{found.experiment.train.batch_size} images each. Trained on {trained}; scored on "
        f"{images}; protocol: {protocol}. The best of many is optimistically biased on the images "
        "that it was chosen by."
    )


def _best(outcome: search.Outcome) -> str:
    if outcome.best is None:
        return '<p class="soft">No trial is complete yet.</p>'
    line = f"{outcome.best.run}, mIoU {percent(outcome.best.miou)} %: "
    line += search.values_as_text(outcome.best.values)
    command = html.escape(outcome.command)
    return f'<p>{html.escape(line)}</p><pre style="white-space:pre-wrap">{command}</pre>'


def _promoted(workdir: Path) -> str:
    paths = sorted(workdir.glob(f"promoted/*/seed-*/{records.FILE}"))
    grid = seeds.grid(records.load_records(paths)) if paths else None
    return grid.as_html() if grid else ""


def _name(trial: Trial) -> str:
    score = "" if trial.miou is None else f" mIoU {percent(trial.miou)} %"
    return f"{trial.run} {trial.state}{score}: {search.values_as_text(trial.values)}"


def _mark(trial: Trial, best: str, shares: Sequence[float | None], weight: float) -> charts.Mark:
    if trial.run == best:
        return charts.Mark(_name(trial), _BEST, shares, strong=True)
    return charts.Mark(_name(trial), _STYLES[trial.state], shares, weight=weight)


def _history(trials: Sequence[Trial], best: str, miou: charts.Axis) -> str:
    if not trials:
        return ""
    last = max(len(trials), 2)
    numbers = [1, *range(5, last - 2, 5), last]
    x = charts.Axis(
        "trial",
        lambda number: (number - 1) / (last - 1),
        [((n - 1) / (last - 1), str(n)) for n in numbers],
    )
    marks, stairs, highest = [], [], None
    for number, trial in enumerate(trials, 1):
        if trial.miou is None:
            continue
        share = miou.place(100 * trial.miou)
        marks.append(_mark(trial, best, (x.place(number), share), 0.9))
        if trial.state == "complete" and (highest is None or share > highest):
            highest = share
            stairs.append((x.place(number), share))
    if highest is not None:
        stairs.append((1.0, highest))
    return charts.scatter(marks, x, miou, stairs=stairs) + _key("dark line: the best so far")


def _key(more: str = "") -> str:
    names = {_STYLES["complete"]: "complete", _STYLES["pruned"]: "pruned (its last score)"}
    names[_BEST] = "the best"
    entries = "".join(
        f'<span><svg class="key chart" viewBox="0 0 24 8" style="width:24px;display:inline">'
        f'<g class="{style}"><circle cx="12" cy="4" r="4"/></g></svg>{name}</span>'
        for style, name in names.items()
    )
    return f'<p class="legend">{entries}{f"<span>{more}</span>" if more else ""}</p>'


def _axes(found: promote.Sweep) -> dict[str, charts.Axis]:
    return {path: _axis(path, field) for path, field in found.space.fields.items()}


def _axis(path: str, field: spaces.Distribution | spaces.When) -> charts.Axis:
    items = spaces.distributions(field)
    if any(isinstance(item, spaces.Choice) for item in items):
        options = [str(value) for item in items for value in item.grid()]
        axis = charts.choices(path, list(dict.fromkeys(options)))
        return axis._replace(place=lambda value: axis.place(str(value)))
    ends = [end for item in items for end in (item.grid()[0], item.grid()[-1])]
    if any(isinstance(item, spaces.LogUniform) for item in items) and min(ends) > 0:
        return charts.logarithmic(path, min(ends), max(ends))
    return charts.linear(path, ends)


def _shares(trial: Trial, axes: Mapping[str, charts.Axis]) -> list[float | None]:
    return [
        axis.place(trial.values[path]) if path in trial.values else None
        for path, axis in axes.items()
    ]


def _parallel(
    trials: Sequence[Trial], best: str, axes: Mapping[str, charts.Axis], miou: charts.Axis
) -> str:
    """Return one line for each scored trial; the better one is, the darker its line."""
    ranked = sorted((t for t in trials if t.miou is not None), key=lambda trial: trial.miou or 0.0)
    marks = []
    for rank, trial in enumerate(ranked, 1):
        shares = [*_shares(trial, axes), miou.place(100 * (trial.miou or 0.0))]
        marks.append(_mark(trial, best, shares, 0.15 + 0.75 * (rank / len(ranked)) ** 2))
    drawn = charts.parallel(marks, [*axes.values(), miou])
    aid = "A line is a trial; the darker, the higher its mIoU among all. Red: the best."
    if not drawn:
        return ""
    wide = f'<div class="scroll"><div style="min-width:40rem">{drawn}</div></div>'
    return f'{wide}<p class="soft">{aid}</p>'


def _slices(
    trials: Sequence[Trial], best: str, axes: Mapping[str, charts.Axis], miou: charts.Axis
) -> str:
    drawn = []
    for path, axis in axes.items():
        marks = [
            _mark(trial, best, (axis.place(trial.values[path]), miou.place(100 * trial.miou)), 0.8)
            for trial in trials
            if trial.miou is not None and path in trial.values
        ]
        if chart := charts.scatter(marks, axis, miou, width=300, height=200):
            drawn.append(f"<div>{chart}</div>")
    return f'<div class="multiples">{"".join(drawn)}</div>{_key()}' if drawn else ""


def _curves(trials: Sequence[Trial], best: str, curves: _Curves) -> str:
    """Return mIoU over the share of the schedule, the best trial's among those of its time."""
    known = {trial.run: trial for trial in trials}
    runs = [run for run in curves if run in known or len(known) < _MOST_CURVES]
    ranked = sorted(runs, key=lambda run: -max(curves[run].values()))[:_MOST_CURVES]
    if not ranked:
        return ""
    shares = sorted({share for run in ranked for share in curves[run]})
    scores = [100 * value for run in ranked for value in curves[run].values()]
    miou = charts.linear("mIoU, %", scores)
    x = charts.linear("share of the schedule, %", [0, 100])
    lines = []
    for run in ranked:
        state = known[run].state if run in known else "running"
        style = _BEST if run == best else _STYLES.get(state, "s3")
        points = [(x.place(at), miou.place(100 * curves[run][at])) for at in sorted(curves[run])]
        lines.append(charts.Line(f"{run} {state}", style, points, strong=run == best))
    more = f" The {_MOST_CURVES} best of {len(runs)} are drawn." if len(runs) > len(ranked) else ""
    aid = f"Grey: pruned. Scored at {', '.join(f'{share} %' for share in shares[:12])}.{more}"
    return charts.curves(lines, x, miou) + f'<p class="soft">{aid}</p>'


def _importances(found: promote.Sweep, curves: _Curves) -> str:
    share = importance.common_share(found.trials, curves)
    weights = importance.importances(found.space, found.trials, curves, share)
    if not weights:
        return ""
    body = "".join(
        f'<tr><td>{html.escape(path)}</td><td class="bar" style="--share:{100 * weight:.1f}%">'
        f"{100 * weight:.0f} %</td></tr>"
        for path, weight in weights.items()
    )
    at = f"mIoU at {share} % of the schedule, which all trials have" if share else "the final mIoU"
    return (
        '<div class="scroll"><table><thead><tr><th>field</th><th>importance</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        f'<p class="soft">PED-ANOVA of {at}: how far the values of the best trials are from those '
        "of all. It says what mattered within these ranges, not which value is best.</p>"
    )


def _table(found: promote.Sweep) -> str:
    paths = list(found.space.fields)
    columns = (
        Column("trial"), Column("state"), Column("mIoU, %", number=True),
        Column("time", number=True), *(Column(path) for path in paths), Column("error"),
    )  # fmt: skip
    ended = [
        (
            trial.run, trial.state, percent(trial.miou), duration(trial.seconds),
            *(_value(trial.values, path) for path in paths), trial.error or NONE,
        )
        for trial in found.trials
    ]  # fmt: skip
    running = [
        (name, "running", NONE, NONE, *(_value(values, path) for path in paths), NONE)
        for name, values, _ in found.running
    ]
    return Grid(columns, (*ended, *running)).as_html()


def _value(values: Mapping[str, Any], path: str) -> str:
    value = values.get(path, NONE)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _settings(found: promote.Sweep) -> str:
    settings = {
        name: str(found.settings[name])
        for name in ("sampler", "pruner", "repeats", "seed")
        if name in found.settings
    }
    fields = {path: str(field) for path, field in found.space.fields.items()}
    rows = tuple({**settings, **fields}.items())
    return Grid((Column("setting"), Column("value")), rows).as_html()
