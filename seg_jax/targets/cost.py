"""What a compiled program needs and does, by the compiler, and what that would take at best."""

import dataclasses
import re
from typing import Any

from seg_jax.targets import hlo
from seg_jax.targets.table import GIB, Target

_UNIT = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_NEEDS = (
    re.compile(r"\(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)"),
    re.compile(r"[Uu]sed ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm"),
)


@dataclasses.dataclass(frozen=True)
class Cost:
    """One device's share of a compiled program, as the compiler says.

    Attributes:
      arguments_bytes: state and batch.
      temporaries_bytes: everything between them and the results.
      peak_bytes: arguments, results that do not reuse them, temporaries and code: an upper bound.
      flops: floating-point operations; None: the compiler does not say.
      accessed_bytes: read and written by all operations, fused ones once; None: it does not say.
      collectives: by kind, how many and the bytes of their results.
    """

    arguments_bytes: int
    temporaries_bytes: int
    peak_bytes: int
    flops: float | None
    accessed_bytes: float | None
    collectives: dict[str, dict[str, int]]

    @property
    def collective_bytes(self) -> int:
        """Bytes of the results of all collectives."""
        return sum(kind["bytes"] for kind in self.collectives.values())


def of(compiled: Any, text: str) -> Cost:
    """Read the cost of a compiled program, `jax.stages.Compiled`, and its text."""
    memory = compiled.memory_analysis()
    # XLA:GPU says nothing of a program for a described device.
    analysis = compiled.cost_analysis() or {}
    arguments, temporaries = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    peak = arguments + results + temporaries + memory.generated_code_size_in_bytes
    return Cost(
        arguments_bytes=arguments,
        temporaries_bytes=temporaries,
        peak_bytes=peak,
        flops=analysis.get("flops"),
        accessed_bytes=analysis.get("bytes accessed"),
        collectives=hlo.collectives(text),
    )


def roofline_seconds(cost: Cost, target: Target, precision: str) -> float | None:
    """Return an estimate of one execution: the slower of arithmetic and memory, then collectives.

    Both at their published peaks, which no program reaches: a lower bound, not a measurement. An
    all-reduce in a ring sends 2 (n - 1) / n of its bytes. None: FLOPs or bytes are not known.
    """
    if cost.flops is None or cost.accessed_bytes is None:
        return None
    arithmetic = cost.flops / target.peak(precision)
    memory = cost.accessed_bytes / target.chip.bandwidth
    ring = 2 * (target.devices - 1) / target.devices
    return max(arithmetic, memory) + ring * cost.collective_bytes / target.chip.link


def memory_needed(error: str) -> tuple[int, int] | None:
    """Return the bytes that a program needs and those there are, from the TPU compiler's refusal.

    None: the error is about something else.
    """
    for pattern in _NEEDS:
        if found := pattern.search(error):
            need, unit, have, of_unit = found.groups()
            return int(float(need) * _UNIT[unit]), int(float(have) * _UNIT[of_unit])
    return None


def gib(size: float) -> str:
    """Return bytes as GiB, for people."""
    return f"{size / GIB:.2f} GiB"
