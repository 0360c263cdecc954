"""Where a TPU program's time goes, by the compiler's own estimate of cycles for each operation.

The estimates are exact in the sense that the same program always gets the same ones; they are not
measurements. The step time they sum to overlaps nothing and leaves waiting for other chips out.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

from seg_jax.targets import hlo
from seg_jax.targets.table import Target

# Kinds of operations by what their path holds, the first that fits.
_KINDS = (
    ("max unpooling", "max_unpool"),
    ("max pooling with indices", "max_pool_with_indices"),
    ("max pooling", "max_pool"),
    ("resizing", "resize"),
    ("convolution", "conv_general_dilated"),
    ("batch norm", "/bn/"),
    ("batch norm", "batch_norm"),
    ("matrix product", "dot_general"),
)
_OWN = re.compile(r"^(?:jit|pjit|shard_map|closed_call|while|body|cond|checkpoint|rematted_\w+)\b")


@dataclasses.dataclass(frozen=True)
class Group:
    """Operations that share a module, a kind and a direction.

    Attributes:
      module: path of the network's module, "" outside of it.
      kind: of operation.
      backward: part of the gradient.
      cycles: estimated, loops multiplied out.
    """

    module: str
    kind: str
    backward: bool
    cycles: int


@dataclasses.dataclass(frozen=True)
class Cycles:
    """A program's estimated cycles on one device.

    Attributes:
      total: of all operations that carry an estimate, collectives left out.
      groups: the dearest first.
      unknown: operations without an estimate: opcode and how many are executed.
    """

    total: int
    groups: tuple[Group, ...]
    unknown: dict[str, int]

    @property
    def convolution_share(self) -> float:
        """Share of the cycles that convolutions and matrix products take."""
        kinds = ("convolution", "matrix product")
        return sum(g.cycles for g in self.groups if g.kind in kinds) / max(self.total, 1)

    def seconds(self, target: Target) -> float | None:
        """Return the estimated seconds at the target's clock; None if that is not published."""
        return self.total / target.chip.clock if target.chip.clock else None


# Carry no work of their own, or are waited for elsewhere.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call",
    "conditional", "async-start", "async-done", "copy-start", "copy-done", "partition-id",
    "replica-id", "all-reduce-done", "slice-start", "slice-done", "after-all", "opt-barrier",
    "iota",
}  # fmt: skip


def of(text: str, *, depth: int = 3) -> Cycles:
    """Add up the estimates in a compiled TPU program's text.

    Args:
      text: of `jax.stages.Compiled.as_text`.
      depth: levels of the module's path to keep apart.
    """
    return add_up(hlo.executed(text), lambda one: one.estimated_cycles, depth=depth)


def add_up(
    instructions: Iterable[hlo.Instruction],
    estimate: Callable[[hlo.Instruction], float | None],
    *,
    depth: int = 3,
) -> Cycles:
    """Add up the estimates of what is executed.

    Args:
      instructions: of `hlo.executed`.
      estimate: returns the cycles of one execution; None: there is no estimate.
      depth: levels of the module's path to keep apart.
    """
    sums: collections.Counter[tuple[str, str, bool]] = collections.Counter()
    unknown: collections.Counter[str] = collections.Counter()
    for instruction in instructions:
        cycles = estimate(instruction)
        if cycles is not None:
            module, kind, backward = classify(instruction.path, depth=depth)
            place = module, kind or instruction.opcode, backward
            sums[place] += round(cycles * instruction.times)
        elif instruction.opcode not in _FREE and not instruction.opcode.startswith("all-"):
            unknown[instruction.opcode] += instruction.times
    groups = tuple(Group(*key, cycles) for key, cycles in sums.most_common())
    return Cycles(sum(sums.values()), groups, dict(unknown.most_common()))


def classify(path: str, *, depth: int = 3) -> tuple[str, str, bool]:
    """Return module, kind and whether it is backward, of an operation's path.

    "jit(step)/transpose(jvp(DeepLabV3))/aspp/conv/conv_general_dilated" is of the module
    "DeepLabV3/aspp/conv", a convolution, and backward. Where the compiler merged operations it
    names the first or several, separated by ";": the first counts.
    """
    path = path.split(";")[0]
    backward = "transpose(" in path
    kind = next((kind for kind, mark in _KINDS if mark in path + "/"), "")
    scopes = []
    *parts, primitive = path.split("/")
    for part in parts:
        name = re.sub(r"^(?:\w+\()*|\)*$", "", part) if "(" in part else part
        if name and not _OWN.match(part):
            scopes.append(name)
    return "/".join(scopes[:depth]), kind or primitive, backward


def to_dict(
    cycles: Cycles, target: Target, flops: float, precision: str, *, top: int = 20
) -> dict[str, Any]:
    """Return the keys of a JSON entry: estimated_cycles, _seconds, utilization, shares, groups.

    `top`: how many groups, the dearest first.
    """
    seconds = cycles.seconds(target)
    return {
        "estimated_cycles": cycles.total,
        "estimated_seconds": seconds,
        "utilization": flops / seconds / target.peak(precision) if seconds else None,
        "convolution_share": cycles.convolution_share,
        "cycles_by": [dataclasses.asdict(group) for group in cycles.groups[:top]],
        "without_estimate": cycles.unknown,
    }
