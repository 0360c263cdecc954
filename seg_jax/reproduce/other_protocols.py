"""Finished runs of a suite under other protocols: its waterfall, and a dense CRF on and off."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seg_jax import papers
from seg_jax.evaluation.run import evaluate_run, file_name
from seg_jax.metrics import bootstrap
from seg_jax.report.interval_chart import Bar, Rise
from seg_jax.reproduce.plan import Run, Step
from seg_jax.results import Record, image_counts, load
from seg_jax.runs import folder


class Scored(NamedTuple):
    """A run under one protocol.

    Attributes:
      record: of it.
      counts: of its images, int64 [n 3 k].
    """

    record: Record
    counts: np.ndarray


def scored(run: Run, step: Step, command: str) -> Scored:
    """Return a finished run under a step's protocol, which is evaluated if it has no record yet.

    Args:
      run: finished, of the step's experiment.
      step: its `evaluation` says what differs from the run's own protocol.
      command: that asked for this, for a record that is made here.

    Raises:
      UserError: a record or its counts cannot be read, or there is no checkpoint.
    """
    path = run.record
    if step.evaluation:
        trained, _ = folder.read_config(run.folder)
        other = trained.with_evaluation(**step.evaluation)
        root = run.experiment.data.root
        path = run.folder / file_name(trained, other, run.split)
        if not (path.exists() and image_counts.path_of(path).exists()):
            evaluate_run(run.folder, split=run.split, root=root, experiment=other, command=command)
    record = load(path)
    return Scored(record, image_counts.load(image_counts.path_of(path), record).counts)


def with_crf(
    steps: Sequence[Step], runs: Sequence[Run], command: str
) -> list[tuple[Scored, Scored]]:
    """Return (without, with) a CRF for the steps whose runs are there, of the first seed."""
    known = _known(runs)
    return [
        (
            scored(known[step.experiment], step._replace(evaluation={}), command),
            scored(known[step.experiment], step, command),
        )
        for step in steps
        if step.experiment in known
    ]


def waterfall(
    steps: Sequence[Step], runs: Sequence[Run], command: str
) -> tuple[Bar, list[Rise]] | None:
    """Return a waterfall's first score and its changes: of the last steps whose runs are all there,
    as each says what changed since the one before. None: fewer than two.
    """
    known = _known(runs)
    done: list[Step] = []
    for step in steps:
        done = [*done, step] if step.experiment in known else []
    if len(done) < 2:
        return None
    counts = [scored(known[step.experiment], step, command).counts for step in done]
    scores = [bootstrap.interval([one]) for one in counts]
    rises = [
        Rise(
            step.title,
            scores[index].value,
            scores[index + 1].value,
            bootstrap.difference([counts[index + 1]], [counts[index]]),
        )
        for index, step in enumerate(done[1:])
    ]
    first, family = done[0], known[done[0].experiment].experiment.family
    name = first.title if first == steps[0] else papers.title(first.experiment, family)
    return Bar(name, scores[0]), rises


def _known(runs: Sequence[Run]) -> dict[str, Run]:
    return {run.experiment.name: run for run in runs if run.first}
