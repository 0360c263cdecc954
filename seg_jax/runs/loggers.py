"""Where the numbers and images of a run go beside metrics.jsonl: `train.loggers` names them.

A logger of your own stands in a package of yours (`seg_jax.plugins`), under a name:

    @loggers.register("mine")
    class Mine:
        def __init__(self, run, step, fields): ...

It is opened when a session begins, on the first process alone. What it raises does not end the run:
that is said once, in one line, and the logger is dropped. Its calls are made by the thread that
trains; one that does not return keeps the run waiting.
"""

import contextlib
import importlib.util
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from seg_jax import checks, plugins
from seg_jax.runs import tensorboard

TENSORBOARD = "tensorboard"
_MOST_CHARACTERS = 200  # of what a logger raised
_log = logging.getLogger(__name__)


class Logger(Protocol):
    """What a logger does."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Take the numbers after a step by name, e.g. "train/loss" or "evaluate/mean_iou"."""
        ...

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Take the images of an evaluation by name, uint8 [h w 3] each."""
        ...

    def close(self) -> None:
        """End the session; what is buffered is written."""
        ...


# (run folder, step after which the session goes on, fields of the experiment by dotted name)
Open = Callable[[Path, int, Mapping[str, Any]], Logger]


class _TensorBoard:
    """Event files in RUN/tensorboard. While the disk is full, they miss what comes."""

    def __init__(self, run: Path, step: int, fields: Mapping[str, Any]):
        self._board = tensorboard.Board(run / TENSORBOARD, purge_step=step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        with contextlib.suppress(OSError):  # metrics.jsonl has it, or its warning was given
            self._board.write(step, values)

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        with contextlib.suppress(OSError):
            self._board.write_images(step, images)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._board.close()


def _open_wandb(run: Path, step: int, fields: Mapping[str, Any]) -> Logger:
    from seg_jax.runs import trackers

    return trackers.Wandb(run, step, fields)


def _open_mlflow(run: Path, step: int, fields: Mapping[str, Any]) -> Logger:
    from seg_jax.runs import trackers

    return trackers.Mlflow(run, step, fields)


_LIBRARIES: dict[Open, str] = {_open_wandb: "wandb", _open_mlflow: "mlflow"}
_LOGGERS: plugins.Registry[Open] = plugins.Registry(
    "logger", {TENSORBOARD: _TensorBoard, "wandb": _open_wandb, "mlflow": _open_mlflow}
)


def register(name: str) -> Callable[[Any], Any]:
    """Register a logger under a name that `train.loggers` may hold, as a decorator of its class, or
    of a function that opens one.

    Either takes the run folder, the step after which the session goes on (0: the run begins) and
    the fields of the experiment by dotted name. A run that goes on may repeat steps that a killed
    session has logged.
    """
    return _LOGGERS.decorator(name)


def check(names: Iterable[str]) -> None:
    """Raise UserError if there is no logger of a name, or its library is not installed."""
    for name in names:
        library = _LIBRARIES.get(_LOGGERS.find(name))
        # A folder `wandb` where the program is started is a package, too, but without a file.
        found = importlib.util.find_spec(library) if library else None
        if library and (found is None or found.origin is None):
            raise checks.UserError(
                f"train.loggers: {name} needs the library {library}, which is not installed: "
                'pip install "seg_jax[tracking]"'
            )


class Loggers:
    """The open loggers of a run; those that raise are dropped.

    Args:
      say: takes the step and the one line that says so.
    """

    def __init__(self, say: Callable[[int, str], None]):
        self._say = say
        self._open: dict[str, Logger] = {}

    def open(self, names: Iterable[str], run: Path, step: int, fields: Mapping[str, Any]) -> None:
        """Open the loggers of these names, each once."""
        for name in dict.fromkeys(names):
            try:
                self._open[name] = _LOGGERS.find(name)(run, step, fields)
            except Exception as error:
                self._drop(name, step, error)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Give numbers to all."""
        if values:
            self._each(step, lambda logger: logger.scalars(step, values))

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Give images to all."""
        if images:
            self._each(step, lambda logger: logger.images(step, images))

    def close(self, step: int) -> None:
        """Close all."""
        self._each(step, lambda logger: logger.close())
        self._open.clear()

    def _each(self, step: int, do: Callable[[Logger], None]) -> None:
        for name, logger in list(self._open.items()):
            try:
                do(logger)
            except Exception as error:
                self._drop(name, step, error)

    def _drop(self, name: str, step: int, error: Exception) -> None:
        self._open.pop(name, None)
        what = " ".join(f"{type(error).__name__}: {error}".split())[:_MOST_CHARACTERS]
        message = checks.printable(
            f"logger {name} failed and is dropped ({what}); the run goes on, and metrics.jsonl has "
            "what is missing there"
        )
        _log.warning("%s", message)
        self._say(step, message)
