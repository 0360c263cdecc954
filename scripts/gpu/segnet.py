"""SegNet-Basic on CamVid from scratch, in bfloat16, for as many steps as there is time.

    python scripts/gpu/segnet.py --data CAMVID --work FOLDER [--seconds 105]

The recipe's rate is constant but for its last 250 steps, at rate 0, in which the norms' averages
settle. So a first training of 500 steps measures how fast steps are, and it is then extended to as
many as will have ended in time, and scored on `test`.
"""

import argparse
import dataclasses
import shutil
import time
from pathlib import Path

NAME = "segnet_basic_camvid"


def main() -> None:
    """Measure, train, score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=105, help="of training, start included")
    parser.add_argument("--tiny", action="store_true", help="a few steps of 2 images of 96 px")
    options = parser.parse_args()
    started = time.monotonic()

    from seg_jax import experiment, parallel
    from seg_jax.evaluation.run import evaluate_run
    from seg_jax.train import loop

    parallel.prepare_process()
    chosen = experiment.get(NAME)
    train = dataclasses.replace(chosen.train, precision="bfloat16", checkpoint_every=500)
    data = dataclasses.replace(chosen.data, root=options.data)
    schedule = chosen.optim.schedule
    if options.tiny:
        train = dataclasses.replace(train, batch_size=2, log_every=1)
        data = dataclasses.replace(
            data, augmentation=dataclasses.replace(data.augmentation, crop=(96, 96))
        )
        schedule = dataclasses.replace(schedule, settle=1)
    optim = dataclasses.replace(chosen.optim, schedule=schedule)
    chosen = dataclasses.replace(chosen, data=data, optim=optim)

    run = options.work / NAME
    shutil.rmtree(run, ignore_errors=True)
    first, command = 2 * schedule.settle, "scripts/gpu.sh segnet"
    steps = first
    for _ in range(2):
        planned = dataclasses.replace(chosen, train=dataclasses.replace(train, steps=steps))
        done = loop.fit(planned, run, command=command, extend=True)
        seconds = train.batch_size / done.metrics["images_per_second"]
        left = options.seconds - (time.monotonic() - started)
        more = first if options.tiny else int(left / seconds)
        steps = min(chosen.train.steps, max(steps, first + more))
    record = evaluate_run(run, split="test", command=command)
    score = record.metrics["mean_iou"]
    text = (
        f"{NAME}: {done.step} of the recipe's {chosen.train.steps} steps of {train.batch_size} "
        f"images, {1e3 * seconds:.1f} ms a step; mIoU on {record.data.description}: "
        f"{100 * score:.1f}\n"
    )
    (options.work / "summary.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
