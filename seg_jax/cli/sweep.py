"""`sweep status`, `sweep best`, `sweep promote` and `sweep report`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from seg_jax import checks, progress
from seg_jax.cli.parsing import command, parse


@dataclasses.dataclass(frozen=True)
class Options:
    """Describe a sweep, draw it, or retrain its best settings.

    Attributes:
      verb: status: what ended and what runs; best: the best trial's command; promote: train the
        best settings on the whole training split; report: one HTML page with charts.
      workdir: of the sweep.
      storage: of a sweep whose storage is not in its folder.
      best: promote: number of settings.
      seeds: promote: runs of each setting.
      val_split: promote: the split that they are scored on.
      out: report: the page; default: WORKDIR/report.html.
    """

    verb: tyro.conf.Positional[Literal["status", "best", "promote", "report"]]
    workdir: tyro.conf.Positional[Path]
    storage: str = ""
    best: int = 1
    seeds: int = 3
    val_split: str = "val"
    out: Path | None = None


def run(args: Sequence[str]) -> None:
    """Describe a sweep, or retrain its best."""
    options = parse(Options, args, "sweep")
    checks.positive(best=options.best, seeds=options.seeds)
    from seg_jax.sweep import promote, report, search, storage, watch

    if options.verb == "report":
        out = options.out or options.workdir / report.PAGE
        report.write(options.workdir, out, url=options.storage)
        progress.show(f"wrote {out}; open it in a browser: {out.resolve().as_uri()}")
        return
    if options.verb == "promote":
        from seg_jax import parallel

        parallel.prepare_process()
        found = promote.promote(
            options.workdir,
            best=options.best,
            seeds=options.seeds,
            val_split=options.val_split,
            url=options.storage,
            command=storage.without_password(command("sweep", *args)),
        )
        progress.show(promote.as_text(found))
        return
    found = promote.read(options.workdir, options.storage)
    outcome = search.outcome(found.trials, found.experiment)
    if options.verb == "best":
        if outcome.best is None:
            raise checks.UserError(f"{options.workdir}: no trial is complete")
        progress.show(outcome.command)
        return
    progress.show(search.as_text(outcome))
    for trial in found.running:
        progress.show(watch.running_line(options.workdir, *trial))
