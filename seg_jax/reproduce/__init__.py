"""Train and score every experiment of a suite, and compare them on one page."""

import time
from collections.abc import Sequence
from pathlib import Path

from seg_jax import checks, parallel, progress, report
from seg_jax.evaluation import evaluate
from seg_jax.evaluation.run import evaluate_run
from seg_jax.pretrained import warm_start
from seg_jax.reproduce import compare, plan, remarks
from seg_jax.reproduce import estimate as estimates
from seg_jax.reproduce.plan import Run
from seg_jax.runs import checkpoint
from seg_jax.train import loop


def reproduce(suite: str, workdir: Path, *, seeds: int = 1, root: Path | None = None) -> None:
    """Train and score every experiment of a suite, then write the table and the report.

    A run that is scored with the same configuration is reused; one that was interrupted goes on
    where it stopped. All experiments run with one seed before any runs with the next.

    Args:
      suite: name of the suite, e.g. "quick".
      workdir: receives a run folder for every experiment and seed, table.md and report.html; and
        comparison.html if the experiments differ in nothing but their networks.
      seeds: runs of each experiment.
      root: the data set's folder; None: the experiments'.

    Raises:
      UserError: the suite is unknown, weights to start from are not there, or a run in `workdir`
        has another configuration.
    """
    runs, steps = plan.runs(suite, workdir, seeds=seeds, root=root)
    command = f"python -m seg_jax reproduce {suite} --workdir {workdir}"
    command += f" --seeds {seeds}" if seeds > 1 else ""
    everything = [*runs, *steps]
    _check_weights(everything)
    parallel.prepare_process()
    started = time.monotonic()
    for index, run in enumerate(everything, 1):
        progress.show(f"\n[{index}/{len(everything)}] {run.folder.name}")
        if run.is_scored():
            progress.show(f"  reusing {run.record}")
            continue
        train_and_score(run, command, root)
    text = report.write(
        [run.folder for run in runs],
        workdir,
        title=f"Suite {suite}",
        remarks=remarks.remarks(runs),
    )
    progress.show(f"\n{text}")
    written = f"wrote {workdir / 'table.md'} and {workdir / 'report.html'}"
    if plan.is_controlled([run.experiment for run in runs if run.first]):
        page = compare.write(suite, runs, steps, workdir, command=command)
        written += f" and {page}"
    minutes = (time.monotonic() - started) / 60
    progress.show(f"\n{written} in {minutes:.1f} min")


def estimate(suite: str, workdir: Path, *, seeds: int = 1, root: Path | None = None) -> str:
    """Return how long `reproduce` will take on this machine, as text."""
    runs, steps = plan.runs(suite, workdir, seeds=seeds, root=root)
    parallel.prepare_process()
    found = estimates.estimate([*runs, *steps])
    others = [step for step in (*plan.refined(suite), *plan.waterfall(suite)) if step.evaluation]
    if found.seconds and others:
        also = f"; {len(others)} evaluations with a CRF or several scales are not counted"
        return found.as_text() + also
    return found.as_text()


def _check_weights(runs: Sequence[Run]) -> None:
    """Raise one UserError for all weights that the runs start from and lack."""
    problems: dict[str, None] = {}
    made: list[str] = []
    for run in runs:
        if not run.is_scored() and checkpoint.newest(run.folder) is None:
            try:
                warm_start.check(run.experiment, run.folder, made_before=tuple(made))
            except checks.UserError as error:
                problems[str(error)] = None
        made.append(run.experiment.name)
    if problems:
        raise checks.UserError("; ".join(problems))


def train_and_score(run: Run, command: str, root: Path | None) -> None:
    """Train one run of a suite, or go on with it, and write its records.

    Args:
      run: of `plan.runs`.
      command: that asked for this, for log and records.
      root: the data set's folder; None: the experiment's.
    """
    loop.fit(run.experiment, run.folder, evaluate=evaluate.intermediate, command=command)
    evaluate_run(run.folder, root=root, command=command)
    if run.split != run.experiment.data.val_split:
        evaluate_run(run.folder, split=run.split, root=root, command=command)


__all__ = ["estimate", "reproduce", "train_and_score"]
