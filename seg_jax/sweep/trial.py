"""One trial of a sweep: an ordinary run with an ordinary record."""

from collections.abc import Callable
from pathlib import Path

from seg_jax import experiment
from seg_jax.evaluation import evaluate
from seg_jax.evaluation.run import evaluate_run
from seg_jax.sweep.search import RunTrial
from seg_jax.train import loop


def run_trial(command: str) -> RunTrial:
    """Return what a sweep does with each trial: an ordinary run with an ordinary record.

    Args:
      command: that asked for the sweep, for log and record.
    """

    def run(chosen: experiment.Experiment, folder: Path, report_score: Callable) -> float:
        def evaluate_and_report(chosen, variables, step):
            scores = evaluate.intermediate(chosen, variables, step)
            if step:  # not of the weights that the trial starts from
                report_score(step, scores["mean_iou"])
            return scores

        loop.fit(chosen, folder, evaluate=evaluate_and_report, command=command)
        return evaluate_run(folder, command=command).metrics["mean_iou"] or 0.0

    return run
