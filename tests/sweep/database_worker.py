"""One worker of the sweep of test_database.py: python database_worker.py DIR URL SAMPLER HOLD.

With HOLD it stays in the middle of its first trial until it is ended.
"""

import os
import signal
import sys
import time
from pathlib import Path

from seg_jax import experiment, search_space
from seg_jax.sweep import search, storage

SPACE = search_space.Space(
    {
        "optim.base_lr": search_space.LogUniform(1e-4, 1.0, points=4),
        "train.batch_size": search_space.Choice((4, 8)),
    }
)
TRIALS = 8
MIDDLE = 4


def work(found, run, report):
    """Ten steps, each kept on disk: who continues a run does only those that are left."""
    run.mkdir(exist_ok=True)
    for step in range(1, 11):
        if not (run / f"step{step}").exists():
            time.sleep(0.03)
            (run / f"step{step}").write_text(str(os.getpid()))
            report(step, 0.5)
            while sys.argv[4:] == ["hold"] and step == MIDDLE:
                time.sleep(0.1)
    with (run / "ended").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return 1 / (1 + found.optim.base_lr + 0.01 * found.train.batch_size)


def sweep(folder, url="", sampler="grid"):
    return search.sweep(
        experiment.get("unet_synthetic"), SPACE, Path(folder), trials=TRIALS, run_trial=work,
        sampler=sampler, url=url, pruner="none", say=lambda line: None,
    )  # fmt: skip


if __name__ == "__main__":
    storage.HEARTBEAT_SECONDS = 1  # on a busy machine beats are late, so GRACE_SECONDS stays
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    place = Path(sys.argv[1])
    (place / f"ready-{os.getpid()}").touch()
    while len(list(place.glob("ready-*"))) < 3:  # imports take their time on a busy machine
        time.sleep(0.02)
    sweep(*sys.argv[1:4])
