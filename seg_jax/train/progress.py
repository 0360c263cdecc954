"""What the host does with finished steps, while the device works on the next."""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

from seg_jax import progress
from seg_jax.experiment import Experiment
from seg_jax.runs import log as logs
from seg_jax.train import compile_times


class _Sent(NamedTuple):
    """A step that was sent to the device."""

    number: int
    fetched: tuple[float, float]  # when its batch was asked for, and when it was there
    result: futures.Future  # of `_read`
    position: Any  # state of the iterator after its batch


def _read(metrics: Any) -> tuple[dict[str, float], float]:
    """Wait for a step; return its metrics, and when it was done."""
    values = jax.device_get(metrics)
    return {name: value.item() for name, value in values.items()}, time.monotonic()


class Report:
    """Reports finished steps, in order: log, progress bar, and the last good position.

    Attributes:
      log: of the run.
      position: state of the data iterator after the last step whose loss was finite.
      last: the last line of the log that describes a step, or the step that was not finite.
      meter: of the steps since the last line of the log.
    """

    def __init__(
        self,
        experiment: Experiment,
        log: logs.RunLog,
        open_bar: Callable[[], tqdm],
        position: Any,
        meter: Mapping[str, Any] | None = None,
    ):
        """Begin to report; `meter` is what an earlier session saved of its meter. `open_bar` begins
        the progress bar and its clock.
        """
        self.log, self.position, self.last = log, position, {}
        self._settings, self._open_bar = experiment.train, open_bar
        self._bar: tqdm | None = None
        self.meter = Meter(experiment.train.batch_size)
        self.meter.restore(meter or {})
        self._lost: dict[str, str] = {}
        self._began = time.monotonic()
        self._reader = futures.ThreadPoolExecutor(1)
        self._pending: collections.deque[_Sent] = collections.deque()
        self._fetched = (0.0, 0.0)

    def __enter__(self) -> "Report":
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.close()
        self._reader.shutdown()

    @contextlib.contextmanager
    def compiling(self, experiment: Experiment, *, shown: bool) -> Iterator[None]:
        """Around the call of the first step, which compiles it: say so, and how long it took the
        last time. The bar and its clock begin after it.
        """
        before = compile_times.last(experiment)
        known = before is not None  # 0: the process had compiled it already
        note = f"(about {before:.0f} s the last time)" if known else "(for the first time)"
        began = time.monotonic()
        with progress.waiting("compiling the training step", shown=shown, note=note):
            yield
        compile_times.keep(experiment, time.monotonic() - began)
        self._bar = self._open_bar()

    @contextlib.contextmanager
    def fetching(self) -> Iterator[None]:
        """Measure how long the next batch takes to arrive."""
        asked = time.monotonic()
        yield
        self._fetched = (asked, time.monotonic())

    def add(self, number: int, metrics: Any, *, position: Any) -> None:
        """Take the metrics of a step that was sent to the device, without waiting for them."""
        result = self._reader.submit(_read, metrics)
        self._pending.append(_Sent(number, self._fetched, result, position))

    def catch_up(self, *, leave: int) -> bool:
        """Report the steps sent so far but for the last `leave`, waiting until they are finished.

        Returns:
          Whether loss, gradient and new state of all were finite; the first that was not ends it.
        """
        while len(self._pending) > leave:
            if not self._finish(self._pending.popleft()):
                return False
        return True

    def seconds(self) -> float:
        """Wall time of this session."""
        return time.monotonic() - self._began

    def _finish(self, sent: _Sent) -> bool:
        """Report a step; return whether its loss, gradient and new state were finite."""
        metrics, done = sent.result.result()
        if self._bar is not None:
            self._bar.update()
        if not metrics.pop("finite"):
            self.last = {"step": sent.number, **metrics}
            return False
        self.position = sent.position
        rate = metrics.pop("learning_rate")
        self.meter.add(metrics, fetched=sent.fetched, done=done)
        if sent.number % self._settings.log_every == 0 or sent.number == self._settings.steps:
            self._write(sent.number, rate)
        return True

    def _write(self, number: int, rate: float) -> None:
        values = {**self.meter.take(), "learning_rate": rate}
        memory = device_memory_gib()
        if memory is not None:
            values["memory_gib"] = memory
        values["seconds"] = self.log.seconds_before + self.seconds()
        self.log.write("train", number, values)
        self.last = values
        shown = f"loss {values['loss']:.4g}"
        if "images_per_second" in values:  # both of the same steps
            shown += (
                f", {values['images_per_second']:.3g} img/s, {values['step_seconds']:.3g} s/step"
            )
        if self._bar is not None:
            self._bar.set_postfix_str(shown, refresh=False)
        for name, why in progress.lost.items() - self._lost.items():
            self.log.event(number, f"{name} cannot be written ({why}): progress is not shown there")
        self._lost = dict(progress.lost)


def progress_bar(experiment: Experiment, start: int, *, shown: bool) -> tqdm:
    """Return the bar over all steps of a run that goes on after `start`."""
    return progress.bar(
        total=experiment.train.steps,
        initial=start,
        desc=experiment.name or "training",
        unit="step",
        shown=shown,
        leave=True,
        dynamic_ncols=True,
        smoothing=0,  # the time left is estimated from all steps since the bar began
        bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
    )


_METER = ("sums", "count", "timed", "elapsed", "waited")


class Meter:
    """Means of the metrics, throughput and waiting time since the last `take`."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._done: float | None = None  # when the device finished the last step
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = self._timed = 0
        self._elapsed = self._waited = 0.0

    def add(
        self, metrics: Mapping[str, float], *, fetched: tuple[float, float], done: float
    ) -> None:
        """Count a step.

        Its time begins when the device is done with the step before, but not before the host asks
        for its batch, which excludes checkpointing and evaluation. From there until the batch
        arrives, the device waits for data. The first step is not timed: it is compiled.

        Args:
          metrics: of the step.
          fetched: when its batch was asked for, and when it was there.
          done: when the device finished it.
        """
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if self._done is not None:
            asked, there = fetched
            begin = max(self._done, asked)
            self._timed += 1
            self._elapsed += done - begin
            self._waited += max(0.0, there - begin)
        self._done = done

    def state(self) -> dict[str, Any]:
        """Return what was counted since the last `take`, JSON data."""
        return {name: getattr(self, f"_{name}") for name in _METER}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on counting where another session was; of other data, nothing is taken."""
        sums = state.get("sums")
        numbers = [state.get(name) for name in _METER[1:]]
        if isinstance(sums, dict) and all(
            type(x) in (int, float) for x in (*sums.values(), *numbers)
        ):
            for name in _METER:
                setattr(self, f"_{name}", dict(sums) if name == "sums" else state[name])

    def take(self) -> dict[str, float]:
        """Return means and rates, and begin again; no rates before a second step."""
        values = {name: total / self._count for name, total in self._sums.items()}
        if self._elapsed > 0:
            values["images_per_second"] = self._timed * self._batch_size / self._elapsed
            values["step_seconds"] = self._elapsed / self._timed
            values["data_wait"] = self._waited / self._elapsed
        self._reset()
        return values


def device_memory_gib() -> float | None:
    """Return the peak memory in use of the local device with the highest, None if unreported."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [entry["peak_bytes_in_use"] for entry in stats if "peak_bytes_in_use" in entry]
    return max(peaks) / 2**30 if peaks else None
