"""The suite `controlled`, all heads at the same time on one device.

    python scripts/gpu/controlled.py --data CAMVID --work FOLDER [--seeds 3]

At 257 px and batches of 8 a step keeps a large GPU busy for milliseconds; what takes the time is to
compile each head's programs, to augment its images and to score its boundaries, all of them on the
host's cores. So each head has a process, and all of them share the device. They step back for each
other (`nice`) in the order of HEADS, and further seeds for first ones: if time runs out, it is the
last ones that lack something. Further seeds run in their head's process, with its compiled
programs. Ended runs have their records as `reproduce controlled` writes them, into the folders that
it would use; the others keep a checkpoint, and the same command goes on with them.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import processes

# Those first that say most: the heads of the line, then their variants.
HEADS = (
    "deeplab_v3plus", "deeplab_v3", "fcn8s", "unet", "pspnet", "gcn", "deeplab_v2",
    "deeplab_v1_largefov", "fcn32s",
)  # fmt: skip
NAME = "{}_mobilenetv2_camvid"
# Products by cuBLAS alone: XLA's Triton form of one in v3+'s upsampling does not compile for a
# described H100 (jax 0.10.2), and nine processes do not have to try what else there is.
FLAGS = {"XLA_FLAGS": "--xla_gpu_enable_triton_gemm=false"}


def train(head: str, options: argparse.Namespace) -> None:
    """Train and score a head with every seed; in a process of its own."""
    from seg_jax import parallel, reproduce
    from seg_jax.reproduce import plan

    parallel.prepare_process()
    runs, _ = plan.runs("controlled", options.work, seeds=options.seeds, root=options.data)
    for run in runs:
        if run.experiment.name != NAME.format(head):
            continue
        if run.experiment.train.seed == 1:
            os.nice(10)
        if options.steps:
            half = max(1, options.steps // 2)
            fewer = dataclasses.replace(
                run.experiment.train,
                steps=options.steps,
                evaluate_every=half,
                checkpoint_every=half,
                log_every=1,
            )
            run = dataclasses.replace(
                run, experiment=dataclasses.replace(run.experiment, train=fewer)
            )
        if not run.is_scored():
            reproduce.train_and_score(run, "scripts/gpu.sh controlled", options.data)


def report(heads: Sequence[str], options: argparse.Namespace) -> None:
    """Write summary.md: what each run has reached."""
    lines = ["| run | step | images/s | mIoU on val, by step | test |", "|---|---:|---:|---|---:|"]
    for seed in range(options.seeds):
        for head in heads:
            name = NAME.format(head) + (f"_seed{seed}" if seed else "")
            lines.append(_row(name, options.work / name))
    text = "\n".join(line for line in lines if line) + "\n"
    unfinished = options.work / "summary.md.unfinished"
    unfinished.write_text(text)
    unfinished.replace(options.work / "summary.md")


def _row(name: str, folder: Path) -> str:
    from seg_jax.runs import log as run_log

    record = folder / "result_test.json"
    if not (folder / run_log.FILE).exists():
        return "" if "_seed" in name else f"| {name} | not begun | | | |"
    lines = run_log.read(folder)
    steps = [line for line in lines if line.get("kind") == "train"]
    scores = {
        line["step"]: line["mean_iou"]
        for line in lines
        if line.get("kind") == "evaluate" and isinstance(line.get("mean_iou"), float)
    }
    curve = ", ".join(f"{step}: {100 * score:.1f}" for step, score in scores.items())
    last = steps[-1] if steps else {}
    rate = last.get("images_per_second")
    test = ""
    if record.exists():
        test = f"{100 * json.loads(record.read_text())['metrics']['mean_iou']:.1f}"
    speed = f"{rate:.0f}" if isinstance(rate, int | float) else ""
    return f"| {name} | {last.get('step', 0)} | {speed} | {curve} | {test} |"


def main() -> None:
    """Start the processes, and keep the table of what they have reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CamVid's folder")
    parser.add_argument("--work", type=Path, required=True, help="for the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--heads", nargs="+", default=HEADS, choices=HEADS)
    parser.add_argument("--only", help="train this head, in this process")
    parser.add_argument("--steps", type=int, help="fewer steps, for a rehearsal")
    options = parser.parse_args()
    if options.only:
        return train(options.only, options)
    heads = options.heads
    running = {
        head: processes.start(
            [__file__, *sys.argv[1:], "--only", head],
            options.work / f"{head}.log",
            nice=min(9, index),
            env=FLAGS,
        )
        for index, head in enumerate(heads)
    }
    codes = processes.wait(running, lambda: report(heads, options))
    failed = {head: code for head, code in codes.items() if code}
    if failed:
        with (options.work / "summary.md").open("a") as summary:
            summary.write(f"\nended otherwise than well: {failed} (75: saved at the time limit)\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
