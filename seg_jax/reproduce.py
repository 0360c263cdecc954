"""Train and score: every experiment of a suite, or a trial of a sweep."""

import time
from pathlib import Path

from seg_jax import checks, config, experiment, parallel, progress, report, results
from seg_jax.evaluation import evaluate
from seg_jax.evaluation.run import evaluate_run
from seg_jax.pretrained import warm_start
from seg_jax.runs import checkpoint
from seg_jax.train import loop


def reproduce(suite: str, workdir: Path) -> None:
    """Train and score every experiment of a suite, then write the table and the report.

    A run that is scored with the same configuration is reused; one that was interrupted goes on
    where it stopped.

    Args:
      suite: name of the suite, e.g. "quick".
      workdir: receives a run folder for every experiment, table.md and report.html.

    Raises:
      UserError: the suite is unknown, or a run in `workdir` has another configuration.
    """
    names = experiment.suite(suite)
    command = f"python -m seg_jax reproduce {suite} --workdir {workdir}"
    _check_weights(names, workdir)
    parallel.enable_compilation_cache()
    started = time.monotonic()
    for index, name in enumerate(names, 1):
        chosen, run = experiment.get(name), workdir / name
        progress.show(f"\n[{index}/{len(names)}] {name}")
        if _is_scored(run, chosen):
            progress.show(f"  reusing {run / 'result.json'}")
            continue
        loop.fit(chosen, run, evaluate=evaluate.intermediate, command=command)
        evaluate_run(run, command=command)
    runs = [workdir / name for name in names]
    progress.show("\n" + report.write(runs, workdir, title=f"Suite {suite}"))
    minutes = (time.monotonic() - started) / 60
    written = f"{workdir / 'table.md'} and {workdir / 'report.html'}"
    progress.show(f"\nwrote {written} in {minutes:.1f} min")


def _check_weights(names: tuple[str, ...], workdir: Path) -> None:
    """Raise one UserError for all weights that a suite's experiments start from and lack."""
    problems = []
    for index, name in enumerate(names):
        chosen, run = experiment.get(name), workdir / name
        if _is_scored(run, chosen) or checkpoint.newest(run) is not None:
            continue
        try:
            warm_start.check(chosen, run, made_before=names[:index])
        except checks.UserError as error:
            problems.append(str(error))
    if problems:
        raise checks.UserError("; ".join(problems))


def _is_scored(run: Path, chosen: experiment.Experiment) -> bool:
    """Whether the run has a record of this configuration."""
    if not (run / "result.json").exists():
        return False
    return config.from_dict(results.load(run).config) == chosen
