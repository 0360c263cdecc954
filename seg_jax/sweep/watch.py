"""What a sweep of several workers shows while it runs: what ended, and a line a running trial."""

from collections.abc import Callable
from pathlib import Path

from seg_jax import progress
from seg_jax.checks import UserError
from seg_jax.runs import log
from seg_jax.sweep import promote, search


def watcher(workdir: Path, url: str, trials: int) -> Callable[[], None]:
    """Return a function that prints which trials have ended since its last call and, on a terminal,
    draws a line for each that runs. Those that ended before the first call are not told of.

    Args:
      workdir: of the sweep.
      url: of the storage, if it is not in the folder.
      trials: that are to end.
    """
    block, told = progress.Block(), {trial.run for trial in promote.read(workdir, url).trials}

    def look() -> None:
        try:
            found = promote.read(workdir, url)
        except UserError:  # a storage that does not answer just now: the workers try again
            return
        for trial in found.trials:
            if trial.run not in told:
                told.add(trial.run)
                block.say(f"[{len(told)}/{trials}] {search.line(trial)}")
        block.draw([running_line(workdir, *trial) for trial in found.running])

    return look


def running_line(workdir: Path, name: str, values: dict, reported: dict[int, float]) -> str:
    """Return what a running trial has done: step and loss where its folder is here, its last score,
    and its values.
    """
    train = log.latest(workdir / name, "train")
    step, loss = train.get("step"), train.get("loss")
    done = f"step {step:>6}" if step is not None else "begins     "
    if isinstance(loss, float):
        done += f"  loss {loss:.3g}"
    last = max(reported, default=None)
    score = "" if last is None else f"  mIoU {100 * reported[last]:.2f} at {last} %"
    return f"  {name}  running   {done}{score}  {search.values_as_text(values)}"
