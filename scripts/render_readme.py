"""Rewrite the generated sections of the pages from committed records and published figures."""

import json
from collections.abc import Callable
from pathlib import Path

from seg_jax.report import crf_table, front_table, rows, speed, table

ROOT = Path(__file__).parents[1]


def _front() -> str:
    return front_table.front_grid(
        rows.committed_records(), front_table.quick_records()
    ).as_markdown()


def _speed() -> str:
    folder = ROOT / "experiments" / "benchmarks"
    forward, step = (folder / job / "cpu_float32.json" for job in ("forward", "step"))
    return speed.sentence(json.loads(forward.read_text()), json.loads(step.read_text()))


# Page, the markers around what is generated there, and the function that renders it.
SECTIONS: tuple[tuple[str, tuple[str, str], Callable[[], str]], ...] = (
    ("README.md", front_table.MARKERS, _front),
    ("README.md", speed.MARKERS, _speed),
    (
        "docs/results.md",
        (table.BEGIN, table.END),
        lambda: table.networks_markdown(rows.committed_records()),
    ),
    (
        "seg_jax/kernels/crf/README.md",
        crf_table.MARKERS,
        lambda: crf_table.markdown(crf_table.committed()),
    ),
)

if __name__ == "__main__":
    for page, markers, render in SECTIONS:
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        path.write_text(table.write_section(text, markers, render()), encoding="utf-8")
