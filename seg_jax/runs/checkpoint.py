"""Checkpoints of a run: written as a whole or not at all, verified when read. The only Orbax user.

    RUN/checkpoints/00001000/              Orbax: variables, optimizer, iterator, metadata
    RUN/checkpoints/00001000/checksums.json    written last: what every file must be

Orbax renames a finished checkpoint into place; but it does not notice a byte that changed in the
data later, so every file is hashed. A checkpoint without checksums was interrupted, and does not
count.
"""

import dataclasses
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from seg_jax import files
from seg_jax.checks import UserError
from seg_jax.experiment import Experiment
from seg_jax.runs import folder as run_folder
from seg_jax.train_state import TrainState

FOLDER, _CHECKSUMS = "checkpoints", "checksums.json"
_ITEMS = ("variables", "optimizer", "iterator", "metadata")
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


def save(run: Path, state: TrainState, *, iterator: Any, metadata: Any, keep: int) -> None:
    """Write the state's checkpoint, then drop all but the newest `keep`.

    With several processes all of them must call this, on a file system that they share. A step
    that was saved before stays as it is.

    Args:
      run: the run folder.
      state: replicated; its `step` names the checkpoint.
      iterator: state of the data iterator, JSON data; the same on every process.
      metadata: JSON data.
      keep: checkpoints that stay, this one included.

    Raises:
      SaveError: it could not be written; what was written of it is removed.
    """
    state = jax.device_get(state)
    path = _path(run, int(state.step))
    if path in _finished(path.parent):
        return
    items = {
        "variables": {"params": state.params, "batch_stats": state.batch_stats},
        "optimizer": {"step": state.step, **_named(state.opt_state)},
    }
    arguments = {name: ocp.args.StandardSave(item) for name, item in items.items()}
    arguments |= {"iterator": ocp.args.JsonSave(iterator), "metadata": ocp.args.JsonSave(metadata)}
    first = jax.process_index() == 0
    if first:
        _drop_unfinished(path.parent)
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(path, args=ocp.args.Composite(**arguments))
        if first:
            files.write_json(path / _CHECKSUMS, _checksums(path))
    # Orbax hands through what its threads and TensorStore raise: a full disk comes as any of these.
    except (OSError, ValueError, RuntimeError) as error:
        if first:
            shutil.rmtree(path, ignore_errors=True)
            _drop_unfinished(path.parent)
        reason = str(error).partition("\n")[0]
        raise SaveError(f"checkpoint {path} could not be written: {reason}") from error
    if first:
        for old in _finished(path.parent)[:-keep]:
            _remove(old)


def newest(run: Path) -> int | None:
    """Return the step of the newest checkpoint that is whole, None if none was ever finished.

    Damaged ones are set aside (renamed to `<step>.damaged`), and the log names them: this is for
    the process that trains the run. With several processes all of them must call it.

    Raises:
      UserError: all checkpoints are damaged.
    """
    none, damaged = -1, -2
    step, error = none, None
    if jax.process_index() == 0:
        try:
            for path, problem in _newest_first(run):
                if problem is None:
                    step = int(path.name)
                    break
                aside = path.with_suffix(".damaged")
                _log.warning(
                    "checkpoint %s is damaged (%s): set aside as %s", path, problem, aside.name
                )
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
        except UserError as found:
            step, error = damaged, found
    if jax.process_count() > 1:
        step = int(multihost_utils.broadcast_one_to_all(np.int32(step)))
    if step == damaged:
        raise error or UserError(f"every checkpoint in {run / FOLDER} is damaged")
    return None if step == none else step


