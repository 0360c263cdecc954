"""Train the quick U-Net twice under deterministic operations, and compare every weight.

python scripts/gpu/deterministic.py --work FOLDER [--steps 50]
"""

import argparse
import shutil
import sys
from pathlib import Path

import processes

NAME = "unet_synthetic"
FLAG = {"XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}


def compare(first: Path, second: Path) -> str:
    """Return in words whether two runs have the same weights."""
    import jax
    import numpy as np

    from seg_jax.runs import checkpoint

    trees = [checkpoint.restore_variables(run, "newest")[1] for run in (first, second)]
    leaves = [jax.tree.leaves(tree) for tree in trees]
    same = [np.array_equal(a, b) for a, b in zip(*leaves, strict=True)]
    words = "the same bits" if all(same) else "they differ"
    return f"{sum(same)} of {len(same)} arrays are equal: {words}"


def main() -> None:
    """Train twice, one after the other: the second finds the compiled programs of the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    runs = [options.work / "first", options.work / "second"]
    for run in runs:
        shutil.rmtree(run, ignore_errors=True)
        words = ["-m", "seg_jax", "train", NAME, "--train.steps", str(options.steps)]
        words += ["--workdir", str(run), "--init", "none"]
        log = options.work / f"{run.name}.log"
        codes = processes.wait({run.name: processes.start(words, log, env=FLAG)}, lambda: None)
        if any(codes.values()):
            sys.exit(f"{run}: code {codes[run.name]}; see {log}")
    found = compare(*runs)
    (options.work / "summary.md").write_text(f"{NAME}, {options.steps} steps, twice: {found}\n")
    print(found)
    sys.exit(0 if "same" in found else 1)


if __name__ == "__main__":
    main()
