"""`fit` in a process of its own, which tests can kill: fit_worker.py ROOT WORKDIR STEPS PAUSE."""

import os
import sys
import time
from pathlib import Path

import tiny

from seg_jax import checks, parallel
from seg_jax.experiment import Experiment
from seg_jax.train import loop


def make_experiment(root: Path, *, steps: int) -> Experiment:
    return tiny.experiment(
        model=tiny.voc_model(dropout=0.5),
        root=root,
        steps=steps,
        checkpoint_every=3,
        evaluate_every=1,
    )


def main(root: str, workdir: str, steps: str, pause: str) -> int:
    parallel.enable_compilation_cache()
    if "SEG_JAX_COORDINATOR" in os.environ:
        parallel.initialize_distributed()
    experiment = make_experiment(Path(root), steps=int(steps))

    def wait(experiment, variables, step):
        time.sleep(float(pause))
        return {}

    try:
        loop.fit(experiment, Path(workdir), evaluate=wait)
    except checks.UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
