"""Time the implementations of the dense CRF, beside pydensecrf where it is installed.

    python scripts/bench_crf.py [--sizes 321 voc 513] [--settings v1 v2] [--rounds 5]
        [--implementations lattice_numba lattice] [--cores 1] [--image FILE]

All contenders of a case run interleaved in one process, so that other load slows all of them.
Printed per case: the shortest wall-clock and processor time in milliseconds, both with set-up, the
median over rounds of the ratios to the first contender (pydensecrf where it is installed; below 1
is faster), and the share of equal labels. Processor time does not include waiting for other
processes; read that one with --cores 1. Without --image the scene is synthetic. An implementation
that fails is named, and the others are measured; the exit code is then 1.
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

sys.path.insert(0, str(Path(__file__).resolve().parent / "gpu"))
import turns  # noqa: E402

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


def compiled(functions, unary, rgb, params):
    """Call each once, which compiles; return name -> marginals, of those that do not fail."""
    results = {}
    for name, function in functions.items():
        try:
            results[name] = function(unary, rgb, params)
        except Exception as error:  # a kernel that has not met this device: the others go on
            print(
                f"{name} at {rgb.shape[0]}x{rgb.shape[1]} failed: {type(error).__name__}: {error}"
            )
    return results


def measure(functions, names, case, rounds):
    """Return name -> float [rounds 2], wall-clock and processor seconds; `case`: the arguments."""
    seconds = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            start = np.array([time.perf_counter(), time.process_time()])
            functions[name](*case)
            now = np.array([time.perf_counter(), time.process_time()])
            seconds[name].append(now - start)
    return {name: np.array(spent) for name, spent in seconds.items()}


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
    parser.add_argument("--turns", type=Path, help="folder shared with processes that also measure")
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
    found = []
    for size in options.sizes:
        unary, rgb = problem(size, options.image)
        for setting in options.settings:
            params = cases.SETTINGS[setting]
            found.append(
                (size, setting, (unary, rgb, params), compiled(functions, unary, rgb, params))
            )
    with turns.alone(options.turns):
        for size, setting, case, results in found:
            report(size, setting, results, measure(functions, results, case, options.rounds))
    sys.exit(any(len(results) < len(functions) for *_, results in found))


def report(size, setting, marginals, seconds):
    """Print a line for each contender, compared with the first."""
    if not marginals:
        return
    first, labels = next(iter(seconds.values())), next(iter(marginals.values())).argmax(-1)
    for name, q in marginals.items():
        clock_ms, cpu_ms = 1e3 * seconds[name].min(axis=0)
        clock, cpu = np.median(seconds[name] / first, axis=0)
        print(
            f"{'x'.join(map(str, cases.SIZES[size])):>9} {setting:>7} {name:>14} "
            f"{clock_ms:9.0f} {cpu_ms:7.0f} {clock:6.2f} {cpu:5.2f} "
            f"{(q.argmax(-1) == labels).mean():.4%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
