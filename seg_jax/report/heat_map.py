"""Heat maps as a standalone SVG file: panels of coloured cells with their values."""

import html
import math
from collections.abc import Sequence

_STOPS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))  # viridis
_CELL = (52, 26)  # width and height of a cell, px
_MARGIN = (70, 46)  # space left of and above a panel's cells


def heat_map(
    panels: Sequence[tuple[str, Sequence[Sequence[float]]]],
    *,
    x_title: str,
    y_title: str,
    x_labels: Sequence[str],
    y_labels: Sequence[str],
    title: str,
    note: str = "",
) -> str:
    """Return an SVG of panels, one below the other, on one colour scale.

    The highest value of all panels is framed.

    Args:
      panels: title and len(y_labels) rows of len(x_labels) values each; NaN: no value.
      x_title: of the horizontal axis.
      y_title: of the vertical axis.
      x_labels: one for each column.
      y_labels: one for each row.
      title: of the whole drawing.
      note: smaller, below the title: run, data and protocol.
    """
    known = [v for _, rows in panels for row in rows for v in row if math.isfinite(v)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    (across, down), (left, above) = _CELL, _MARGIN
    panel_height = above + down * len(y_labels) + 40
    width = max(left + across * len(x_labels) + 20, 8 * len(title), 6 * len(note) + 20)
    head = 48 if note else 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} '
        f'{head + panel_height * len(panels)}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(10, 20, title, "start", weight="bold"),
        *([_text(10, 38, note, "start")] if note else []),
    ]
    framed = False
    for index, (name, rows) in enumerate(panels):
        top = head + panel_height * index + above
        parts.append(_text(left, top - 26, name, "start", weight="bold"))
        parts.append(_text(10, top - 8, y_title, "start"))
        bottom = top + down * len(y_labels)
        parts.append(_text(left + across * len(x_labels), bottom + 32, x_title, "end"))
        for column, label in enumerate(x_labels):
            parts.append(_text(left + across * (column + 0.5), bottom + 16, label, "middle"))
        for row, (label, values) in enumerate(zip(y_labels, rows, strict=True)):
            parts.append(_text(left - 8, top + down * (row + 0.5) + 4, label, "end"))
            for column, value in enumerate(values):
                best = value == high and not framed
                framed |= best
                share = (value - low) / (high - low) if high > low else 0.5
                parts += _cell(left + across * column, top + down * row, value, share, best)
    return "\n".join([*parts, "</svg>\n"])


def _cell(x: float, y: float, value: float, share: float, best: bool) -> list[str]:
    """Return a coloured rectangle and its value as text."""
    across, down = _CELL
    if not math.isfinite(value):
        return [_text(x + across / 2, y + down / 2 + 4, "–", "middle")]
    at = share * (len(_STOPS) - 1)
    lower = min(int(at), len(_STOPS) - 2)
    pair = zip(_STOPS[lower], _STOPS[lower + 1], strict=True)
    colour = [round(a + (b - a) * (at - lower)) for a, b in pair]
    frame = ' stroke="red" stroke-width="3"' if best else ""
    return [
        f'<rect x="{x + 2:g}" y="{y + 2:g}" width="{across - 4}" height="{down - 4}" '
        f'fill="rgb({colour[0]},{colour[1]},{colour[2]})"{frame}/>',
        _text(
            x + across / 2, y + down / 2 + 4, f"{value:.2f}", "middle",
            fill="black" if share > 0.6 else "white",
        ),
    ]  # fmt: skip


def _text(
    x: float, y: float, text: str, anchor: str, *, fill: str = "black", weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{fill}" font-weight="{weight}">'
        f"{html.escape(text)}</text>"
    )
