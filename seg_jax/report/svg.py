"""Line charts as inline SVG: no script, no request, colours from the page's style sheet."""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

COLOURS = 10  # the style sheet's .s0 ... .s9; further series repeat them with dashes


class Series(NamedTuple):
    """A named line through points (x, y); y None is a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]


def chart(
    series: Sequence[Series],
    *,
    x_title: str,
    y_title: str,
    x_ticks: Sequence[tuple[float, str]] = (),
    width: int = 640,
    height: int = 300,
) -> str:
    """Return an <svg> of the series over common axes.

    Args:
      series: drawn in order; a point shows its name and value when pointed at.
      x_title: below the axis.
      y_title: above it.
      x_ticks: (x, label); none: the smallest and the largest x.
      width: of the drawing, in px; it shrinks with the page.
      height: of the drawing, in px.
    """
    drawn = [(x, y) for line in series for x, y in line.points if _finite(y)]
    if not drawn:
        return ""
    left, right, top, bottom = 44, 12, 24, 36
    (x_low, x_high), y_values = _extent([x for x, _ in drawn]), nice_ticks([y for _, y in drawn])
    y_low, y_high = y_values[0], y_values[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = left + (x - x_low) / (x_high - x_low) * (width - left - right)
        down = top + (y_high - y) / (y_high - y_low) * (height - top - bottom)
        return round(across, 1), round(down, 1)

    corner = f'x="{width - right}" y="{height - 4}" text-anchor="end"'
    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" style="max-width:{width}px" '
        f'role="img" aria-label="{html.escape(y_title)} over {html.escape(x_title)}">',
        f'<text x="0" y="12">{html.escape(y_title)}</text>',
        f"<text {corner}>{html.escape(x_title)}</text>",
    ]
    for value in y_values:
        _, y = place(x_low, value)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    for x, label in x_ticks or [(x, f"{x:g}") for x in dict.fromkeys((x_low, x_high))]:
        across, _ = place(x, y_low)
        down = height - bottom + 16
        anchor = "start" if x == x_low and not x_ticks else "middle"
        parts.append(
            f'<text x="{across}" y="{down}" text-anchor="{anchor}">{html.escape(label)}</text>'
        )
    for index, line in enumerate(series):
        parts.append(_line(line, index, place))
    return "\n".join([*parts, "</svg>"])


def _line(line: Series, index: int, place) -> str:
    known = [(*place(x, y), y) for x, y in line.points if _finite(y)]
    path, gap = [], True
    for x, y in line.points:
        if not _finite(y):
            gap = True
            continue
        across, down = place(x, y)
        path.append(f"{'M' if gap else 'L'}{across} {down}")
        gap = False
    style = f"s{index % COLOURS}" + (f" dash{index // COLOURS}" if index >= COLOURS else "")
    name = html.escape(line.name)
    dots = ""
    if len(known) <= 20:
        dots = "".join(
            f'<circle cx="{across}" cy="{down}" r="3"><title>{name}: {y:.4g}</title></circle>'
            for across, down, y in known
        )
    return f'<g class="{style}"><title>{name}</title><path d="{"".join(path)}"/>{dots}</g>'


def legend(names: Sequence[str]) -> str:
    """Return the names with the strokes that `chart` gives to series of that order."""
    entries = (
        f'<span><svg class="key" viewBox="0 0 24 8"><g class="s{index % COLOURS}'
        + (f" dash{index // COLOURS}" if index >= COLOURS else "")
        + f'"><path d="M0 4L24 4"/></g></svg>{html.escape(name)}</span>'
        for index, name in enumerate(names)
    )
    return f'<p class="legend">{" ".join(entries)}</p>'


def nice_ticks(values: Sequence[float]) -> list[float]:
    """Return three to seven multiples of 1, 2 or 5 times a power of ten that enclose the values."""
    low, high = _extent(values)
    step = 10.0 ** math.floor(math.log10(high - low))
    while (high - low) / step > 5:
        step *= 2 if f"{step:e}"[0] in "15" else 2.5
    while (high - low) / step < 2:
        step /= 2.5 if f"{step:e}"[0] == "5" else 2
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _extent(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low < high:
        return low, high
    margin = abs(low) / 2 or 1.0
    return low - margin, high + margin


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
