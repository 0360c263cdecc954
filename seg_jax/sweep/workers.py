"""Several workers of a sweep on one machine: processes that repeat its command."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from seg_jax.checks import UserError

VARIABLE = "SEG_JAX_SWEEP_WORKER"  # its number, in a worker's environment


def is_worker() -> bool:
    """Whether this process was started by `run`."""
    return VARIABLE in os.environ


def devices() -> list[dict[str, str]]:
    """Return, for each accelerator of this machine, the variables that show a process only it.

    GPUs by CUDA_VISIBLE_DEVICES; TPU chips by the variables that libtpu documents. Empty: none.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        gpus = [name for name in chosen.split(",") if name]
    else:
        gpus = [str(n) for n in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
    if gpus:
        return [{"CUDA_VISIBLE_DEVICES": name} for name in gpus]
    one = {"TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1", "TPU_PROCESS_BOUNDS": "1,1,1"}
    chips = range(len(list(Path("/dev").glob("accel[0-9]*"))))
    return [{"TPU_VISIBLE_DEVICES": str(number), **one} for number in chips]


def run(count: int, args: Sequence[str]) -> None:
    """Run `sweep ARGS` in `count` processes, each on an accelerator of its own where there are
    several, and wait for them. Signals are passed on.

    Raises:
      UserError: a worker ended with an error.
      SystemExit: a signal ended them.
    """
    found = devices()
    processes = []
    for number in range(count):
        own = found[number % len(found)] if len(found) > 1 else {}
        environment = {**os.environ, VARIABLE: str(number), **own}
        command = [sys.executable, "-m", "seg_jax", "sweep", *args]
        processes.append(subprocess.Popen(command, env=environment))

    received: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        received.append(number)
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        codes = [process.wait() for process in processes]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise SystemExit(max(codes) if max(codes) > 0 else 128 + received[0])
    bad = {number: code for number, code in enumerate(codes) if code}
    if len(bad) == count:
        raise UserError(f"the workers ended with {bad}; the first error is printed above")
