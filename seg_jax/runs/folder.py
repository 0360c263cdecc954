"""The folder of a run: its configuration, who may resume it, and who is at work in it.

config.json      the experiment with every field resolved, and its digest
metrics.jsonl    the log (see `logs`)
checkpoints/     (see `checkpoint`)
result.json      the evaluation's record
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from seg_jax import config, files
from seg_jax.checks import UserError
from seg_jax.experiment import Experiment

CONFIG = "config.json"

# Fields that may change when a run is resumed, with the reason; all others decide what is trained.
FREE = {
    "data.root": "the folder may move; the list of images is compared by its checksum",
    "data.allow_outside": "says where files may lie; the list is compared by its checksum",
    "data.workers": "batches do not depend on who makes them",
    "train.log_every": "says when to report",
    "train.evaluate_first": "says when to score; scoring changes nothing",
    "train.evaluate_every": "says when to score; scoring changes nothing",
    "train.checkpoint_every": "says when to save",
    "train.keep": "says what to keep",
    "evaluation": "is not used in training",
}


def write_config(run: Path, experiment: Experiment) -> None:
    """Write RUN/config.json."""
    content = {"digest": config.digest(experiment), "experiment": config.to_dict(experiment)}
    files.write_json(run / CONFIG, content)


def read_config(run: Path) -> tuple[Experiment, str]:
    """Return the experiment of RUN/config.json, and its digest.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    path = Path(run) / CONFIG
    if not path.exists():
        raise UserError(f"{run} is no run folder: it has no {CONFIG}")
    content = files.read_json(path)
    if not isinstance(content, dict) or type(content.get("digest")) is not str:
        raise UserError(f'{path} cannot be read (it has no "digest"); was it edited?')
    try:
        return config.from_dict(content.get("experiment"), Experiment), content["digest"]
    except ValueError as error:
        raise UserError(f"{path} cannot be read ({error}); was it edited?") from error


def check_resumable(run: Path, experiment: Experiment) -> None:
    """Raise UserError if the folder's run was trained with another configuration.

    Every field that differs is named with both values; those in FREE may.
    """
    if not (run / CONFIG).exists():
        return
    before, _ = read_config(run)
    changed = {
        name: values for name, values in config.difference(before, experiment).items()
        if not any(name == free or name.startswith(free + ".") for free in FREE)
    }  # fmt: skip
    if changed:
        fields = "; ".join(
            f"{name} was {old!r}, is {new!r}" for name, (old, new) in changed.items()
        )
        raise UserError(
            f"{run} holds a run with another configuration: {fields}. Repeat the command that "
            "began it, or train into another --workdir"
        )


@contextlib.contextmanager
def lock(run: Path) -> Iterator[None]:
    """Hold the folder for this process; UserError if another one does. A kill releases it."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process is training in {run}: wait for it, or end it"
            ) from error
        except OSError:
            pass  # a file system without locks
        yield
