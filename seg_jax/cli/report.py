"""`report`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from seg_jax import checks, progress
from seg_jax.cli.parsing import parse
from seg_jax.data.colours import Palette


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Write one HTML page of evaluated runs: scores, curves, classes, confusions, images, origin.

    The page is one file without requests; it prints to A4. Runs on the same images are compared.

    Attributes:
      runs: run folders that `evaluate` has scored.
      out: the page; default: RUN/report.html of a single run, else report.html here.
      title: of the page; default: the runs' names.
      palette: colours of the classes in the pictures: voc; safe, which colour-blind readers can
        tell apart; auto: as the pictures were written.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path | None = None
    title: str = ""
    palette: Palette = "auto"


def report(args: Sequence[str]) -> None:
    """Write the page."""
    options = parse(ReportOptions, args, "report")
    if not options.runs:
        raise checks.UserError("report: name at least one run folder")
    from seg_jax import report

    out = options.out or (
        options.runs[0] / report.PAGE if len(options.runs) == 1 else Path(report.PAGE)
    )
    report.write_page(options.runs, out, title=options.title, palette=options.palette)
    progress.show(f"wrote {out}; open it in a browser: {out.resolve().as_uri()}")
