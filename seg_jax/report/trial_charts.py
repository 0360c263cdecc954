"""Charts of trials over their settings as inline SVG: dots over one axis, lines over many."""

import html
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from seg_jax.report import svg

NOT_VARIED = "–"  # the tick of a setting that a trial does not have
_BELOW = -0.12  # its place, in shares of the axis


class Axis(NamedTuple):
    """An axis: 0 is its low end, 1 its high end.

    Attributes:
      title: plain text.
      place: share of the axis at which a value lies.
      ticks: (share, label).
    """

    title: str
    place: Callable[[Any], float]
    ticks: Sequence[tuple[float, str]]


class Mark(NamedTuple):
    """A trial in a chart.

    Attributes:
      name: shown when the pointer rests on it.
      style: class of the style sheet, s0 to s9.
      shares: of each axis; None: it has no value there.
      strong: drawn on top of all, larger.
      weight: opacity of the others, 0 to 1.
    """

    name: str
    style: str
    shares: Sequence[float | None]
    strong: bool = False
    weight: float = 1.0


class Line(NamedTuple):
    """A curve of a trial: name, class of the style sheet, points as shares of x and y; a strong one
    is drawn on top of all, thicker.
    """

    name: str
    style: str
    points: Sequence[tuple[float, float]]
    strong: bool = False


def linear(title: str, values: Sequence[float]) -> Axis:
    """Return an axis with round ticks that encloses the values."""
    ticks = svg.nice_ticks(values)
    low, high = ticks[0], ticks[-1]

    def place(value: float) -> float:
        return (value - low) / (high - low)

    return Axis(title, place, [(place(tick), f"{tick:g}") for tick in ticks])


def logarithmic(title: str, low: float, high: float) -> Axis:
    """Return an axis from low > 0 to high on which equal ratios have equal distances."""
    bottom, span = math.log10(low), math.log10(high / low)

    def place(value: float) -> float:
        return (math.log10(value) - bottom) / span

    powers = [
        10.0**n for n in range(math.ceil(bottom - 1e-9), math.floor(bottom + span + 1e-9) + 1)
    ]
    while len(powers) > 6:
        powers = powers[::2]
    if len(powers) < 2:  # within a power of ten: the ends say more
        powers = [low, high]
    return Axis(title, place, [(place(power), f"{power:.3g}") for power in powers])


def choices(title: str, options: Sequence[str]) -> Axis:
    """Return an axis of options at equal distances."""
    shares = {option: (n + 0.5) / len(options) for n, option in enumerate(options)}
    return Axis(title, shares.__getitem__, [(shares[option], option) for option in options])


def scatter(
    marks: Sequence[Mark],
    x: Axis,
    y: Axis,
    *,
    stairs: Sequence[tuple[float, float]] = (),
    width: int = 640,
    height: int = 300,
) -> str:
    """Return an <svg> with a dot for each mark that has both shares; "" without one.

    Args:
      marks: with their shares of x and y.
      x, y: the axes.
      stairs: shares of x and y of a line that rises in steps, drawn below the dots.
      width, height: in px; the drawing shrinks with the page.
    """
    shown = [mark for mark in marks if None not in mark.shares]
    if not shown:
        return ""
    at, parts = _frame(x, y, width, height)
    if stairs:
        corners = [at(*corner) for corner in stairs]
        path = "".join(f"H{c}V{r}" if n else f"M{c} {r}" for n, (c, r) in enumerate(corners))
        parts.append(f'<g class="s2"><path d="{path}"/></g>')
    for mark in sorted(shown, key=lambda mark: mark.strong):
        column, row = at(*(float(share or 0.0) for share in mark.shares))
        parts.append(
            f'<g class="{mark.style}"><title>{html.escape(mark.name)}</title><circle cx="{column}" '
            f'cy="{row}" r="{6 if mark.strong else 4}" opacity="{mark.weight:g}"/></g>'
        )
    return "\n".join([*parts, "</svg>"])


