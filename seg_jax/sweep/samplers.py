"""What proposes the values of a trial, and what ends a trial early."""

import importlib.util
from collections.abc import Callable
from typing import Any, Literal

from seg_jax import search_space as spaces
from seg_jax.checks import UserError
from seg_jax.search_space import Space

Sampler = Literal["tpe", "random", "grid", "cmaes"]
Pruner = Literal["median", "asha", "hyperband", "wilcoxon", "none"]
STARTUP = 4  # trials that are drawn at random and never pruned, before the others' results count
_SHARE = 100  # a trial reports at this share of its schedule, in percent


def check(sampler: Sampler, space: Space) -> None:
    """Raise UserError for a sampler that the space does not suit, or that is not installed."""
    if sampler != "cmaes":
        return
    varied = [item for field in space.fields.values() for item in spaces.distributions(field)]
    if any(isinstance(item, spaces.Choice) for item in varied) or spaces.is_conditional(space):
        raise UserError("--sampler cmaes takes numbers only, without choices and conditions")
    if importlib.util.find_spec("cmaes") is None:
        raise UserError("--sampler cmaes: `pip install seg_jax[sweep-db]` installs what it needs")


def pruner(kind: Pruner) -> Any:
    """Return Optuna's pruner; trials report at percents of their own schedules.

    "asha": successive halving (Li et al. 2020), rungs at 11, 33 and 100 %, a third goes on.
    "hyperband": Li et al. 2018, from 11 %. "wilcoxon": between the seeds of a trial.
    """
    from optuna import pruners

    if kind == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=11, reduction_factor=3)
    if kind == "hyperband":
        return pruners.HyperbandPruner(min_resource=11, max_resource=_SHARE, reduction_factor=3)
    if kind == "wilcoxon":
        return pruners.WilcoxonPruner(p_threshold=0.1)
    if kind == "none":
        return pruners.NopPruner()
    return pruners.MedianPruner(n_startup_trials=STARTUP)


def share(step: int, steps: int) -> int:
    """Return the percent of its schedule that a run has done after a step.

    mIoUs at equal steps of schedules of different lengths are not comparable: the longer one's
    learning rate is still high.
    """
    return round(_SHARE * step / steps)


def per_trial(
    kind: Sampler, space: Space, seed: int, index: Callable[[Any], int], encode: Callable
) -> Any:
    """Return a sampler whose draws depend on the seed, the trial's index and the results before it.

    Not on which worker asks, nor on earlier sessions: every trial has a sampler of its own.

    Args:
      kind: which one.
      space: whose grid is taken for "grid".
      seed: of the sweep.
      index: of a trial of Optuna's, from 0, retries not counted.
      encode: (parameter, value) -> what Optuna stores.
    """
    import optuna

    points = space.grid() if kind == "grid" else []

    def of(trial: Any) -> Any:
        number = seed + 1_000_003 * index(trial)
        if kind == "tpe":
            return optuna.samplers.TPESampler(seed=number, n_startup_trials=STARTUP)
        if kind == "cmaes":
            return optuna.samplers.CmaEsSampler(seed=number, n_startup_trials=STARTUP)
        return optuna.samplers.RandomSampler(seed=number)

    class PerTrial(optuna.samplers.BaseSampler):
        def __init__(self):
            self._number = -1
            self._inner: Any = None

        def _sampler(self, trial):
            if trial.number != self._number:
                self._number, self._inner = trial.number, of(trial)
            return self._inner

        def infer_relative_search_space(self, study, trial):
            return self._sampler(trial).infer_relative_search_space(study, trial)

        def sample_relative(self, study, trial, search_space):
            return self._sampler(trial).sample_relative(study, trial, search_space)

        def sample_independent(self, study, trial, param_name, param_distribution):
            number = index(trial)
            if kind == "grid" and number < len(points):
                path = spaces.path_of(param_name)
                return encode(param_name, points[number][path])
            return self._sampler(trial).sample_independent(
                study, trial, param_name, param_distribution
            )

        def after_trial(self, study, trial, state, values):
            self._sampler(trial).after_trial(study, trial, state, values)

    return PerTrial()
