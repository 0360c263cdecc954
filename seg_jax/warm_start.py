"""Start from the weights of another run: the layers that both networks have."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from seg_jax import checkpoint, run_folder
from seg_jax.checks import UserError


def find_run(init: str, run: Path) -> Path:
    """Return the run folder that `train.init` means: a path, or a name beside the folder `run`."""
    candidates = [Path(init).expanduser(), run.absolute().parent / init]
    for candidate in candidates:
        if (candidate / run_folder.CONFIG).is_file():
            return candidate
    looked = " and ".join(str(candidate) for candidate in dict.fromkeys(candidates))
    raise UserError(
        f"train.init {init!r}: no run in {looked}; train it there first, name its run folder, or "
        "start from scratch with --train.init ''"
    )


def from_run(variables: dict[str, Any], init: str, run: Path) -> tuple[dict[str, Any], list[str]]:
    """Replace what fits by the weights of the run that `init` means.

    Args:
      variables: freshly initialised, {"params": ..., "batch_stats": ...}.
      init: path or name of a run.
      run: folder of the run that starts.

    Returns:
      The variables, and a report, one line a layer.

    Raises:
      UserError: there is no such run, or no layer of it fits.
    """
    source = find_run(init, run)
    experiment, weights, step = checkpoint.restore_variables(source)
    variables, layers = copy_matching(variables, weights)
    copied = [name for name, problem in layers.items() if problem is None]
    if not copied:
        theirs = sorted(_layers(weights))
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
    ours, theirs = _layers(target), _layers(source)
    problems = {name: _problem(arrays, theirs.get(name)) for name, arrays in ours.items()}

    def choose(path, leaf):
        layer, name = _split(path)
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


def _layers(variables: Any) -> dict[str, dict[str, Any]]:
    """Arrays by layer and name; a norm's running averages belong to its layer."""
    found: dict[str, dict[str, Any]] = {}
    for path, leaf in jax.tree.leaves_with_path(variables):
        layer, name = _split(path)
        found.setdefault(layer, {})[name] = leaf
    return found


def _split(path: tuple[Any, ...]) -> tuple[str, str]:
    """(layer, array) of a path: ("params", "head", "score", "bias") -> ("head/score", "bias")."""
    collection, *layer, name = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
    return "/".join(layer), name if collection == "params" else f"{collection}/{name}"
