"""Time a network's training step on the CPU with freed memory kept in the process, and without.

    python scripts/bench_allocator.py [--experiment NAME] [--rounds 3] [--steps 8]
                                      [--settings system kept ...]

Each setting runs in a process of its own, one after the other, round after round: "system" is
glibc as it comes, "kept" what `seg_jax.parallel.allocator` does by default, "env" glibc's
variables MALLOC_MMAP_MAX_ and MALLOC_TRIM_THRESHOLD_ alone, "huge" kept in huge pages, "jemalloc"
and "mimalloc" those libraries in $LD_PRELOAD, where they are installed. Printed for each: medians
over the rounds of wall, user and system seconds a step and of page faults a step, and the largest
resident memory.
"""

import argparse
import ctypes.util
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import time

SETTINGS = {
    "system": {"MALLOC_PERTURB_": "0"},
    "kept": {},
    "env": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "68719476736"},
    "huge": {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.arena_max=1"
        ":glibc.malloc.trim_threshold=68719476736"
    },
    "jemalloc": {"LD_PRELOAD": "jemalloc"},
    "mimalloc": {"LD_PRELOAD": "mimalloc"},
}
BATCH, SIDE = 8, 257


def measure(name: str, steps: int) -> dict[str, float]:
    """Return seconds and page faults a step of an experiment, and the largest resident MiB."""
    from seg_jax import parallel

    parallel.prepare_process()
    import jax
    import numpy as np

    from seg_jax import experiment, train_state
    from seg_jax.train import program

    found = experiment.get(name)
    mesh = parallel.make_mesh()
    variables = train_state.init_variables(found.model, input_shape=(1, SIDE, SIDE, 3), seed=0)
    compiled = program.bound_step(found, mesh)
    rng = np.random.default_rng(0)
    optimizer = program.optimizer(found, variables["params"])
    state = parallel.replicate(train_state.init_state(variables, optimizer), mesh)
    pictures = rng.integers(0, 256, (BATCH, SIDE, SIDE, 3)).astype(np.uint8)
    labels = rng.integers(0, found.model.num_classes, (BATCH, SIDE, SIDE)).astype(np.uint8)
    batch = parallel.shard_batch({"image": pictures, "label": labels}, mesh)
    key = jax.random.key(0)
    for _ in range(4):  # compiles; then the heap grows to what a step needs
        state, metrics = compiled(state, batch, key)
        jax.block_until_ready(metrics)
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for _ in range(steps):
        state, metrics = compiled(state, batch, key)
        jax.block_until_ready(metrics)
    after = resource.getrusage(resource.RUSAGE_SELF)
    status = pathlib.Path("/proc/self/status").read_text()
    return {
        "wall": (time.perf_counter() - began) / steps,
        "user": (after.ru_utime - before.ru_utime) / steps,
        "system": (after.ru_stime - before.ru_stime) / steps,
        "faults": (after.ru_minflt - before.ru_minflt) / steps,
        "peak_mib": int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024,
    }


def run(setting: str, name: str, steps: int) -> dict[str, float]:
    """Measure in a process of its own."""
    variables = dict(SETTINGS[setting])
    if "LD_PRELOAD" in variables:
        variables["LD_PRELOAD"] = ctypes.util.find_library(variables["LD_PRELOAD"]) or ""
        if not variables["LD_PRELOAD"]:
            sys.exit(f"{setting} is not installed: leave it out of --settings")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    command = [sys.executable, __file__, "--measure", "--experiment", name, "--steps", str(steps)]
    done = subprocess.run(
        command,
        env=environment | {"JAX_PLATFORMS": "cpu"} | variables,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run the settings in turns and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiment", default="deeplab_v3_mobilenetv2_camvid")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--settings", nargs="+", default=["system", "kept"], choices=SETTINGS)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.experiment, options.steps)))
        return
    found: dict[str, list[dict[str, float]]] = {setting: [] for setting in options.settings}
    for number in range(options.rounds):
        for setting in options.settings:
            found[setting].append(run(setting, options.experiment, options.steps))
            print(f"round {number + 1}, {setting}: {found[setting][-1]}", file=sys.stderr)
    print("| setting | wall | user | system | page faults | peak memory |")
    print("|---|---|---|---|---|---|")
    for setting, values in found.items():
        middle = {key: statistics.median(v[key] for v in values) for key in values[0]}
        print(
            f"| {setting} | {middle['wall']:.2f} s | {middle['user']:.2f} s "
            f"| {middle['system']:.2f} s | {middle['faults']:,.0f} "
            f"| {middle['peak_mib']:,.0f} MiB |"
        )


if __name__ == "__main__":
    main()
