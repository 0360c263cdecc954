"""Processes side by side, for stages that compile several programs at once on one device."""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def start(
    words: Sequence[str], log: Path, *, nice: int = 0, env: Mapping[str, str] | None = None
) -> subprocess.Popen:
    """Start this interpreter with some words; its output goes to a file.

    Args:
      words: after the interpreter's name.
      log: the file.
      nice: how far it steps back for the others, 0 to 19.
      env: variables beside this process's.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )
    os.setpriority(os.PRIO_PROCESS, process.pid, nice)
    return process


def wait(
    processes: Mapping[str, subprocess.Popen], report: Callable[[], None], *, every: float = 5
) -> dict[str, int | None]:
    """Wait until all have ended, reporting meanwhile; return their exit codes.

    SIGTERM, which the processes get as well (they are of one group), ends this soon: what has not
    ended after a few seconds has the code None.
    """
    deadline: list[float] = []
    former = signal.signal(signal.SIGTERM, lambda *_: deadline.append(time.monotonic() + 8))
    last = 0.0
    while any(process.poll() is None for process in processes.values()):
        if deadline and time.monotonic() > deadline[0]:
            break
        if time.monotonic() - last > every:
            _try(report)
            last = time.monotonic()
        time.sleep(0.1)
    _try(report)
    signal.signal(signal.SIGTERM, former)
    return {name: process.poll() for name, process in processes.items()}


def _try(report: Callable[[], None]) -> None:
    """Report; what goes wrong in it (a file that is being written) ends no measurement."""
    try:
        report()
    except Exception:
        traceback.print_exc()
