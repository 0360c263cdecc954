"""What the host does with finished steps, while the device works on the next."""

import sys
import time
from concurrent import futures
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

from seg_jax import logs
from seg_jax.experiment import Experiment


class Sent(NamedTuple):
    """A step that was sent to the device."""

    number: int
    fetched: tuple[float, float]  # when its batch was asked for, and when it was there
    result: futures.Future  # of `read`
    position: Any  # state of the iterator after its batch


def read(metrics: Any) -> tuple[dict[str, float], float]:
    """Wait for a step; return its metrics, and when it was done."""
    values = jax.device_get(metrics)
    return {name: value.item() for name, value in values.items()}, time.monotonic()


class Report:
    """Tells of finished steps, in order: log, progress bar, and the last good position."""

    def __init__(self, experiment: Experiment, log: logs.RunLog, bar: tqdm, position: Any):
        self.log, self.position, self.last = log, position, {}
        self._settings, self._bar = experiment.train, bar
        self._meter = logs.Meter(experiment.train.batch_size)
        self._began = time.monotonic()

    def seconds(self) -> float:
        """Wall time of this sitting."""
        return time.monotonic() - self._began

    def finish(self, sent: Sent) -> bool:
        """Report a step; return whether its loss and gradient were finite."""
        metrics, done = sent.result.result()
        self._bar.update()
        if not metrics.pop("finite"):
            self.last = {"step": sent.number, **metrics}
            return False
        self.position = sent.position
        rate = metrics.pop("learning_rate")
        self._meter.add(metrics, fetched=sent.fetched, done=done)
        if sent.number % self._settings.log_every == 0 or sent.number == self._settings.steps:
            self._write(sent.number, rate)
        return True

    def _write(self, number: int, rate: float) -> None:
        values = {**self._meter.take(), "learning_rate": rate}
        memory = logs.device_memory_gib()
        if memory is not None:
            values["memory_gib"] = memory
        values["seconds"] = self.log.seconds_before + self.seconds()
        self.log.write("train", number, values)
        self.last = values
        shown = {"loss": f"{values['loss']:.4g}"}
        if "images_per_second" in values:
            shown["img/s"] = f"{values['images_per_second']:.1f}"
        self._bar.set_postfix(shown, refresh=False)


def progress_bar(experiment: Experiment, start: int, *, shown: bool) -> tqdm:
    """Return the bar over all steps of a run that goes on after `start`."""
    interval = 0.1 if sys.stderr.isatty() else 30.0  # a log file gets a line now and then
    return tqdm(
        total=experiment.train.steps,
        initial=start,
        desc=experiment.name or "training",
        unit="step",
        mininterval=interval,
        disable=not shown,
        dynamic_ncols=True,
    )
