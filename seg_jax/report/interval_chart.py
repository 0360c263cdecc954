"""Scores with their intervals, and the steps from one score to a better one, as inline SVG."""

import html
from collections.abc import Sequence
from typing import NamedTuple

from seg_jax.metrics.bootstrap import Interval
from seg_jax.report import svg

_LABEL, _ROW, _RIGHT = 230, 26, 70  # px: names on the left, height of a row, values on the right


class Bar(NamedTuple):
    """A row of a chart.

    Attributes:
      name: plain text.
      interval: shares of 1.
      points: further values, of single runs.
    """

    name: str
    interval: Interval
    points: Sequence[float] = ()


class Rise(NamedTuple):
    """A step of a waterfall.

    Attributes:
      name: of what changed, plain text.
      before, after: scores, shares of 1.
      change: with its interval, of their difference.
    """

    name: str
    before: float
    after: float
    change: Interval


def intervals(bars: Sequence[Bar], *, title: str, width: int = 760) -> str:
    """Return an <svg> with a row for each score: its interval as a line, the score as a dot, single
    runs as ticks; "" without bars. Numbers are shown in percent.
    """
    if not bars:
        return ""
    values = [
        100 * value for bar in bars for value in (bar.interval.low, bar.interval.high, *bar.points)
    ]
    place, parts = _axis(values, len(bars), title, width)
    for row, bar in enumerate(bars):
        y = 34 + _ROW * row
        low, middle, high = (
            place(100 * value)
            for value in (bar.interval.low, bar.interval.value, bar.interval.high)
        )
        numbers = f"{100 * bar.interval.low:.1f} to {100 * bar.interval.high:.1f}"
        ticks = "".join(
            f"M{place(100 * value)} {y - 6}v12" for value in bar.points if len(bar.points) > 1
        )
        parts += [
            _text(_LABEL - 8, y + 4, bar.name, "end"),
            f'<g class="s0"><title>{html.escape(bar.name)}: {100 * bar.interval.value:.1f}, '
            f'{numbers}</title><path d="M{low} {y}L{high} {y}{ticks}"/>'
            f'<circle cx="{middle}" cy="{y}" r="4"/></g>',
            _text(width - 4, y + 4, f"{100 * bar.interval.value:.1f}", "end"),
        ]
    return "\n".join([*parts, "</svg>"])


def waterfall(start: Bar, rises: Sequence[Rise], *, title: str, width: int = 760) -> str:
    """Return an <svg> of the steps from a first score to a last: each from the score before to the
    score after, with the interval of the change around its end.
    """
    values = [100 * start.interval.value]
    for rise in rises:
        values += [100 * (rise.before + rise.change.low), 100 * (rise.before + rise.change.high)]
        values += [100 * rise.before, 100 * rise.after]
    place, parts = _axis(values, len(rises) + 1, title, width)
    y, x = 34, place(100 * start.interval.value)
    parts += [
        _text(_LABEL - 8, y + 4, start.name, "end"),
        f'<g class="s0"><circle cx="{x}" cy="{y}" r="4"/></g>',
        _text(width - 4, y + 4, f"{100 * start.interval.value:.1f}", "end"),
    ]
    for row, rise in enumerate(rises, 1):
        y = 34 + _ROW * row
        before, after = place(100 * rise.before), place(100 * rise.after)
        low = place(100 * (rise.before + rise.change.low))
        high = place(100 * (rise.before + rise.change.high))
        colour = "s2" if rise.change.low > 0 else "s1" if rise.change.high < 0 else "s6"
        numbers = f"{100 * rise.change.low:+.1f} to {100 * rise.change.high:+.1f}"
        parts += [
            _text(_LABEL - 8, y + 4, rise.name, "end"),
            f'<g class="{colour}"><title>{html.escape(rise.name)}: '
            f"{100 * rise.change.value:+.1f}, {numbers}</title>"
            f'<path d="M{before} {y - _ROW}V{y}" style="stroke-width:1;stroke-dasharray:2 2"/>'
            f'<path d="M{before} {y}H{after}" style="stroke-width:12;opacity:.45"/>'
            f'<path d="M{low} {y}H{high}M{low} {y - 4}v8M{high} {y - 4}v8"/></g>',
            _text(width - 4, y + 4, f"{100 * rise.change.value:+.1f}", "end"),
        ]
    return "\n".join([*parts, "</svg>"])


def _axis(values: Sequence[float], rows: int, title: str, width: int):
    """Return the map from percent to x in px, and the drawing's beginning with its grid."""
    ticks = svg.nice_ticks(values)
    left, right = _LABEL, width - _RIGHT

    def place(value: float) -> float:
        return round(left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (right - left), 1)

    bottom = 34 + _ROW * rows - 8
    parts = [
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} '
        f'{bottom + 22}" style="max-width:{width}px" role="img" '
        f'aria-label="{html.escape(title)}">',
        _text(left, 12, title, "start"),
    ]
    for value in ticks:
        x = place(value)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="20" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 16, f"{value:g}", "middle"))
    return place, parts


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(text)}</text>'
