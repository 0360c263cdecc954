"""Checkpoints of a run: written as a whole or not at all, verified when read. The only Orbax user.

RUN/checkpoints/00001000/              Orbax: variables, optimizer, iterator, metadata
RUN/checkpoints/00001000/checksums.json    what every file must be (see `integrity`)
RUN/checkpoints/.saving.00001000/      being written; renamed when it is whole
RUN/checkpoints/00001000.damaged/      set aside when an older one replaced it
"""

import contextlib
import dataclasses
import logging
import re
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from seg_jax.checks import UserError
from seg_jax.experiment import Experiment
from seg_jax.runs import folder as run_folder
from seg_jax.runs import integrity, quiet, selection
from seg_jax.runs.folder import CHECKPOINTS
from seg_jax.train_state import TrainState

IDENTITY = "config"  # metadata: of the configuration that was trained, see `run_folder.identity`
_ARRAYS, _JSON = ("variables", "optimizer"), ("iterator", "metadata")
_READ_ATTEMPTS = 20
_log = logging.getLogger(__name__)


class SaveError(Exception):
    """A checkpoint could not be written (a full disk, say); those before it are untouched."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What was saved together.

    Attributes:
      state: of training, NumPy arrays.
      iterator: state of the training data's iterator, JSON data.
      metadata: whatever the caller added, JSON data.
    """

    state: TrainState
    iterator: Any
    metadata: dict[str, Any]


def save(
    run: Path,
    state: TrainState,
    *,
    iterator: Any,
    metadata: Any,
    keep: int,
    also: Collection[int] = (),
) -> None:
    """Write the state's checkpoint, then drop all but the newest `keep` and those of `also`.

    With several processes all of them must call this, on a file system that they share. A step
    that was saved before stays as it is.

    Args:
      run: the run folder.
      state: replicated; its `step` names the checkpoint.
      iterator: state of the data iterator, JSON data; the same on every process.
      metadata: JSON data.
      keep: checkpoints that stay, this one included.
      also: steps whose checkpoints stay besides: the best one's.

    Raises:
      SaveError: it could not be written; what was written of it is removed.
    """
    state = jax.device_get(state)
    path = _path(run, int(state.step))
    if path.exists():
        return
    items = {
        "variables": {
            "params": state.params,
            "batch_stats": state.batch_stats,
            **({"ema": state.ema} if state.ema else {}),
        },
        "optimizer": {"step": state.step, **_named(state.opt_state)},
    }
    arguments = {name: ocp.args.StandardSave(item) for name, item in items.items()}
    arguments |= {"iterator": ocp.args.JsonSave(iterator), "metadata": ocp.args.JsonSave(metadata)}
    first = jax.process_index() == 0
    saving = path.with_name(f".saving.{path.name}")
    if first:
        _drop_unfinished(path.parent)
    if jax.process_count() > 1:  # nobody begins to write before the folder is clean
        multihost_utils.sync_global_devices(f"saving {path.name}")
    try:
        with quiet.quiet(), ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(saving, args=ocp.args.Composite(**arguments))
        if first:
            integrity.write(saving)
            saving.rename(path)
    except jax.errors.JaxRuntimeError:  # another process is gone: no fault of the disk's
        raise
    # Orbax hands through what its threads and TensorStore raise: a full disk comes as any of these.
    except (OSError, ValueError, RuntimeError) as error:
        if first:
            _drop_unfinished(path.parent)
        raise SaveError(
            f"checkpoint {path} could not be written: {integrity.name_of(error)}"
        ) from error
    if first:
        prune(run, keep=keep, also=also)


def prune(run: Path, *, keep: int, also: Collection[int] = ()) -> None:
    """Drop all checkpoints but the newest `keep` and those of the steps in `also`."""
    for old in _finished(run)[:-keep]:
        if int(old.name) not in also:
            _remove(old)


def steps(run: Path) -> list[int]:
    """Return the steps whose checkpoints were finished and not set aside, ascending."""
    return [int(path.name) for path in _finished(run)]


def best(run: Path, metric: str) -> int | None:
    """Return the step of the best of the checkpoints that are kept, by the evaluations in the log;
    None: none of them was evaluated.
    """
    return selection.best(selection.scores(run, metric), among=steps(run))


