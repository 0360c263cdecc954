"""Start a training from a run's matching layers, from a release, or from published weights."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from seg_jax.checks import UserError
from seg_jax.experiment import Experiment
from seg_jax.pretrained import differences, folded, norm_epsilon
from seg_jax.pretrained.init_report import InitReport
from seg_jax.pretrained.layers import NORM, is_another_norm, layers_of, split_path
from seg_jax.runs import checkpoint
from seg_jax.runs import folder as run_folder

SCRATCH = ("", "none")  # of `train.init`: random weights


class Start(NamedTuple):
    """The variables that a training begins with, and where they come from.

    Attributes:
      variables: {"params": ..., "batch_stats": ...}.
      report: lines for the user: the exceptions only.
      log: for the run's log: {"message": ..., "pretraining": the source in words, as records have
        it, "layers": one line a layer}.
      complete: every layer came from the weights, so that they can be scored before step 1.
    """

    variables: dict[str, Any]
    report: list[str]
    log: dict[str, Any]
    complete: bool


def start(
    variables: dict[str, Any],
    experiment: Experiment,
    run: Path,
    *,
    images: folded.Images | None = None,
) -> Start:
    """Replace freshly initialised variables by what `train.init` names.

    A run gives the layers that fit. Published weights and releases must fit but for what
    `train.init_allow` excepts, see `initialise`. Norms that come folded get statistics, estimated
    on training images, see `folded`.

    Args:
      variables: {"params": ..., "batch_stats": ...}.
      experiment: that starts.
      run: its folder; a run is also looked for beside it.
      images: returns training images, uint8 [n h w 3], endlessly; None: there are none.

    Raises:
      UserError: there are no such weights, they do not fit, or folded norms lack images.
    """
    variables, report, trained = _weights(variables, experiment, run)
    if trained is not None:
        notes = differences.notes(
            trained, experiment, inputs=_run_folder(experiment, run) is not None
        )
        report = dataclasses.replace(report, notes=(*report.notes, *notes))
    variables, done = folded.prepare(
        variables,
        experiment.model,
        experiment.data.preprocessing,
        folded.find(variables) & report.taken,
        images,
        image_shape=norm_epsilon.image_shape(experiment),
        source=f"train.init {experiment.train.init}",
    )
    words = experiment.train.init
    if done:
        report = dataclasses.replace(report, notes=(*report.notes, done))
        words = f"{words} ({done})"
    log = {"message": report.headline, "pretraining": words, "layers": report.lines()[1:]}
    return Start(variables, report.exceptions(), log, report.complete)


def check(experiment: Experiment, run: Path, *, made_before: Collection[str] = ()) -> None:
    """Check that what `train.init` names is there, before anything else is done.

    Args:
      experiment: that is to start.
      run: its folder.
      made_before: experiments that will have been trained beside it by then.

    Raises:
      UserError: there are no such weights; says where their publishers offer them.
    """
    init = experiment.train.init
    if init in (*SCRATCH, *made_before) or _run_folder(experiment, run) is not None:
        return
    from seg_jax.pretrained import catalogue, loading

    if not Path(init).expanduser().exists() and init not in catalogue.names():
        raise _unknown(experiment, run)
    try:
        loading.resolve(init)
    except UserError as error:
        name = experiment.name or experiment.family
        raise UserError(
            f"{name} starts from published weights: {error}; "
            "--init none trains from scratch on purpose"
        ) from error


def _unknown(experiment: Experiment, run: Path) -> UserError:
    looked = " and ".join(map(str, _candidates(experiment, run)))
    return UserError(
        f"train.init {experiment.train.init!r}: no run in {looked}, and no "
        "published weights of this name (`python -m seg_jax weights list`); train it there "
        "first, name its run folder, or start from scratch with --init none"
    )


def _weights(
    variables: dict[str, Any], experiment: Experiment, run: Path
) -> tuple[dict[str, Any], InitReport, Experiment | None]:
    """Return the variables, what was done, and the experiment of the weights if there is one."""
    init = experiment.train.init
    if (folder := _run_folder(experiment, run)) is not None:
        return _from_run(variables, experiment, folder)
    # Needs every model of the catalogue: only where it is wanted.
    from seg_jax.pretrained import catalogue, initialise

    if not Path(init).expanduser().exists() and init not in catalogue.names():
        raise _unknown(experiment, run)
    settings = experiment.train
    source = initialise.find(
        init, settings.init_as, num_classes=getattr(experiment.model, "num_classes", None)
    )
    variables, report = initialise.initialise(
        variables,
        source,
        preprocessing=experiment.data.preprocessing,
        allow=experiment.train.init_allow,
        epsilons=norm_epsilon.of(experiment),
        channels=settings.init_channels,
    )
    return variables, report, source.experiment


def _candidates(experiment: Experiment, run: Path) -> list[Path]:
    init = experiment.train.init
    return list(dict.fromkeys([Path(init).expanduser(), run.absolute().parent / init]))


def _run_folder(experiment: Experiment, run: Path) -> Path | None:
    """Return the run folder that `train.init` names; None: it names something else."""
    for candidate in _candidates(experiment, run):
        is_release = (candidate / "model.safetensors").is_file()
        if (candidate / run_folder.CONFIG).is_file() and not is_release:
            return candidate
    return None


def _from_run(
    variables: dict[str, Any], here: Experiment, source: Path
) -> tuple[dict[str, Any], InitReport, Experiment]:
    experiment, weights, step = checkpoint.restore_variables(source)
    variables, layers = copy_matching(variables, weights)
    copied = [name for name, problem in layers.items() if problem is None]
    if not copied:
        theirs = sorted(layers_of(weights))
        raise UserError(
            f"train.init {here.train.init!r}: no layer of {source} fits; it has "
            f"{', '.join(theirs[:3])}, ..., this network {', '.join(list(layers)[:3])}, ..."
        )
    headline = (
        f"init from {source}, step {step} of {experiment.train.steps}: "
        f"{len(copied)} of {len(layers)} layers copied"
    )
    notes: list[str] = []
    if experiment.model != here.model:
        there, ours = norm_epsilon.of(experiment), norm_epsilon.of(here)
        pairs = {name: (there[name], ours[name]) for name in copied if name in there}
        variables, notes = norm_epsilon.adapt(variables, pairs)
    done = tuple((n, f"kept: {problem}" if problem else "copied") for n, problem in layers.items())
    return variables, InitReport(headline, done, tuple(notes)), experiment


def copy_matching(target: Any, source: Any) -> tuple[Any, dict[str, str | None]]:
    """Copy the layers of `source` whose arrays have the names and shapes of those in `target`.

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
    if is_another_norm(ours, theirs):
        return f"{'batch' if NORM in theirs else 'group'} norm there"
    for name, array in ours.items():
        if name not in theirs:
            return f"{name} is not there"
        if np.shape(theirs[name]) != np.shape(array):
            return f"{name} is {np.shape(theirs[name])} there, {np.shape(array)} here"
    return None
