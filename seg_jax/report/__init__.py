"""From records to tables and pages."""

from collections.abc import Sequence
from pathlib import Path

from seg_jax import files
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
    files.write_text(out / "table.md", f"# {title}\n\n{text}\n")
    files.write_text(out / "report.html", html.render(found, title=title))
    return text