def newest(run: Path) -> int | None:
    """Return the step of the newest checkpoint that is whole, None if none was ever finished.

    Damaged ones that an older one replaces are set aside (renamed to `<step>.damaged`), and the log
    names them: this is for the process that trains the run. With several processes all of them must
    call it.

    Raises:
      UserError: all checkpoints are damaged; nothing is renamed then, so that the next call says
        the same.
    """
    none, failed = -1, -2
    step, error = none, None
    if jax.process_index() == 0:
        try:
            found = _newest_whole(run)
            step = none if found is None else int(found.name)
        except UserError as damage:
            step, error = failed, damage
    if jax.process_count() > 1:
        step = int(multihost_utils.broadcast_one_to_all(np.int32(step)))
    if step == failed:
        raise error or UserError(f"every checkpoint in {run / CHECKPOINTS} is damaged")
    return None if step == none else step


def _newest_whole(run: Path) -> Path | None:
    damaged = []
    for path in reversed(_finished(run)):
        problem = integrity.problem(path)
        if problem is None:
            for bad, what in damaged:
                aside = _free_name(bad)
                _log.warning("checkpoint %s is damaged (%s): set aside as %s", bad, what, aside)
                bad.rename(bad.with_name(aside))
            return path
        damaged.append((path, problem))
    if damaged or run_folder.has_checkpoints(run):
        raise _all_damaged(run, damaged)
    return None


def _free_name(path: Path) -> str:
    names = (f"{path.name}.damaged{number or ''}" for number in range(10_000))
    return next(name for name in names if not path.with_name(name).exists())


def _all_damaged(run: Path, damaged: Sequence[tuple[Path, str]]) -> UserError:
    what = "; ".join(f"{path.name}: {problem}" for path, problem in damaged[:2])
    return UserError(
        f"every checkpoint in {run / CHECKPOINTS} is damaged ({what or 'set aside earlier'}): "
        "restore the folder from a backup, or delete the run's folder to start anew"
    )


def restore(run: Path, step: int, like: TrainState) -> Checkpoint:
    """Return the checkpoint of a step that `newest` found.

    Args:
      run: the run folder.
      step: of the checkpoint.
      like: a state, or its shapes, of the structure that is expected.

    Raises:
      UserError: it belongs to another network or configuration, or cannot be read.
    """
    found = _path(run, step)
    variables, optimizer, iterator, metadata = _load(found, (*_ARRAYS, *_JSON))
    _check_identity(found, metadata, run)
    if not isinstance(optimizer, dict) or "step" not in optimizer:
        raise UserError(f"checkpoint {found} has no step: it was not written by this program")
    saved = {**variables, "step": optimizer.pop("step"), "opt_state": optimizer}
    wanted = {
        "params": like.params, "batch_stats": like.batch_stats, "step": like.step,
        "opt_state": _named(like.opt_state),
        **({"ema": like.ema} if like.ema else {}),
    }  # fmt: skip
    _check_same(found, saved, wanted)
    structure = jax.tree.structure(like.opt_state)
    opt_state = structure.unflatten([optimizer[name] for name in wanted["opt_state"]])
    finite: Any = np.bool_(True)
    params, batch_stats, ema = (saved.get(name, {}) for name in ("params", "batch_stats", "ema"))
    state = TrainState(saved["step"], params, batch_stats, opt_state, finite, ema)
    return Checkpoint(state, iterator, metadata)


def restore_variables(run: Path, which: str = "") -> tuple[Experiment, dict[str, Any], int]:
    """Return a run's experiment, the variables of one of its checkpoints, and their step.

    The run may be training: a checkpoint that is removed while it is read gives way to the one
    that replaced it.

    Args:
      run: the run folder.
      which: "newest": the newest whole one; "best": the best by `train.best_metric`; or a step;
        empty: the best if the run chooses one, else the newest.

    Raises:
      UserError: the folder is no run, or holds no such checkpoint that is whole.
    """
    experiment, _ = run_folder.read_config(run)
    run_folder.refuse_links(run)
    which = which or default(experiment)
    paths: list[Path] = []
    damaged: list[tuple[Path, str]] = []
    for _ in range(_READ_ATTEMPTS):
        damaged = []
        paths = _chosen(run, experiment, which)
        for path in reversed(paths):
            problem = integrity.problem(path)
            if problem is None:
                with contextlib.suppress(_Vanished):
                    variables, metadata = _load_if_there(path, ("variables", "metadata"))
                    _check_identity(path, metadata, run)
                    # Moving averages, where there are some, are what a run is used by.
                    return experiment, variables.get("ema") or variables, int(path.name)
            elif path.exists():
                damaged.append((path, problem))
        if paths == _chosen(run, experiment, which):
            break
    if not paths:
        raise UserError(f"run {run} holds no checkpoint yet: train it, or wait for its first one")
    if which != "newest":
        problem = damaged[0][1] if damaged else "it is not complete"
        raise UserError(
            f"checkpoint {paths[0]} ({which}) is damaged ({problem}): --checkpoint newest takes "
            "the newest whole one"
        )
    raise _all_damaged(run, damaged)