def restore(run: Path, step: int, like: TrainState) -> Checkpoint:
    """Return the checkpoint of a step that `newest` found.

    Args:
      run: the run folder.
      step: of the checkpoint.
      like: a state, or its shapes, of the structure that is expected.

    Raises:
      UserError: it belongs to another network.
    """
    found = _path(run, step)
    variables, optimizer, iterator, metadata = _load(found, _ITEMS)
    saved = {**variables, "step": optimizer.pop("step"), "opt_state": optimizer}
    wanted = {
        "params": like.params, "batch_stats": like.batch_stats, "step": like.step,
        "opt_state": _named(like.opt_state),
    }  # fmt: skip
    _check_same(found, saved, wanted)
    structure = jax.tree.structure(like.opt_state)
    opt_state = structure.unflatten([optimizer[name] for name in wanted["opt_state"]])
    state = TrainState(
        saved["step"], saved["params"], saved["batch_stats"], opt_state, finite=np.bool_(True)
    )
    return Checkpoint(state, iterator, metadata)


def restore_variables(run: Path) -> tuple[Experiment, dict[str, Any], int]:
    """Return a run's experiment, the variables of its newest whole checkpoint, and their step.

    Raises:
      UserError: the folder is no run, or holds no whole checkpoint.
    """
    experiment, _ = run_folder.read_config(run)
    for path, problem in _newest_first(run):
        if problem is None:
            variables = _load(path, ["variables"])[0]
            return experiment, variables, int(path.name)
        _log.warning("checkpoint %s is damaged (%s): using the one before", path, problem)
    raise UserError(f"run {run} holds no checkpoint yet: train it, or wait for its first one")


def _path(run: Path, step: int) -> Path:
    return run.absolute() / FOLDER / f"{step:08d}"


def _newest_first(run: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield (path, what is wrong with it or None); UserError after the last if all are damaged."""
    paths = _finished(run.absolute() / FOLDER)[::-1]
    for path in paths:
        problem = _problem(path)
        yield path, problem
    if paths:
        raise UserError(
            f"every checkpoint in {run / FOLDER} is damaged: restore the folder from a backup, or "
            "delete the run's folder to start anew"
        )


def _finished(folder: Path) -> list[Path]:
    """The checkpoints that were finished, oldest first."""
    return sorted(
        path for path in folder.glob("*")
        if re.fullmatch(r"\d{8,}", path.name) and (path / _CHECKSUMS).exists()
    )  # fmt: skip


def _drop_unfinished(folder: Path) -> None:
    """Remove what a killed process left of a checkpoint that it wrote or removed."""
    for path in folder.glob("*"):
        ours = re.fullmatch(r"\d{8,}(\.orbax-checkpoint-tmp.*)?", path.name)
        if ours and not (path / _CHECKSUMS).exists():
            shutil.rmtree(path, ignore_errors=True)


def _remove(path: Path) -> None:
    (path / _CHECKSUMS).unlink()  # from here on it does not count
    shutil.rmtree(path, ignore_errors=True)


def _checksums(path: Path) -> dict[str, str]:
    """BLAKE2 of every file of a checkpoint by its relative path."""
    found = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != _CHECKSUMS):
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "blake2b").hexdigest()
        found[file.relative_to(path).as_posix()] = digest
    return found


def _problem(path: Path) -> str | None:
    """Say what is wrong with a finished checkpoint, None if it is whole."""
    try:
        expected = json.loads((path / _CHECKSUMS).read_text())
        found = _checksums(path)
    except (OSError, ValueError) as error:
        return str(error)
    missing = sorted(expected.keys() - found.keys())
    changed = sorted(name for name in expected if name in found and expected[name] != found[name])
    parts = [f"{len(missing)} files missing, e.g. {missing[0]}"] if missing else []
    parts += [f"{len(changed)} files changed, e.g. {changed[0]}"] if changed else []
    return "; ".join(parts) or None


def _load(path: Path, items: list[str] | tuple[str, ...]) -> list[Any]:
    kinds = {"iterator": ocp.args.JsonRestore, "metadata": ocp.args.JsonRestore}
    arguments = {name: kinds.get(name, ocp.args.StandardRestore)() for name in items}
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        restored = checkpointer.restore(path, args=ocp.args.Composite(**arguments))
    return [restored[name] for name in items]


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