def curves(lines: Sequence[Line], x: Axis, y: Axis, *, width: int = 640, height: int = 300) -> str:
    """Return an <svg> with a line through the points of each; "" without one."""
    if not lines:
        return ""
    at, parts = _frame(x, y, width, height)
    for line in sorted(lines, key=lambda line: line.strong):
        points = [at(*point) for point in line.points]
        path = "".join(f"{'L' if n else 'M'}{c} {r}" for n, (c, r) in enumerate(points))
        dots = "".join(f'<circle cx="{c}" cy="{r}" r="2.5"/>' for c, r in points)
        thick = ' style="stroke-width:3"' if line.strong else ' opacity="0.6"'
        parts.append(
            f'<g class="{line.style}"><title>{html.escape(line.name)}</title>'
            f'<path d="{path}"{thick}/>{dots}</g>'
        )
    return "\n".join([*parts, "</svg>"])


def _frame(
    x: Axis, y: Axis, width: int, height: int
) -> tuple[Callable[[float, float], tuple[float, float]], list[str]]:
    """Return the map from shares of x and y to px, and the drawing's beginning with its axes."""
    left, right, top, bottom = 44, 20, 24, 40
    across, down = width - left - right, height - top - bottom

    def at(x_share: float, y_share: float) -> tuple[float, float]:
        return round(left + x_share * across, 1), round(top + (1 - y_share) * down, 1)

    parts = [_open(width, height, f"{y.title} over {x.title}"), _text(0, 12, y.title, "start")]
    parts.append(_text(width - right, height - 4, x.title, "end"))
    for share, label in y.ticks:
        row = at(0, share)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{row}" y2="{row}"/>')
        parts.append(_text(left - 6, row + 4, label, "end"))
    parts += [
        _text(at(share, 0)[0], height - bottom + 16, text, "middle") for share, text in x.ticks
    ]
    return at, parts


def parallel(marks: Sequence[Mark], axes: Sequence[Axis], *, width: int = 960) -> str:
    """Return an <svg> of parallel coordinates: a line for each mark over all axes.

    Args:
      marks: with a share, or None, for each axis.
      axes: from left to right.
      width: in px; the drawing shrinks with the page.
    """
    if not marks or len(axes) < 2:
        return ""
    height, left, right, top = 340, 64, 64, 40
    missing = any(share is None for mark in marks for share in mark.shares)
    bottom = 46 if missing else 20
    down = height - top - bottom
    columns = [
        round(left + n * (width - left - right) / (len(axes) - 1), 1) for n in range(len(axes))
    ]

    def row(share: float | None) -> float:
        return round(top + (1 - (_BELOW if share is None else share)) * down, 1)

    parts = [_open(width, height, f"trials over {', '.join(axis.title for axis in axes)}")]
    for mark in sorted(marks, key=lambda mark: (mark.strong, mark.weight)):
        path = "".join(
            f"{'L' if n else 'M'}{column} {row(share)}"
            for n, (column, share) in enumerate(zip(columns, mark.shares, strict=True))
        )
        thick = ' style="stroke-width:3"' if mark.strong else ""
        parts.append(
            f'<g class="{mark.style}" opacity="{mark.weight:g}">'
            f'<title>{html.escape(mark.name)}</title><path d="{path}"{thick}/></g>'
        )
    for n, (column, axis) in enumerate(zip(columns, axes, strict=True)):
        last = n == len(axes) - 1
        anchor = "start" if n == 0 else "end" if last else "middle"
        edge = 0 if n == 0 else width if last else column
        parts.append(_text(edge, 14 if n % 2 == 0 else 28, axis.title, anchor))
        parts.append(
            f'<line class="grid" x1="{column}" x2="{column}" y1="{row(1)}" y2="{row(0)}"/>'
        )
        side, shift = ("end", -6) if n == 0 else ("start", 6)
        parts += [_text(column + shift, row(share) + 4, text, side) for share, text in axis.ticks]
        if missing:
            parts.append(_text(column + shift, row(None) + 4, NOT_VARIED, side))
    return "\n".join([*parts, "</svg>"])


def _open(width: int, height: int, label: str) -> str:
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'style="max-width:{width}px" role="img" aria-label="{html.escape(label)}">'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(text)}</text>'
