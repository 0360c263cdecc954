"""How long a suite will take on this machine, before it starts.

Training steps are measured: in the log of a run of the suite if there is one, else in a few steps
of the first. The others' are scaled by their networks' multiply-adds, and an evaluation by the
pixels of its images, at a third of a training step's time for each (forward only).
"""

import dataclasses
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from seg_jax import data
from seg_jax.analysis import overview
from seg_jax.experiment import Experiment
from seg_jax.report.grid import Column, Grid, duration
from seg_jax.reproduce.plan import Run
from seg_jax.runs import log
from seg_jax.train import loop

_STEPS = 6  # that are trained to measure one
_FORWARD = 1 / 3  # of the operations of a training step


class Estimate(NamedTuple):
    """Of the runs that are still to do.

    Attributes:
      seconds: by run, of training and evaluations.
      source: what was measured.
    """

    seconds: dict[str, float]
    source: str

    def as_text(self) -> str:
        """Return a table of the runs, and their sum."""
        if not self.seconds:
            return self.source
        rows = tuple((name, duration(value)) for name, value in self.seconds.items())
        grid = Grid((Column("run"), Column("about", number=True)), rows).as_markdown()
        return f"{grid}\n\nabout {duration(sum(self.seconds.values()))} in all; {self.source}"


def estimate(runs: Sequence[Run]) -> Estimate:
    """Estimate the runs that are not yet scored; a half trained one has only the rest to do."""
    missing = [run for run in runs if not run.is_scored()]
    if not missing:
        return Estimate({}, "nothing is left to do")
    measured, step, source = _measure(runs, missing[0])
    per_operation = step / _operations(measured)
    seconds = {}
    for run in missing:
        train = run.experiment.train
        one = per_operation * _operations(run.experiment)
        left = max(0, train.steps - int(log.last(run.folder, "train").get("step", 0)))
        images = _images(run)
        evaluations = 1 + (train.steps // train.evaluate_every if train.evaluate_every else 0)
        scored = images * (evaluations + 1) * _pixels(run)
        forward = _FORWARD * one / train.batch_size
        seconds[run.folder.name] = left * one + scored * forward
    return Estimate(seconds, source)


def _measure(runs: Sequence[Run], first: Run) -> tuple[Experiment, float, str]:
    """Return an experiment, the seconds of one of its steps, and how that is known."""
    for run in runs:
        steps = _step_seconds(run.folder)
        if len(steps) > 1:
            found = statistics.median(steps)
            return run.experiment, found, f"{found:.2f} s a step in the log of {run.folder.name}"
    train = dataclasses.replace(
        first.experiment.train, steps=_STEPS, log_every=1, evaluate_every=0, init=""
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "measured"
        loop.fit(dataclasses.replace(first.experiment, train=train), run, command="estimate")
        found = statistics.median(_step_seconds(run))
    name = first.experiment.name
    return first.experiment, found, f"{found:.2f} s a step, measured in {_STEPS} of {name}"


def _step_seconds(run: Path) -> list[float]:
    """Return the seconds of a step in every line of a run's log that has them."""
    found = (line.get("step_seconds") for line in log.read(run) if line["kind"] == "train")
    return [float(value) for value in found if isinstance(value, int | float)]


def _operations(chosen: Experiment) -> float:
    return overview.analyse_experiment(chosen).multiply_adds * chosen.train.batch_size


def _images(run: Run) -> int:
    return len(data.open_configured(run.experiment.data, run.split))


def _pixels(run: Run) -> float:
    """Return how many crops' pixels an evaluated image has."""
    where = run.experiment.data
    source = data.open_configured(where, run.split)
    (height, width), (down, across) = source.size(0), where.augmentation.crop
    return height * width / (down * across)
