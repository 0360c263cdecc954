"""A table of text cells, rendered as Markdown or HTML; both escape the cells' text."""

import dataclasses
import html
import re
from collections.abc import Sequence

from seg_jax.checks import printable

NONE = "–"  # shown where there is no value


@dataclasses.dataclass(frozen=True)
class Column:
    """A column's heading, and whether its cells are numbers, which are right-aligned."""

    title: str
    number: bool = False


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table: its columns, and rows with one cell for each column."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row has {len(row)} cells for {len(self.columns)} columns")

    def as_markdown(self) -> str:
        """Return a GitHub table, padded so that it also reads well as plain text."""
        titles = [_markdown(column.title) for column in self.columns]
        body = [[_markdown(cell) for cell in row] for row in self.rows]
        widths = [max(3, *map(len, cells)) for cells in zip(titles, *body, strict=True)]
        rule = [
            "-" * (width - 1) + ":" if column.number else "-" * width
            for column, width in zip(self.columns, widths, strict=True)
        ]
        return "\n".join(self._line(cells, widths) for cells in (titles, rule, *body))

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        padded = (
            cell.rjust(width) if column.number else cell.ljust(width)
            for cell, width, column in zip(cells, widths, self.columns, strict=True)
        )
        return "| " + " | ".join(padded) + " |"

    def as_html(self) -> str:
        """Return a <table> in a box that scrolls sideways on a narrow screen."""
        head = "".join(
            f"<th{_kind(column)}>{html.escape(column.title)}</th>" for column in self.columns
        )
        body = "\n".join(
            "<tr>"
            + "".join(
                f"<td{_kind(column, cell)}>{html.escape(cell)}</td>"
                for column, cell in zip(self.columns, row, strict=True)
            )
            + "</tr>"
            for row in self.rows
        )
        return (
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody></table></div>"
        )


def _kind(column: Column, cell: str = "") -> str:
    """Return the cell's CSS class: numbers are right-aligned, long texts may wrap."""
    if column.number:
        return ' class="number"'
    return ' class="long"' if len(cell) > 40 else ""


def _markdown(cell: str) -> str:
    text = html.escape(printable(" ".join(cell.split())), quote=False)
    text = re.sub(r"([\\|*`\[\]])", r"\\\1", text)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # inside a word Markdown ignores it


def percent(value: float | None, *, digits: int = 1) -> str:
    """Format a fraction in percent: 0.6273 -> "62.7"."""
    return NONE if value is None else f"{100 * value:.{digits}f}"


def count(value: int) -> str:
    """Format a large count: 134346581 -> "134.3 M"."""
    for unit, name in ((10**6, " M"), (10**3, " k")):
        if value >= unit:
            return f"{value / unit:.1f}{name}"
    return str(value)


def duration(seconds: float | None) -> str:
    """Format a time in a suitable unit: 7325 -> "2.0 h"."""
    if seconds is None:
        return NONE
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit or (unit == 60 and seconds >= 60):
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"
