"""For measurements that run at the same time: all compile at once, then each measures alone."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import processes

GO = "go"  # file in the folder of those that take turns: compiling is over


@contextlib.contextmanager
def alone(folder: Path | None) -> Iterator[None]:
    """Say that this process has compiled, wait until all have, and then for one's turn.

    Args:
      folder: that the processes share; None: nobody else measures.
    """
    if folder is None:
        yield
        return
    (folder / f"ready_{os.getpid()}").touch()
    while not (folder / GO).exists():
        time.sleep(0.05)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def measure(
    jobs: Mapping[str, Sequence[str]],
    work: Path,
    *,
    compile_seconds: float,
    report: Callable[[Mapping[str, str]], None],
) -> dict[str, int | None]:
    """Run processes that take turns; return their exit codes.

    What has not compiled in time is ended, so that nothing disturbs those that measure.

    Args:
      jobs: words after the interpreter's name; `--turns FOLDER` is added.
      work: for their logs.
      compile_seconds: after which those measure that are ready.
      report: called all the while with the state of each, and of the compilation.
    """
    folder = work / "turns"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    started = time.monotonic()
    running = {
        name: processes.start([*words, "--turns", str(folder)], work / f"{name}.log")
        for name, words in jobs.items()
    }
    states = dict.fromkeys(running, "compiling")

    def look() -> None:
        seconds = time.monotonic() - started
        ready = {path.name for path in folder.glob("ready_*")}
        alive = [name for name, process in running.items() if process.poll() is None]
        waiting = [name for name in alive if f"ready_{running[name].pid}" not in ready]
        for name, process in running.items():
            if process.poll() is not None and states[name] in ("compiling", "measuring"):
                states[name] = "done" if process.returncode == 0 else f"code {process.returncode}"
        if not (folder / GO).exists() and (not waiting or seconds > compile_seconds):
            for name in alive:
                states[name] = "measuring"
            for name in waiting:
                running[name].kill()
                states[name] = f"not compiled within {compile_seconds:.0f} s"
            for name in waiting:
                running[name].wait()
            states["all of them"] = f"compiled side by side in {seconds:.0f} s"
            (folder / GO).touch()
        report(states)

    return processes.wait(running, look, every=1)
