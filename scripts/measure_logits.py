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
            cells = [
                _cell(functools.partial(function, whole=whole), images, coarse, side, classes, runs)
                for whole in (True, False)
            ]
            scores, logits = (f"{images}x{n}x{n}x{classes}" for n in (coarse, side))
            size = 4 * images * side * side * classes / 1e6
            print(f"| {task} | {scores} | {logits} | {size:.0f} MB | {' | '.join(cells)} |")


def _value_and_gradient(scores, label, *, whole):
    return jax.value_and_grad(functools.partial(operations.loss, whole=whole), has_aux=True)(
        scores, label
    )


def _cell(function, images: int, coarse: int, side: int, classes: int, runs: int) -> str:
    scores = jax.ShapeDtypeStruct((images, coarse, coarse, classes), jnp.float32)
    label = jax.ShapeDtypeStruct((images, side, side), jnp.uint8)
    compiled: Any = jax.jit(function).lower(scores, label).compile()
    cell = f"{compiled.memory_analysis().temp_size_in_bytes / 1e6:.0f} MB"
    if not runs:
        return cell
    rng = np.random.default_rng(0)
    inputs = (
        jnp.asarray(rng.normal(scale=3, size=scores.shape), jnp.float32),
        jnp.asarray(rng.integers(0, classes, label.shape), jnp.uint8),
    )
    jax.block_until_ready(compiled(*inputs))
    seconds = []
    for _ in range(runs):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*inputs))
        seconds.append(time.perf_counter() - begin)
    return f"{cell}, {1e3 * statistics.median(seconds):.0f} ms"


if __name__ == "__main__":
    main()
