"""From records to tables and pages."""

import os
from collections.abc import Sequence
from pathlib import Path

from seg_jax.report import html, table
from seg_jax.report.pictures import Run
from seg_jax.results import load


def write(runs: Sequence[Path], out: Path, *, title: str = "seg_jax") -> str:
    """Write table.md and report.html of the runs; return the table.

    Args:
      runs: run folders that have been evaluated.
      out: folder that receives both files.
      title: of the page.

    Raises:
      UserError: a run has no record, or a file of it cannot be read.
    """
    found = [Run(Path(folder), load(folder)) for folder in runs]
    text = table.measurements_markdown([run.record for run in found])
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "table.md", f"# {title}\n\n{text}\n")
    _write(out / "report.html", html.render(found, title=title))
    return text


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
