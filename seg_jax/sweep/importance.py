"""How much each field of a search space mattered."""

from collections.abc import Mapping, Sequence
from typing import Any

from seg_jax import search_space as spaces
from seg_jax.search_space import Space
from seg_jax.sweep import parameters, storage, study

FEWEST = 10  # trials: of fewer, chance decides
_GOOD = 5  # trials that count as good ones at least: Optuna's advice


def common_share(
    trials: Sequence[study.Trial], curves: Mapping[str, Mapping[int, float]]
) -> int | None:
    """Return the largest share of the schedule, in percent, at which all trials that have not
    failed reported; None: nothing was pruned, or there is none.

    Final scores are not those of all trials where some were pruned: only the good ones have them.
    """
    ended = [trial for trial in trials if trial.state != "failed"]
    if all(trial.state == "complete" for trial in ended):
        return None
    shares = [set(curves.get(trial.run, ())) for trial in ended]
    return max(set.intersection(*shares), default=None) if shares else None


def importances(
    space: Space,
    trials: Sequence[study.Trial],
    curves: Mapping[str, Mapping[int, float]],
    share: int | None,
) -> dict[str, float]:
    """Return each field's importance, the highest first, together 1; empty: too few trials.

    PED-ANOVA (Watanabe, Bansal & Hutter, IJCAI 2023; Optuna's): how far the values of the best
    trials, a tenth or 5, are from those of all in distribution.

    Args:
      space: of the sweep.
      trials: that have ended.
      curves: what each reported: mIoU by percent of its schedule.
      share: of the schedule, at which trials are compared; None: at its end, complete ones only.
    """
    scored = []
    for trial in trials:
        miou = trial.miou if share is None else curves.get(trial.run, {}).get(share)
        if miou is not None and trial.state != "failed" and (share or trial.state == "complete"):
            scored.append((trial.values, miou))
    if len(scored) < FEWEST or len({miou for _, miou in scored}) < 2:
        return {}
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with storage.quiet():
        compared = optuna.create_study(direction="maximize")
        for values, miou in scored:
            params, kinds = _as_optuna(space, values)
            compared.add_trial(
                optuna.trial.create_trial(params=params, distributions=kinds, value=miou)
            )
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(
            target_quantile=max(0.1, _GOOD / len(scored))
        )
        found = optuna.importance.get_param_importances(compared, evaluator=evaluator)
    total: dict[str, float] = {}
    for name, weight in found.items():  # of a field under several conditions, their sum
        path = spaces.path_of(name)
        total[path] = total.get(path, 0.0) + float(weight)
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _as_optuna(space: Space, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    params, kinds = {}, {}
    for path, field in space.fields.items():
        item = field.given(values) if isinstance(field, spaces.When) else field
        if item is None or path not in values:
            continue
        name = spaces.parameter(path, field, values)
        value = values[path]
        params[name] = repr(value) if isinstance(item, spaces.Choice) else value
        kinds[name] = parameters.distribution(item)
    return params, kinds
