"""The TPU compiler's estimates beside two other figures: dumped bundles, and bytes and FLOPs.

Eight operations compiled for one TPU v5e; nothing has run. `accelerators_page` writes them down.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from seg_jax import parallel
from seg_jax.targets import bundles, cost, cycles, hlo, table, topology

RECORD = "experiments/cross_checks.json"
TARGET = "v5e-8"  # one of its chips


@dataclasses.dataclass(frozen=True)
class Check:
    """An operation of the networks, alone.

    Attributes:
      function: of arrays.
      shapes: of them, with dtypes.
      matrix: a product of the matrix unit, which FLOPs bound; else bytes do.
    """

    function: Callable[..., jax.Array]
    shapes: tuple[tuple[tuple[int, ...], Any], ...]
    matrix: bool = False


def _conv(rate: int) -> Callable[..., jax.Array]:
    def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", rhs_dilation=(rate, rate),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    return conv


_BF16 = jnp.bfloat16
_MAP = ((8, 129, 129, 256), _BF16)
CHECKS = {
    "matrix product 4096 x 4096 x 4096": Check(jnp.dot, (((4096, 4096), _BF16),) * 2, matrix=True),
    "3x3 convolution, rate 6, 2048 to 256": Check(
        _conv(6), (((2, 33, 33, 2048), _BF16), ((3, 3, 2048, 256), _BF16)), matrix=True
    ),
    "1x1 convolution, 256 to 1024": Check(
        _conv(1), (((8, 65, 65, 256), _BF16), ((1, 1, 256, 1024), _BF16)), matrix=True
    ),
    "sum and ReLU": Check(lambda a, b: jax.nn.relu(a + b), (_MAP, _MAP)),
    "sum over pixels": Check(lambda a: a.astype(jnp.float32).sum((0, 1, 2)), (_MAP,)),
    "transposition": Check(lambda a: a.T + 1, (((4096, 8192), _BF16),)),
    "concatenation of channels": Check(
        lambda a, b: jnp.concatenate([a, b], axis=3), (_MAP, _MAP)
    ),
    "picture to bfloat16": Check(
        lambda a: a.astype(_BF16) / 255, (((8, 513, 513, 3), jnp.uint8),)
    ),
}  # fmt: skip


def measure(name: str, dump: Path) -> dict[str, Any]:
    """Compile one of CHECKS with its kernels dumped to a folder, which is emptied.

    Returns:
      estimated_cycles; bundle_cycles: of all kernels, their outermost loops multiplied out;
      bound_cycles: bytes over bandwidth, or FLOPs over peak where that is more, at the chip's
      clock; not_dumped: instructions with an estimate for which no kernel was dumped.
    """
    check, target = CHECKS[name], table.get(TARGET)
    assert target.chip.clock is not None
    mesh = parallel.make_mesh([topology.describe(target)[0]])
    place = NamedSharding(mesh, PartitionSpec())
    shapes = [jax.ShapeDtypeStruct(*shape, sharding=place) for shape in check.shapes]
    compiled = jax.jit(check.function).lower(*shapes).compile()
    text = compiled.as_text() or ""
    kernels = bundles.of(dump)
    for path in dump.iterdir():
        path.unlink()
    done = [i for i in hlo.executed(text) if i.name in kernels or i.estimated_cycles]
    one = dataclasses.replace(target, chips=1)
    seconds = cost.roofline_seconds(cost.of(compiled, text), one, "bfloat16")
    assert seconds is not None
    return {
        "estimated_cycles": cycles.of(text).total,
        "bundle_cycles": sum(kernels[i.name].cycles * i.times for i in done if i.name in kernels),
        "bound_cycles": round(seconds * target.chip.clock),
        "not_dumped": [i.opcode for i in done if i.name not in kernels],
    }


def section(record: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the section of docs/accelerators.md for the recorded figures; "" without any."""
    if not record:
        return ""
    rows = "".join(
        f"| {name} | {found['estimated_cycles']:,} | {found['bundle_cycles']:,} | "
        f"{found['bound_cycles']:,} | {found['estimated_cycles'] / found['bundle_cycles']:.2f} | "
        f"{found['estimated_cycles'] / found['bound_cycles']:.2f} |\n"
        for name, found in record.items()
    )
    said = "".join(
        f"Of the {kind} the estimate is {_range(record, matrix, 'bundle_cycles')} times the "
        f"bundles and {_range(record, matrix, 'bound_cycles')} times the bound.\n"
        for kind, matrix in (("three matrix operations", True), ("five others", False))
    )
    return _HEAD + rows + "\n" + said + _TAIL


def _range(record: Mapping[str, Mapping[str, Any]], matrix: bool, other: str) -> str:
    of_kind = [found for name, found in record.items() if CHECKS[name].matrix == matrix]
    ratios = sorted(found["estimated_cycles"] / found[other] for found in of_kind)
    return f"{ratios[0]:.2f} to {ratios[-1]:.2f}"


_HEAD = """
## How far the estimates agree with other figures

`python -m seg_jax.targets.accelerators_page checks`: a program's estimate; the bundles of its
kernels with the outermost loop times its trips (one bundle a cycle, nothing waiting for memory);
and the larger of bytes over 819 GB/s and FLOPs over 197 TFLOP/s, by the compiler's own counts.
bfloat16, one TPU v5e, cycles at 1.5 GHz.

| operation | estimate | bundles x trips | bytes or FLOPs | estimate / bundles | estimate / bound |
|---|---|---|---|---|---|
"""
_TAIL = """
Bundles leave out waiting for memory and the trips of inner loops, bytes leave out the padding of
tiles: both are too small where these matter, and a ratio below 1 is an estimate that is too low.
"""
