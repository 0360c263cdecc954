"""`sweep status`, `sweep best` and `sweep promote`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from seg_jax import checks, progress
from seg_jax.cli.parsing import command, parse


@dataclasses.dataclass(frozen=True)
class Options:
    """Describe a sweep, or retrain its best settings.

    Attributes:
      verb: status: what ended and what runs; best: the best trial's command; promote: train the
        best settings on the whole training split.
      workdir: of the sweep.
      storage: of a sweep whose storage is not in its folder.
      best: promote: number of settings.
      seeds: promote: runs of each setting.
      val_split: promote: the split that they are scored on.
    """

    verb: tyro.conf.Positional[Literal["status", "best", "promote"]]
    workdir: tyro.conf.Positional[Path]
    storage: str = ""
    best: int = 1
    seeds: int = 3
    val_split: str = "val"


def run(args: Sequence[str]) -> None:
    """Describe a sweep, or retrain its best."""
    options = parse(Options, args, "sweep")
    checks.positive(best=options.best, seeds=options.seeds)
    from seg_jax.sweep import promote, search, storage

    if options.verb == "promote":
        from seg_jax import parallel

        parallel.enable_compilation_cache()
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
    for name, values, reported in found.running:
        last = max(reported, default=None)
        at = "" if last is None else f"{last:3d} %  mIoU {100 * reported[last]:.2f}"
        progress.show(f"  {name}  running   {at}  {search.values_as_text(values)}")
