"""Logits of the image's size, held or in strips of rows: temporary memory and times here.

python scripts/measure_logits.py             # the compiler's count of temporary bytes: runs nothing
python scripts/measure_logits.py --time 5    # also runs each so many times; needs a quiet machine
"""

import argparse
import functools
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seg_jax.targets import operations

CASES = ((2, 33, 257, 21), (8, 33, 513, 21), (8, 129, 513, 21), (8, 33, 513, 150))


def main() -> None:
    """Print a row for every case and task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time", type=int, default=0, metavar="N", help="run each N times")
    runs = parser.parse_args().time
    print("| task | scores | logits | float32 logits | temporaries, whole | in strips |")
    print("|---|---|---|---|---|---|")
    for images, coarse, side, classes in CASES:
        for task, function in (
            ("loss and gradient", _value_and_gradient),
            ("labels, counts", operations.labels),
        ):
            cells = _cells(function, images, coarse, side, classes, runs)
            scores, logits = (f"{images}x{n}x{n}x{classes}" for n in (coarse, side))
            size = 4 * images * side * side * classes / 1e6
            print(f"| {task} | {scores} | {logits} | {size:.0f} MB | {' | '.join(cells)} |")


def _value_and_gradient(scores, label, *, whole):
    return jax.value_and_grad(functools.partial(operations.loss, whole=whole), has_aux=True)(
        scores, label
    )


def _cells(function, images: int, coarse: int, side: int, classes: int, runs: int) -> list[str]:
    """Return what is said of the function with whole logits and in strips, which take turns."""
    scores = jax.ShapeDtypeStruct((images, coarse, coarse, classes), jnp.float32)
    label = jax.ShapeDtypeStruct((images, side, side), jnp.uint8)
    programs: list[Any] = [
        jax.jit(functools.partial(function, whole=whole)).lower(scores, label).compile()
        for whole in (True, False)
    ]
    memory = [program.memory_analysis().temp_size_in_bytes for program in programs]
    if not runs:
        return [f"{size / 1e6:.0f} MB" for size in memory]
    rng = np.random.default_rng(0)
    inputs = (
        jnp.asarray(rng.normal(scale=3, size=scores.shape), jnp.float32),
        jnp.asarray(rng.integers(0, classes, label.shape), jnp.uint8),
    )
    seconds = [[], []]
    for _ in range(1 + runs):
        for program, taken in zip(programs, seconds, strict=True):
            begin = time.perf_counter()
            jax.block_until_ready(program(*inputs))
            taken.append(time.perf_counter() - begin)
    return [
        f"{size / 1e6:.0f} MB, {1e3 * statistics.median(taken[1:]):.0f} ms"
        for size, taken in zip(memory, seconds, strict=True)
    ]


if __name__ == "__main__":
    main()
