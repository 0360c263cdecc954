"""What a run reports: metrics.jsonl, which is the source of truth, and its loggers (`loggers`).

Every line of metrics.jsonl is an object with "kind" and "step":

    train     loss, accuracy, grad_norm (means since the last such line), learning_rate,
              images_per_second, step_seconds, data_wait (share of the time in which the device
              waited for data), memory_gib (peak of a device, where it reports one), seconds (of
              training so far, all sessions together)
    evaluate  what the evaluation returned; "per_class_iou" is an object of numbers by class
    event     message: started, resumed, a checkpoint that failed, ...
"""

import collections
import contextlib
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seg_jax import files
from seg_jax.runs import loggers, tensorboard

FILE = "metrics.jsonl"
_MOST_BYTES = 2**30
_BACKLOG_LINES = 10_000  # kept in memory while the disk is full
_log = logging.getLogger(__name__)


def read(run: Path) -> list[dict[str, Any]]:
    """Return the lines of RUN/metrics.jsonl, without what a killed process left half written.

    Other lines that are not the log's (damage, an edit) are skipped, and a warning names them.
    """
    path = Path(run) / FILE
    if not os.path.lexists(path):
        return []
    raw = files.read_bytes(path, most=_MOST_BYTES).split(b"\n")
    unfinished = raw.pop()  # empty if the last line was written whole
    parsed = [_parse(line) for line in raw]
    bad = [number for number, line in enumerate(parsed, 1) if line is None and raw[number - 1]]
    if bad:
        some = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
        _log.warning("%s: line %s cannot be read: skipped", path, some)
    last = _parse(unfinished)
    return [line for line in (*parsed, last) if line is not None]


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or type(data.get("kind")) is not str:
        return None
    return data if type(data.get("step")) is int else None


def training_seconds(run: Path) -> float | None:
    """Return the wall time a run has been trained for, all sessions together; None if unknown."""
    return _seconds(last(run, "train")) or None


def pretraining(run: Path) -> str:
    """Return the weights that a run started from and what was done to them; empty if unknown."""
    found = [line for line in read(run) if isinstance(line.get("pretraining"), str)]
    return found[-1]["pretraining"] if found else ""


def last(run: Path, kind: str) -> dict[str, Any]:
    """Return the last line of a kind, empty if there is none."""
    return next((line for line in reversed(read(run)) if line["kind"] == kind), {})


def latest(run: Path, kind: str) -> dict[str, Any]:
    """Return the last line of a kind among the last 64 KiB, empty if there is none: for who looks
    often.
    """
    path = Path(run) / FILE
    if not os.path.lexists(path):
        return {}
    with files.open_regular(path) as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - 2**16))
        lines = [_parse(line) for line in stream.read(2**16).split(b"\n")]
    return next((line for line in reversed(lines) if line and line["kind"] == kind), {})


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers among a line's values; those of an object by name/key, None as NaN."""
    found = {}
    for name, value in values.items():
        if isinstance(value, int | float):
            found[name] = float(value)
        for key, item in value.items() if isinstance(value, Mapping) else ():
            if item is None or isinstance(item, int | float):
                found[f"{name}/{key}"] = math.nan if item is None else float(item)
    return found


def _seconds(line: Mapping[str, Any]) -> float:
    value = line.get("seconds", 0.0)
    return value if isinstance(value, int | float) else 0.0


class RunLog:
    """Writes metrics.jsonl, and to the loggers; does nothing where `active` is false.

    A log that cannot be written (a full disk) is reported once and does not end the run; the lines
    are kept and written as soon as that is possible again.

    Attributes:
      seconds_before: of training in earlier sessions.
      evaluated: steps whose evaluation is in the log.
    """

    def __init__(
        self,
        run: Path,
        step: int,
        *,
        active: bool,
        names: Iterable[str] = (loggers.TENSORBOARD,),
        fields: Mapping[str, Any] | None = None,
    ):
        """Open the log of a run that goes on after `step`; what was logged of later steps goes.

        Args:
          run: the run folder.
          step: the last one that was done.
          active: whether this process writes.
          names: of the loggers.
          fields: of the experiment by dotted name, for the loggers.
        """
        self._file, self._step = None, step
        self._loggers = loggers.Loggers(self.event)
        self._backlog: collections.deque[bytes] = collections.deque(maxlen=_BACKLOG_LINES)
        self._failed = False
        self.seconds_before = 0.0
        kept = [line for line in read(run) if line["step"] <= step] if step else []
        self.evaluated = {line["step"] for line in kept if line["kind"] == "evaluate"}
        if not active:
            return
        self.seconds_before = max(map(_seconds, kept), default=0.0)
        files.write_text(run / FILE, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = tensorboard.Appender(run / FILE)
        self._loggers.open(names, run, step, fields or {})

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Append a line, and give its numbers to the loggers."""
        if self._file is None:
            return
        self._step = step
        if kind == "evaluate":
            self.evaluated.add(step)
        line = json.dumps({"kind": kind, "step": step, **values}) + "\n"
        self._backlog.append(line.encode())
        try:
            while self._backlog:
                self._file.append(self._backlog[0])
                self._backlog.popleft()
        except OSError as error:
            if not self._failed:
                _log.warning("the log %s cannot be written now: %s", self._file.path, error)
            self._failed = True
        scalars = {f"{kind}/{name}": value for name, value in numbers(values).items()}
        self._loggers.scalars(step, scalars)

    def images(self, step: int, images: Mapping[str, Any]) -> None:
        """Give images to the loggers, uint8 [h w 3] each."""
        self._loggers.images(step, images)

    def event(self, step: int, message: str) -> None:
        """Append a message."""
        self.write("event", step, {"message": message})

    def close(self) -> None:
        """Close the loggers and the file, in which nothing is buffered."""
        self._loggers.close(self._step)
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