def default(experiment: Experiment) -> str:
    """Return the checkpoint that a run is used by: "best" if it chooses one, else "newest"."""
    return "best" if experiment.train.best_metric else "newest"


def _chosen(run: Path, experiment: Experiment, which: str) -> list[Path]:
    """Return the checkpoints that may be read for `which`, the first choice last."""
    found = _finished(run)
    if which == "newest" or not found:
        return found
    if which == "best":
        metric = experiment.train.best_metric
        if not metric:
            raise UserError(
                f"run {run} has no best checkpoint: it was trained without --train.best-metric "
                "(mean_iou, ...); --checkpoint newest or a step takes another"
            )
        step = best(run, metric)
        if step is None:
            raise UserError(
                f"run {run} has no best checkpoint yet: none that is kept was evaluated; wait for "
                "its first evaluation, or take --checkpoint newest"
            )
        return [_path(run, step)]
    kept = ", ".join(map(str, steps(run)))
    if not which.isdecimal():
        raise UserError(f"--checkpoint {which}: give newest, best, or a step that is kept: {kept}")
    if int(which) not in steps(run):
        raise UserError(f"--checkpoint {which}: run {run} keeps the steps {kept}")
    return [_path(run, int(which))]


class _Vanished(Exception):
    """A checkpoint was removed while it was read."""


def _load_if_there(path: Path, items: Sequence[str]) -> list[Any]:
    try:
        return _load(path, items)
    except UserError:
        if (path / integrity.CHECKSUMS).exists():
            raise
        raise _Vanished from None


def _path(run: Path, step: int) -> Path:
    return run.absolute() / CHECKPOINTS / f"{step:08d}"


def _finished(run: Path) -> list[Path]:
    """The checkpoints that were finished and not set aside, oldest first."""
    found = run.absolute().joinpath(CHECKPOINTS).glob("*")
    return sorted(path for path in found if re.fullmatch(r"\d{8,}", path.name))


def _drop_unfinished(folder: Path) -> None:
    """Remove what a killed process left of a checkpoint that it wrote or removed."""
    for path in folder.glob("*"):
        if re.fullmatch(r"\.(saving|removing)\.\d{8,}.*|\d{8,}\.orbax-checkpoint-tmp.*", path.name):
            shutil.rmtree(path, ignore_errors=True)


def _remove(path: Path) -> None:
    removing = path.with_name(f".removing.{path.name}")  # from here on it does not count
    with contextlib.suppress(OSError):
        path.rename(removing)
        shutil.rmtree(removing, ignore_errors=True)


def _load(path: Path, items: Sequence[str]) -> list[Any]:
    arguments = {
        name: ocp.args.JsonRestore() if name in _JSON else ocp.args.StandardRestore()
        for name in items
    }
    try:
        with quiet.quiet():
            integrity.check_sizes(path, tuple(name for name in items if name in _ARRAYS))
            with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
                restored = checkpointer.restore(path, args=ocp.args.Composite(**arguments))
            return [restored[name] for name in items]
    except UserError:
        raise
    except Exception as error:  # whatever Orbax and TensorStore make of a file that is not theirs
        raise UserError(
            f"checkpoint {path} cannot be read ({integrity.name_of(error)}), though its checksums "
            "fit: another version of Orbax wrote it, or not this program"
        ) from error


def _check_identity(path: Path, metadata: Any, run: Path) -> None:
    """Raise UserError if a checkpoint says that another configuration was trained."""
    trained = metadata.get(IDENTITY) if isinstance(metadata, dict) else None
    known = run_folder.identities(run)
    if trained is not None and known and trained not in known:
        raise UserError(
            f"checkpoint {path} was trained with another configuration ({trained}) than the one in "
            f"{run / run_folder.CONFIG}: restore the file that belongs to it"
        )


def _named(tree: Any) -> dict[str, Any]:
    """Leaves by path: an optimiser's state has types that only optax knows."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _check_same(path: Path, saved: Any, wanted: Any) -> None:
    """Raise UserError unless both trees have the same names and shapes."""
    ours, theirs = (
        {name: np.shape(leaf) for name, leaf in _named(tree).items()} for tree in (wanted, saved)
    )
    names = sorted(name for name in ours.keys() | theirs if ours.get(name) != theirs.get(name))
    if names:
        one = names[0]
        raise UserError(
            f"checkpoint {path} belongs to another network: {len(names)} arrays differ, e.g. {one} "
            f"is {theirs.get(one, 'absent')} there and {ours.get(one, 'absent')} here; go back to "
            "the code that wrote it, or train into another --workdir"
        )
