"""Run a suite: train, evaluate and tabulate every experiment of it, reusing what is done."""

import time
from pathlib import Path

from seg_jax import config, evaluate, experiment, report, results, train
from seg_jax.results.run import evaluate_run


def reproduce(suite: str, workdir: Path) -> None:
    """Train and evaluate every experiment of a suite, then write the table and the report.

    A run that is finished and scored with the same configuration is reused; one that was
    interrupted goes on where it stopped.

    Args:
      suite: name of the suite, e.g. "quick".
      workdir: receives a run folder for every experiment, table.md and report.html.

    Raises:
      UserError: the suite is unknown, or a run in `workdir` has another configuration.
    """
    names = experiment.suite(suite)
    command = f"python -m seg_jax reproduce {suite} --workdir {workdir}"
    started = time.monotonic()
    for index, name in enumerate(names, 1):
        chosen = experiment.get(name)
        run = workdir / name
        print(f"\n[{index}/{len(names)}] {name}", flush=True)
        if _is_scored(run, chosen):
            print(f"reusing {run / 'result.json'}")
            continue
        train.fit(chosen, run, evaluate=evaluate.intermediate, command=command)
        evaluate_run(run, command=command)
    print()
    print(report.write([workdir / name for name in names], workdir))
    minutes = (time.monotonic() - started) / 60
    print(f"\n{workdir / 'table.md'} and {workdir / 'report.html'} ({minutes:.1f} min)")


def _is_scored(run: Path, chosen: experiment.Experiment) -> bool:
    record = results.load(run / "result.json") if (run / "result.json").exists() else None
    return record is not None and record.digest == config.digest(chosen)
