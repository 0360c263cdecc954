"""Begins the sweep of test_sweep.py and is killed in a trial: python sweep_worker.py DIR TRIAL."""

import os
import signal
import sys
from pathlib import Path

from seg_jax import experiment, search_space
from seg_jax.sweep import search

SPACE = search_space.Space(
    {
        "optim.base_lr": search_space.LogUniform(1e-4, 1.0),
        "optim.momentum": search_space.Uniform(0.0, 0.99),
        "train.batch_size": search_space.Choice((4, 8, 16)),
    }
)


def toy(found, folder, report):
    """A smooth hill with its top at base_lr = 1e-2, momentum = 0.5, batch size 8."""
    import math

    report(1, 0.5)
    distance = (math.log10(found.optim.base_lr) + 2) ** 2 + (found.optim.momentum - 0.5) ** 2
    return 1 / (1 + distance + 0.1 * (found.train.batch_size != 8))


def main(folder: str, number: str) -> None:
    def killed(found, run, report):
        if run.name == f"trial-{number}":
            run.mkdir()
            (run / "half").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return toy(found, run, report)

    search.sweep(
        experiment.get("unet_synthetic"), SPACE, Path(folder), trials=7, run_trial=killed, seed=3
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
