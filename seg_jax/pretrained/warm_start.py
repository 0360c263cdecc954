"""Start from other weights: the layers of a run that both networks have, or published weights."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from seg_jax.checks import UserError
from seg_jax.experiment import Experiment
from seg_jax.pretrained.layers import layers_of, split_path
from seg_jax.runs import checkpoint
from seg_jax.runs import folder as run_folder


def start(
    variables: dict[str, Any], experiment: Experiment, run: Path
) -> tuple[dict[str, Any], list[str]]:
    """Replace freshly initialised variables by what `train.init` names.

    A run gives the layers that fit. Published weights and releases must fit but for what
    `train.init_allow` excepts, see `pretrained.initial`.

    Args:
      variables: {"params": ..., "batch_stats": ...}.
      experiment: that starts.
      run: its folder; a run is also looked for beside it.

    Returns:
      The variables, and a report, one line a layer.

    Raises:
      UserError: there are no such weights, or they do not fit.
    """
    init = experiment.train.init
    candidates = list(dict.fromkeys([Path(init).expanduser(), run.absolute().parent / init]))
    for candidate in candidates:
        is_release = (candidate / "model.safetensors").is_file()
        if (candidate / run_folder.CONFIG).is_file() and not is_release:
            return _from_run(variables, init, candidate)
    # Needs every model of the catalogue: only where it is wanted.
    from seg_jax.pretrained import catalogue, initialise

    if not Path(init).expanduser().exists() and init not in catalogue.names():
        raise UserError(
            f"train.init {init!r}: no run in {' and '.join(map(str, candidates))}, and no "
            "published weights of this name (`python -m seg_jax weights list`); train it there "
            "first, name its run folder, or start from scratch with --train.init ''"
        )
    return initialise.initialise(
        variables,
        initialise.find(init),
        preprocessing=experiment.data.preprocessing,
        allow=experiment.train.init_allow,
    )


def _from_run(
    variables: dict[str, Any], init: str, source: Path
) -> tuple[dict[str, Any], list[str]]:
    experiment, weights, step = checkpoint.restore_variables(source)
    variables, layers = copy_matching(variables, weights)
    copied = [name for name, problem in layers.items() if problem is None]
    if not copied:
        theirs = sorted(layers_of(weights))
        raise UserError(
            f"train.init {init!r}: no layer of {source} fits; it has {', '.join(theirs[:3])}, ..., "
            f"this network {', '.join(list(layers)[:3])}, ..."
        )
    report = [
        f"init from {source}, step {step} of {experiment.train.steps}: "
        f"{len(copied)} of {len(layers)} layers copied"
    ]
    width = max(map(len, layers))
    for name, problem in layers.items():
        report.append(f"  {name:<{width}}  " + (f"kept: {problem}" if problem else "copied"))
    return variables, report


def copy_matching(target: Any, source: Any) -> tuple[Any, dict[str, str | None]]:
    """Replace the layers of `target` whose arrays all have a namesake of their shape in `source`.

    Returns:
      The new variables, and by layer why it kept its own (None: it was copied).
    """
    ours, theirs = layers_of(target), layers_of(source)
    problems = {name: _problem(arrays, theirs.get(name)) for name, arrays in ours.items()}

    def choose(path, leaf):
        layer, name = split_path(path)
        return leaf if problems[layer] else theirs[layer][name]

    return jax.tree.map_with_path(choose, target), problems


def _problem(ours: dict[str, Any], theirs: dict[str, Any] | None) -> str | None:
    if theirs is None:
        return "not there"
    for name, array in ours.items():
        if name not in theirs:
            return f"{name} is not there"
        if np.shape(theirs[name]) != np.shape(array):
            return f"{name} is {np.shape(theirs[name])} there, {np.shape(array)} here"
    return None
