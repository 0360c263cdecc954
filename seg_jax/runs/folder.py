"""The folder of a run: its configuration, who may resume it, and who is at work in it.

config.json      the experiment with every field resolved, and its digest
metrics.jsonl    the log (see `log`)
checkpoints/     (see `checkpoint`)
loggers.json     ids of the run in W&B and MLflow (see `trackers`)
result.json      the evaluation's record
"""

import contextlib
import dataclasses
import errno
import fcntl
import logging
import os
import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from seg_jax import config, files
from seg_jax.checks import UserError
from seg_jax.experiment import Experiment

_log = logging.getLogger(__name__)
CONFIG, CHECKPOINTS, _LOCK = "config.json", "checkpoints", ".lock"
_OURS = re.compile(
    r"config\.json|metrics\.jsonl|result[^/]*\.json|report\.html|checkpoints|predictions|tensorboard"
    r"|loggers\.json|wandb|\.lock"
)

# Fields that may change when a run is resumed, with the reason; all others decide what is trained.
FREE = {
    "data.root": "the folder may move; the list of images is compared by its checksum",
    "data.allow_outside": "says where files may lie; the list is compared by its checksum",
    "data.workers": "batches do not depend on who makes them",
    "data.cache": "says where images are kept; their pixels are the same",
    "train.log_every": "says when to report",
    "train.loggers": "says where to report",
    "train.evaluate_first": "says when to score; scoring changes nothing",
    "train.evaluate_every": "says when to score; scoring changes nothing",
    "train.checkpoint_every": "says when to save",
    "train.keep": "says what to keep",
    "train.patience": "says when to stop; the steps until then are the same",
    "evaluation": "is not used in training",
}


class InUse(UserError):
    """Another process is at work in the run."""


def write_config(run: Path, experiment: Experiment, *, former: Collection[str] = ()) -> None:
    """Write RUN/config.json.

    Args:
      run: the run folder.
      experiment: that is trained in it.
      former: identities of this configuration as earlier versions of the program wrote it: the
        checkpoints made under them still belong to the run.
    """
    content = {"digest": config.digest(experiment), "experiment": config.to_dict(experiment)}
    if former := sorted(set(former) - {identity(content["experiment"])}):
        content["former"] = former
    files.write_json(run / CONFIG, content)


def read_config(run: Path) -> tuple[Experiment, str]:
    """Return the experiment of RUN/config.json (see `without_permissions`), and its digest.

    Raises:
      UserError: there is none, it cannot be read, or its digest does not fit its content.
    """
    path = Path(run) / CONFIG
    if not os.path.lexists(path):
        raise UserError(f"{run} is no run folder: it has no {CONFIG}")
    content = files.read_json(path)
    if not isinstance(content, dict) or type(content.get("digest")) is not str:
        raise UserError(f'{path} cannot be read (it has no "digest"); was it edited?')
    stored = content.get("experiment")
    try:
        experiment = config.from_dict(stored, Experiment)
    except ValueError as error:
        raise UserError(f"{path} cannot be read ({error}); was it edited?") from error
    # Of the stored data as they stand: an older version may have used other names.
    if config.digest(stored) != content["digest"]:
        raise UserError(
            f"{path} does not fit its digest {content['digest']}: it was edited after the training "
            "began. Restore it, or train the other configuration into another --workdir"
        )
    return without_permissions(experiment), content["digest"]


def without_permissions(experiment: Experiment) -> Experiment:
    """Return an experiment out of a file without what only a command may allow.

    A stranger's run could otherwise bring a list of images that leads to yours.
    """
    data = dataclasses.replace(experiment.data, allow_outside=False)
    return dataclasses.replace(experiment, data=data)


def identity(experiment: Any) -> str:
    """Return the digest of what a configuration trains: of all fields but those in FREE.

    Args:
      experiment: an Experiment, or the JSON data of a stored one.
    """
    leaves = config.flatten(config.to_dict(experiment))
    return config.digest({name: leaf for name, leaf in leaves.items() if not _is_free(name)})


def identities(run: Path) -> set[str]:
    """Return the identities whose checkpoints belong to a run; empty without a configuration."""
    if not (Path(run) / CONFIG).exists():
        return set()
    read_config(run)
    content = files.read_json(Path(run) / CONFIG)
    former = content.get("former", [])
    former = former if isinstance(former, list) else []
    return {identity(content["experiment"]), *(item for item in former if type(item) is str)}


