"""What a run reports: metrics.jsonl, which is the source of truth, TensorBoard, and throughput.

Every line of metrics.jsonl is an object with "kind" and "step":

    train     loss, accuracy, grad_norm (means since the last such line), learning_rate,
              images_per_second, step_seconds, data_wait (share of the time in which the device
              waited for data), memory_gib (peak of a device, where it reports one), seconds (of
              training so far, all sittings together)
    evaluate  what the evaluation returned
    event     message: started, resumed, a checkpoint that failed, ...
"""

import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg_jax import files

FILE, TENSORBOARD = "metrics.jsonl", "tensorboard"
_log = logging.getLogger(__name__)


def read(run: Path) -> list[dict[str, Any]]:
    """Return the lines of RUN/metrics.jsonl; what a killed process left half written is skipped."""
    path = Path(run) / FILE
    lines = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def training_seconds(run: Path) -> float | None:
    """Return the wall time a run has been trained for, all sittings together; None if unknown."""
    return last(run, "train").get("seconds")


def pretraining(run: Path) -> str:
    """Return the weights that a run started from and what was done to them; empty if unknown."""
    found = [line for line in read(run) if isinstance(line.get("pretraining"), str)]
    return found[-1]["pretraining"] if found else ""


def last(run: Path, kind: str) -> dict[str, Any]:
    """Return the last line of a kind, empty if there is none."""
    return next((line for line in reversed(read(run)) if line["kind"] == kind), {})


class RunLog:
    """Writes metrics.jsonl and TensorBoard; does nothing where `active` is false.

    A log that cannot be written (a full disk) is reported once and does not end the run.
    """

    def __init__(self, run: Path, step: int, *, active: bool):
        """Open the log of a run that goes on after `step`; what was logged of later steps goes."""
        self._file = self._board = None
        self._failed = False
        self.seconds_before = 0.0
        if not active:
            return
        from tensorboardX import SummaryWriter  # late: a heavy import

        kept = [line for line in read(run) if line["step"] <= step] if step else []
        self.seconds_before = max((line.get("seconds", 0.0) for line in kept), default=0.0)
        files.write_text(run / FILE, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = (run / FILE).open("a", buffering=1)
        self._board = SummaryWriter(str(run / TENSORBOARD), purge_step=step + 1)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Append a line, and its numbers to TensorBoard."""
        if self._file is None:
            return
        try:
            self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{kind}/{name}", value, step)
        except OSError as error:
            if not self._failed:
                _log.warning("the log %s cannot be written any more: %s", self._file.name, error)
            self._failed = True

    def event(self, step: int, message: str) -> None:
        """Append a message."""
        self.write("event", step, {"message": message})

    def close(self) -> None:
        """Write out what is buffered."""
        for file in filter(None, (self._board, self._file)):
            # On a full disk this fails again; it must not hide the error that ends the run.
            with contextlib.suppress(OSError):
                file.close()
