"""`fit` in a process of its own, which tests can kill: fit_worker.py ROOT WORKDIR STEPS PAUSE.

FAULT="KIND@STEP" injects a fault into this process after a step (process FAULT_PROCESS of several).
"""

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path

import jax
import tiny

from seg_jax import checks, parallel
from seg_jax.data import pipeline
from seg_jax.experiment import Experiment
from seg_jax.runs import checkpoint
from seg_jax.train import loop, termination


def make_experiment(root: Path, *, steps: int) -> Experiment:
    return tiny.experiment(
        model=tiny.voc_model(dropout=0.5),
        root=root,
        steps=steps,
        checkpoint_every=3,
        evaluate_every=1,
    )


def full_disk() -> None:
    """No file may grow beyond one byte, as if the disk was full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def inject(kind: str) -> None:
    if kind == "error":
        raise checks.UserError("p3.jpg: cannot be decoded")
    if kind == "crash":
        raise TypeError("a bug")
    if kind == "full":
        full_disk()
    elif kind == "block":  # inside a library, where no signal is heard
        lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
        lock(mutex)
        print("in a library", flush=True)
        lock(mutex)
    else:
        os.kill(os.getpid(), getattr(signal, kind))


def data_error_at(step: int) -> None:
    """The batch of a step cannot be read."""
    following = pipeline.TrainIterator.__next__

    def broken(self):
        if self.get_state()["next_batch"] == step - 1:
            raise checks.UserError("p3.png: label value 77")
        return following(self)

    pipeline.TrainIterator.__next__ = broken


def block_saving_at(step: int) -> None:
    """A disk that does not answer while a checkpoint is written."""
    save = checkpoint.save

    def blocked(run, state, **options):
        if int(state.step) == step:
            time.sleep(1000)
        save(run, state, **options)

    checkpoint.save = blocked


def main(root: str, workdir: str, steps: str, pause: str) -> int:
    # A shell without job control has its background processes, perhaps pytest, ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parallel.enable_compilation_cache()
    if "SEG_JAX_COORDINATOR" in os.environ:
        parallel.initialize_distributed()
    experiment = make_experiment(Path(root), steps=int(steps))
    kind, _, at = os.environ.get("FAULT", "").partition("@")
    if str(jax.process_index()) != os.environ.get("FAULT_PROCESS", "0"):
        kind = ""
    if kind == "data":
        data_error_at(int(at))
    if kind == "saving":
        block_saving_at(int(at))
        termination._SAVING_SECONDS = 2.0
    if "GRACE" in os.environ:
        termination.GRACE_SECONDS = float(os.environ["GRACE"])

    def wait(experiment, variables, step):
        if kind not in ("", "data", "saving") and step == int(at):
            inject(kind)
        time.sleep(float(pause))
        return {}

    try:
        loop.fit(experiment, Path(workdir), evaluate=wait, command="fit again")
    except checks.UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except termination.Stopped as error:
        print(error, file=sys.stderr)
        return int(error.code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
