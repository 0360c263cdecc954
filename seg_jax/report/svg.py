"""Line charts as inline SVG, without scripts or requests; the style sheet has the colours."""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

COLOURS = 10  # .s0 ... .s9 of the style sheet; further series repeat them dashed


class Series(NamedTuple):
    """A named curve through points (x, y); a y of None leaves a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]


def chart(
    series: Sequence[Series],
    *,
    x_title: str,
    y_title: str,
    x_ticks: Sequence[tuple[float, str]] = (),
    y_values: Sequence[float] = (),
    width: int = 640,
    height: int = 300,
) -> str:
    """Return an <svg> of several series on common axes, or "" if no series has a point.

    Args:
      series: drawn in order; hovering over a point shows its name and value.
      x_title: text below the x-axis.
      y_title: text above the y-axis.
      x_ticks: (x, label); empty: the smallest and the largest x.
      y_values: further values that the y-axis covers, so that several charts share one scale.
      width: of the drawing, in px; it shrinks with the page.
      height: of the drawing, in px.
    """
    drawn = [(x, y) for line in series for x, y in line.points if y is not None and _finite(y)]
    if not drawn:
        return ""
    left, right, top, bottom = 44, 20, 24, 36
    x_low, x_high = _extent([x for x, _ in drawn])
    y_ticks = nice_ticks([*(y for _, y in drawn), *y_values])
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = left + (x - x_low) / (x_high - x_low) * (width - left - right)
        down = top + (y_high - y) / (y_high - y_low) * (height - top - bottom)
        return round(across, 1), round(down, 1)

    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" style="max-width:{width}px" '
        f'role="img" aria-label="{html.escape(y_title)} over {html.escape(x_title)}">',
        _text(0, 12, y_title, "start"),
        _text(width - right, height - 4, x_title, "end"),
    ]
    for value in y_ticks:
        _, y = place(x_low, value)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y}" y2="{y}"/>')
        parts.append(_text(left - 6, y + 4, f"{value:g}", "end"))
    for x, label in x_ticks or [(x_low, f"{x_low:g}"), (x_high, f"{x_high:g}")]:
        parts.append(_text(place(x, y_low)[0], height - bottom + 16, label, "middle"))
    parts += [_line(line, index, place) for index, line in enumerate(series)]
    return "\n".join([*parts, "</svg>"])


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(text)}</text>'


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
    """Return a legend in HTML: each name with the line style that `chart` gives it."""
    entries = (
        f'<span><svg class="key" viewBox="0 0 24 8"><g class="s{index % COLOURS}'
        + (f" dash{index // COLOURS}" if index >= COLOURS else "")
        + f'"><path d="M0 4L24 4"/></g></svg>{html.escape(name)}</span>'
        for index, name in enumerate(names)
    )
    return f'<p class="legend">{" ".join(entries)}</p>'


def nice_ticks(values: Sequence[float]) -> list[float]:
    """Return three to seven round axis ticks that enclose the values.

    They are multiples of 1, 2 or 5 times a power of ten.
    """
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