def check_resumable(run: Path, experiment: Experiment, *, extend: bool = False) -> bool:
    """Return whether the folder holds checkpoints that the experiment may go on from.

    Args:
      run: the run folder.
      experiment: that is to be trained in it.
      extend: its steps may grow although the learning rates of those done would be others.

    Raises:
      UserError: they were trained with another configuration (every field that differs is named
        with both values; those in FREE may differ, and train.steps may grow where the schedule
        allows it), or the configuration is gone.
    """
    if not has_checkpoints(run):
        return False  # nothing to lose: a start that failed does not block the correction
    if not (run / CONFIG).exists():
        raise UserError(
            f"{run} holds checkpoints but no {CONFIG}, so that nobody can say what they are: "
            "restore it, or train into another --workdir"
        )
    before, _ = read_config(run)
    changed = {
        name: values for name, values in config.difference(before, experiment).items()
        if not _is_free(name)
    }  # fmt: skip
    _take_extension(run, before, experiment, changed, extend)
    if changed:
        fields = "; ".join(
            f"{name} was {old!r}, is {new!r}" for name, (old, new) in changed.items()
        )
        raise UserError(
            f"{run} holds a run with another configuration: {fields}. Repeat the command that "
            f"began it (only {', '.join(FREE)} may change), or train into another --workdir; "
            f"there, --init {run} starts from the last state of this run"
        )
    return True


def _take_extension(
    run: Path, before: Experiment, after: Experiment, changed: dict[str, Any], extend: bool
) -> None:
    """Take "train.steps" out of `changed` if nothing else has changed and it grows in a way that
    leaves the steps so far as they were, or if that is not asked for.

    Raises:
      UserError: earlier steps would have had other learning rates; says which.
    """
    old, new = changed.get("train.steps", (0, 0))
    if [*changed] != ["train.steps"] or new < old:
        return
    from seg_jax import optim

    schedule, done = before.optim.schedule, _newest(run)
    same = schedule.kind != "poly" and done <= old - schedule.settle
    if not same and not extend:
        at = min(done, old) - 1
        rates = [float(optim.learning_rate(before.optim, steps, at)) for steps in (old, new)]
        what = f'"{schedule.kind}"' + (" that settles" if schedule.settle else "")
        raise UserError(
            f"{run} was trained for {old} steps, now {new} are asked for, and its schedule is "
            f"{what}: step {at + 1} had a learning rate of {rates[0]:.3g} and would have had "
            f"{rates[1]:.3g}. --extend goes on all the same; another --workdir begins anew"
        )
    del changed["train.steps"]


def _newest(run: Path) -> int:
    """Return the number of the newest checkpoint, damaged or not."""
    names = [path.name for path in _entries(Path(run) / CHECKPOINTS)]
    return max((int(name) for name in names if re.fullmatch(r"\d{8,}", name)), default=0)


def has_checkpoints(run: Path) -> bool:
    """Return whether a run has saved anything, damaged or not."""
    folder = Path(run) / CHECKPOINTS
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return any(re.fullmatch(r"\d{8,}(\.damaged.*)?", name) for name in names)


def refuse_links(run: Path) -> None:
    """Raise UserError if something in a run folder is a link: writing would follow it elsewhere.

    The run folder itself may be one: who made that link chose where it leads.
    """
    run = Path(run)
    inside = [path for path in _entries(run) if _OURS.fullmatch(path.name)]
    inside += [*_entries(run / CHECKPOINTS), *_entries(run / "predictions")]
    for path in inside:
        if path.is_symlink():
            raise UserError(
                f"{path} is a link to {os.readlink(path)!r}: a run's own files and folders may not "
                "be links; move what it points to here, or link the run folder itself"
            )


@dataclasses.dataclass(frozen=True)
class Lock:
    """A run folder that this process holds.

    Attributes:
      run: the folder.
      descriptor: of the lock file.
    """

    run: Path
    descriptor: int

    def check(self) -> None:
        """Raise UserError if the folder was deleted, or replaced by another, in the meantime."""
        try:
            there, ours = os.stat(self.run / _LOCK), os.fstat(self.descriptor)
            same = (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
        except FileNotFoundError:
            same = False
        if not same or not (self.run / CONFIG).exists():
            raise UserError(
                f"{self.run} was deleted or replaced while the run was training in it: nothing "
                "more is written; the same command begins anew"
            )


@contextlib.contextmanager
def lock(run: Path) -> Iterator[Lock]:
    """Hold the folder for this process; a kill releases it.

    Where the file system has no locks, a warning says so.

    Raises:
      InUse: another process holds it.
      UserError: it cannot be written.
    """
    path = run / _LOCK
    try:
        run.mkdir(parents=True, exist_ok=True)
        refuse_links(run)
        # Neither emptied nor followed: it may be a stranger's link or pipe.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        raise UserError(
            f"{run} cannot be used as a run folder ({error.strerror}): choose a folder that can be "
            "written, with --workdir"
        ) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UserError(f"{path} is no regular file: delete it")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise InUse(
                    f"another process is training in {run}: wait for it, or end it"
                ) from error
            _log.warning(
                "%s is on a file system without locks (%s): see to it that no other process trains "
                "in it", run, error.strerror,
            )  # fmt: skip
        yield Lock(run, descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Wait until no other process of this machine is in here with the folder: for a moment's work
    that several workers would do at once.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(folder / ".workers", flags, 0o666)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # not there, or no folder
        return []


def _is_free(name: str) -> bool:
    return any(name == free or name.startswith(free + ".") for free in FREE)
