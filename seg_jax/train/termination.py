"""Every way of being stopped saves: SIGINT, SIGTERM, SIGHUP and SIGUSR1 (SLURM's early warning).

The step at work is finished, the state saved, and the run ends with exit code `SAVED`. A second
signal changes nothing, a third ends the process at once. Where there is nothing to save (a program
is being compiled, or a saved state evaluated) the run ends without waiting. A run that is blocked,
in a disk or network that does not answer, is ended after `GRACE_SECONDS`.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from seg_jax import progress
from seg_jax.train import peers as other_processes

SAVED = 75  # EX_TEMPFAIL: stopped and saved; the same command goes on
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
GRACE_SECONDS = 60.0  # or three times the longest step, if that is more
_SAVING_SECONDS = 600.0
_IDLE_SECONDS = 5.0  # where nothing is to be saved, but the main thread does not listen

Phase = Literal["starting", "training", "saving", "evaluating", "ending"]


class Stopped(SystemExit):
    """A signal ended the run; the exit code is SAVED, or 128 + signal if nothing was saved.

    Attributes:
      message: one line: what is kept, and the command that goes on.
      agreed: all processes of the run end in this way.
    """

    def __init__(self, code: int, message: str):
        super().__init__(code)
        self.message, self.agreed = message, False

    def __str__(self) -> str:
        return self.message


class Watch:
    """Knows whether a signal came, and what is lost if the run ends now.

    Attributes:
      saved: the newest step that is saved, None: none is.
    """

    def __init__(self, run: Path, command: str, peers: other_processes.Peers | None):
        self.saved: int | None = None
        self._run, self._command, self._peers = run, command, peers
        self._phase: Phase = "starting"
        self._signal: signal.Signals | None = None
        self._count, self._step = 0, 0
        self._stepped = self._longest_step = 0.0

    def __call__(self, number: int) -> bool:
        """Return, after a step was sent to the device, whether to stop; all processes agree."""
        now = time.monotonic()
        if self._phase == "training":
            self._longest_step = max(self._longest_step, now - self._stepped)
        self._stepped, self._phase, self._step = now, "training", number
        wanted = self._signal.name if self._signal else None
        if self._peers is None:
            return wanted is not None
        return self._peers.agree_to_stop(number, wanted)

    @contextlib.contextmanager
    def saving(self, step: int) -> Iterator[None]:
        """Mark a checkpoint that is being written: it has more time."""
        before, self._phase = self._phase, "saving"
        self._stepped = time.monotonic()
        try:
            yield
            self.saved = step
        finally:
            self._phase, self._stepped = before, time.monotonic()

    @contextlib.contextmanager
    def evaluating(self, step: int) -> Iterator[None]:
        """Mark an evaluation, which a signal ends at once; the next session repeats it.

        Several processes finish it: they can stop together only between two steps.
        """
        before, self._phase = self._phase, "evaluating"
        self._step = step
        try:
            if self._signal and self._idle():
                raise self.stopped()
            yield
        finally:
            self._phase, self._stepped = before, time.monotonic()

    def stopped(self) -> Stopped:
        """Return what ends the run, after the state was saved or where nothing is to be saved."""
        self._phase = "ending"
        agreed = self._peers.stop_reason if self._peers else ""
        why = self._signal.name if self._signal else agreed
        again = f"`{self._command}`" if self._command else "the same command"
        if self.saved is not None:
            return Stopped(
                SAVED, f"{self._run}: {why}, saved at step {self.saved}; {again} goes on from there"
            )
        code = 128 + (self._signal or signal.SIGTERM)
        return Stopped(code, f"{self._run}: {why} before anything was saved; {again} begins anew")

    def _idle(self) -> bool:
        """Whether nothing is lost by leaving what is done now."""
        alone = self._peers is None
        return self._phase == "starting" or (self._phase == "evaluating" and alone)

    def handle(self, number: int, _frame: object) -> None:
        """Handle a signal, in the main thread between two of Python's instructions."""
        self._count += 1
        if self._count >= 3:
            os._exit(128 + number)
        self._signal = self._signal or signal.Signals(number)
        if self._phase != "ending" and self._idle():
            raise self.stopped()

    def observe(self, wakeups: int) -> None:
        """End the process if the main thread, which may be inside a library, does not do so."""
        count, deadline = 0, None
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([wakeups], [], [], left)
            for number in os.read(wakeups, 64) if ready else ():
                if number not in SIGNALS:  # zero: the watch is over
                    return
                count += 1
                self._signal = self._signal or signal.Signals(number)
                if count >= 3:
                    os._exit(128 + number)
            deadline = time.monotonic() + self._patience() if deadline is None else deadline
            if self._phase == "saving":
                deadline = max(deadline, self._stepped + _SAVING_SECONDS)
            if time.monotonic() >= deadline:
                self._give_up()

    def _patience(self) -> float:
        saved = self._phase != "evaluating" or self.saved == self._step
        if self._phase == "ending" or (self._idle() and saved):
            return _IDLE_SECONDS
        return max(GRACE_SECONDS, 3 * self._longest_step)

    def _give_up(self) -> None:
        stopped = self.stopped()
        progress.say(f"\n{stopped.message} (it did not answer)", error=True)
        if self._peers is not None:
            self._peers.publish(int(stopped.code or 0), stopped.message)
        os._exit(int(stopped.code or 0))


@contextlib.contextmanager
def watch(
    run: Path, command: str = "", peers: other_processes.Peers | None = None
) -> Iterator[Watch]:
    """Watch for signals while a run is trained; afterwards they do what they did before.

    Args:
      run: the run folder, for messages.
      command: that goes on with the run, for messages.
      peers: the other processes that train with this one; None: there are none.
    """
    watching = Watch(run, command, peers)
    if threading.current_thread() is not threading.main_thread():  # only it may handle signals
        yield watching
        return
    # What nohup or a shell without job control ignores stays ignored.
    handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, watching.handle) for number in handled}
    wakeups, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    previous = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    # In a notebook or at a prompt, ending the process would take more than this run.
    observer = None
    if not hasattr(sys, "ps1"):
        observer = threading.Thread(target=watching.observe, args=(wakeups,), daemon=True)
        observer.start()
    try:
        yield watching
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(wake, b"\0")
        if observer:
            observer.join()
        os.close(wake)
        os.close(wakeups)
