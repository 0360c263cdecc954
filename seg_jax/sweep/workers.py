"""Several workers of a sweep on one machine: processes that repeat its command."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from seg_jax import files, progress
from seg_jax.checks import UserError

_LOOK_SECONDS = 5.0
_GPUS = "CUDA_VISIBLE_DEVICES"
VARIABLE = "SEG_JAX_SWEEP_WORKER"  # its number, in a worker's environment


def is_worker() -> bool:
    """Whether this process was started by `run`."""
    return VARIABLE in os.environ


def devices() -> list[dict[str, str]]:
    """Return, for each accelerator of this machine, the variables that show a process only it.

    GPUs by CUDA_VISIBLE_DEVICES; TPU chips by the variables that libtpu documents. Empty: none.
    """
    chosen = os.environ.get(_GPUS)
    if chosen is not None:
        gpus = [name for name in chosen.split(",") if name]
    else:
        gpus = [str(n) for n in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
    if gpus:
        return [{_GPUS: name} for name in gpus]
    one = {"TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1", "TPU_PROCESS_BOUNDS": "1,1,1"}
    chips = range(len(list(Path("/dev").glob("accel[0-9]*"))))
    return [{"TPU_VISIBLE_DEVICES": str(number), **one} for number in chips]


def share_the_host() -> None:
    """Leave other tasks of this host under SLURM their GPUs.

    SLURM shows every task all GPUs that the job has on a host. Of several tasks, each of which is a
    worker of the sweep, this one takes every n-th; of more tasks than GPUs, several share one. Must
    come before JAX looks for devices.
    """
    number, tasks = os.environ.get("SLURM_LOCALID"), _tasks_here()
    gpus = [one[_GPUS] for one in devices() if _GPUS in one]
    if not is_worker() and number is not None and tasks > 1 and len(gpus) > 1:
        os.environ[_GPUS] = ",".join(gpus[int(number) % len(gpus) :: tasks])


def _tasks_here() -> int:
    """Return this step's tasks on this host: SLURM writes "2(x3),1" for 2, 2, 2 and 1."""
    counts: list[int] = []
    for count, times in re.findall(
        r"(\d+)(?:\(x(\d+)\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    ):
        counts += [int(count)] * int(times or 1)
    host = int(os.environ.get("SLURM_NODEID", 0))
    return counts[host] if host < len(counts) else 1


def log_of(workdir: Path, number: int) -> Path:
    """Return the file that receives what a worker prints."""
    return workdir / f"worker-{number}.log"


def run(count: int, args: Sequence[str], workdir: Path, look: Callable[[], None]) -> None:
    """Run `sweep ARGS` in `count` processes, each on an accelerator of its own where there are
    several, and wait for them. Signals are passed on.

    Args:
      count: of processes.
      args: of the sweep's command.
      workdir: of the sweep; `log_of` it receives what each worker prints.
      look: called every five seconds, to show how far they are.

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
        with log_of(workdir, number).open("ab") as log:
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    received: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        received.append(number)
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while any(process.poll() is None for process in processes):
            time.sleep(_LOOK_SECONDS)
            look()
        codes = [process.wait() for process in processes]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise SystemExit(max(codes) if max(codes) > 0 else 128 + received[0])
    bad = {number: code for number, code in enumerate(codes) if code}
    if len(bad) == count:
        raise UserError(f"the workers ended with {bad}: {_last_words(log_of(workdir, 0))}")
    for number, code in bad.items():
        progress.say(
            f"worker {number} ended with {code}: {_last_words(log_of(workdir, number))}; "
            "the others did its trials",
            error=True,
        )


def _last_words(log: Path) -> str:
    """Return the last line that a worker printed, with the file's name."""
    with files.open_regular(log) as stream:
        stream.seek(max(0, log.stat().st_size - 4096))
        lines = stream.read().decode("utf-8", "replace").strip().splitlines()
    return f"{lines[-1]:.300} ({log})" if lines else f"it printed nothing ({log})"
