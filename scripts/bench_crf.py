"""Time the implementations of the dense CRF, beside pydensecrf where it is installed.

    python scripts/bench_crf.py [--sizes 321 voc 513] [--settings v1 v2] [--rounds 5]
        [--implementations lattice_numba lattice] [--cores 1] [--image FILE]

All contenders of a case run interleaved in one process, so that other load slows all of them.
Printed per case: the shortest wall-clock and processor time in milliseconds, both with set-up, the
median over rounds of the ratios to the first contender (pydensecrf where it is installed; below 1
is faster), and the share of equal labels. Processor time does not include waiting for other
processes; read that one with --cores 1. Without --image the scene is synthetic.
"""

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from seg_jax.data import images
from seg_jax.kernels.crf import IMPLEMENTATIONS, cases, mean_field

CLASSES = 21


def contenders(names):
    """Return name -> function(unary, rgb, params) -> marginals on the host."""
    found = {}
    try:
        import pydensecrf  # noqa: F401
    except ImportError:
        print("pydensecrf is not installed (pip install pydensecrf2): not compared")
    else:
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "parity"))
        from densecrf import pydensecrf as library

        found["pydensecrf"] = library

    def ours(unary, rgb, params, name):
        return np.asarray(mean_field(unary, rgb, params, implementation=name))

    return found | {name: partial(ours, name=name) for name in names}


def problem(size, image):
    """Return the energies and the image of one case; a given image file is resized."""
    height, width = cases.SIZES[size]
    unary, rgb = cases.scene(height, width, CLASSES)
    if image:
        rgb = np.array(Image.fromarray(images.read_image(image)).resize((width, height)))
    return unary, rgb


def measure(functions, unary, rgb, params, rounds):
    """Return name -> (float [rounds 2], wall-clock and processor seconds; marginals)."""
    results = {name: function(unary, rgb, params) for name, function in functions.items()}
    seconds = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = np.array([time.perf_counter(), time.process_time()])
            function(unary, rgb, params)
            now = np.array([time.perf_counter(), time.process_time()])
            seconds[name].append(now - start)
    return {name: (np.array(seconds[name]), results[name]) for name in functions}


def main():
    """Print one line for each size, setting and contender."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["321", "voc", "513"], choices=cases.SIZES)
    parser.add_argument("--settings", nargs="+", default=["v1", "v2"], choices=cases.SETTINGS)
    parser.add_argument(
        "--implementations",
        nargs="+",
        default=["lattice_numba", "lattice"],
        choices=IMPLEMENTATIONS,
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, help="number of cores to run on (Linux)")
    parser.add_argument("--image", type=Path, help="a photograph instead of the synthetic scene")
    options = parser.parse_args()
    if options.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{jax.devices()[0].device_kind}, {cores} cores, jax {jax.__version__}")
    functions = contenders(options.implementations)
    print(
        f"{'size':>9} {'setting':>7} {'implementation':>14} {'clock ms':>9} {'cpu ms':>7} "
        f"{'clock':>6} {'cpu':>5} labels equal"
    )
    for size in options.sizes:
        unary, rgb = problem(size, options.image)
        for setting in options.settings:
            results = measure(functions, unary, rgb, cases.SETTINGS[setting], options.rounds)
            first, labels = next((s, q.argmax(-1)) for s, q in results.values())
            for name, (seconds, q) in results.items():
                clock_ms, cpu_ms = 1e3 * seconds.min(axis=0)
                clock, cpu = np.median(seconds / first, axis=0)
                print(
                    f"{'x'.join(map(str, cases.SIZES[size])):>9} {setting:>7} {name:>14} "
                    f"{clock_ms:9.0f} {cpu_ms:7.0f} {clock:6.2f} {cpu:5.2f} "
                    f"{(q.argmax(-1) == labels).mean():.4%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
