"""Which evaluation of a run was the best, by its log, and how many have come since."""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from seg_jax.checks import UserError, unknown
from seg_jax.runs import log as logs


def value_of(values: Mapping[str, Any], metric: str) -> float:
    """Return a metric out of what an evaluation returned.

    Args:
      values: numbers by name, perhaps groups of them: {"per_class_iou": {"pole": 0.2}}.
      metric: a name, or group/name, e.g. "per_class_iou/pole".

    Raises:
      UserError: there is none of this name; the closest ones are named.
    """
    numbers = logs.numbers(values)
    if metric not in numbers:
        raise UserError(f"train.best_metric: {unknown(metric, numbers)}")
    return numbers[metric]


def scores(run: Path, metric: str, *, until: float = math.inf) -> dict[int, float]:
    """Return a metric of the evaluations after updates in a run's log, by step.

    Args:
      run: the run folder.
      metric: as in `value_of`; lines without it are left out.
      until: the last step that counts.
    """
    found = {}
    for line in logs.read(run):
        if line["kind"] == "evaluate" and 0 < line["step"] <= until:
            numbers = logs.numbers(line)
            if metric in numbers:
                found[line["step"]] = numbers[metric]
    return found


def best(scores: Mapping[int, float], among: Collection[int] | None = None) -> int | None:
    """Return the step with the highest score, of equal ones the first; None without any.

    Args:
      scores: by step; NaN is never the best.
      among: steps that may be chosen; None: all.
    """
    known = {
        step: score for step, score in sorted(scores.items())
        if not math.isnan(score) and (among is None or step in among)
    }  # fmt: skip
    return max(known, key=known.__getitem__, default=None)


def evaluations_since_best(scores: Mapping[int, float]) -> int:
    """Return how many evaluations have not been better than the best before them."""
    found = best(scores)
    return sum(step > found for step in scores) if found is not None else len(scores)
