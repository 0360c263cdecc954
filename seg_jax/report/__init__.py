"""Tables and HTML pages of evaluation results."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from seg_jax import files
from seg_jax.report import html, table
from seg_jax.report.images import Run
from seg_jax.results import load

PAGE = "report.html"


def write(
    runs: Sequence[Path], out: Path, *, title: str = "seg_jax", remarks: Sequence[str] = ()
) -> str:
    """Write table.md and report.html for some runs; return the table as Markdown.

    Args:
      runs: run folders that have been evaluated.
      out: folder that receives both files.
      title: of both, plain text.
      remarks: sentences on what to see in the table, plain text; both have them below it.

    Raises:
      UserError: a run has no record, or a file of it cannot be read.
    """
    found = [Run(Path(folder), load(folder)) for folder in runs]
    text = table.measurements_markdown([run.record for run in found])
    if remarks:
        text += "\n\nWhat to see:\n\n" + "\n".join(map(_item, remarks))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    files.write_text(out / "table.md", f"# {title}\n\n{text}\n")
    files.write_text(out / PAGE, html.render(found, title=title, remarks=remarks))
    return text


def _item(sentence: str) -> str:
    return textwrap.fill(f"- {sentence}", 100, subsequent_indent="  ", break_on_hyphens=False)


def write_page(runs: Sequence[Path], out: Path, *, title: str = "", palette: str = "auto") -> None:
    """Write the page of some runs.

    Args:
      runs: run folders that have been evaluated.
      out: the HTML file.
      title: of the page; empty: the runs' names.
      palette: "auto": the images' own colours; otherwise see `data.colours.of`.

    Raises:
      UserError: a run has no record, or a file of it cannot be read.
    """
    found = [Run(Path(folder), load(folder)) for folder in runs]
    title = title or ", ".join(dict.fromkeys(run.record.run for run in found))
    files.write_text(Path(out), html.render(found, title=title, palette=palette))
