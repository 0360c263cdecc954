"""SIGTERM: the state is saved, then the run ends."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils


class Terminated(SystemExit):
    """SIGTERM came and the state was saved; ends the program with exit code 1."""


@contextlib.contextmanager
def watch() -> Iterator[Callable[[int], bool]]:
    """Yield a function that says, after a step, whether SIGTERM came, alike on all processes."""
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    if threading.current_thread() is not threading.main_thread():  # only it may handle signals
        yield lambda number: False
        return
    came = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield lambda number: came.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)
