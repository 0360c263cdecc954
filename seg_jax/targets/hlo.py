"""Read the text of a compiled program: what is executed, how often, and what it communicates."""

import dataclasses
import math
import re
from collections.abc import Iterator

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-<>]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-<>]+) = (.*)$")
_OPCODE = re.compile(r"(?:^|\s)([a-z][\w\-]*)\(")
_SHAPE = re.compile(r"\b(pred|[a-z]+\d+(?:e\d+m\d+\w*)?)\[([\d,]*)\]")
_NAMED = re.compile(r"%([\w.\-<>]+)")
_TRIPS = re.compile(r'known_trip_count":\s*\{"n":\s*"(\d+)"')
_CALLED = re.compile(r"(?:to_apply|calls|body|true_computation|false_computation)=%?([\w.\-<>]+)")
_CONDITION = re.compile(r"condition=%?([\w.\-<>]+)")
_LIMIT = re.compile(r" constant\((\d+)\)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_COLLECTIVES = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a computation.

    Attributes:
      name: unique in the program.
      opcode: "fusion", "convolution", "all-reduce", ...
      shapes: of its result, as text.
      line: the whole text.
      times: how often the entry executes it, loops multiplied out. Of a loop without a known trip
        count it is the one number that its condition compares with (jax.lax.scan counts from 0);
        a loop of another condition counts once.
    """

    name: str
    opcode: str
    shapes: str
    line: str
    times: int = 1

    @property
    def path(self) -> str:
        """The scopes and the primitive that it comes from, "" if it names none."""
        found = re.search(r'op_name="([^"]*)"', self.line)
        return found.group(1) if found else ""

    @property
    def operands(self) -> tuple[str, ...]:
        """The names of the instructions whose results it takes."""
        _, _, after = self.line.partition(f" {self.opcode}(")
        return tuple(_NAMED.findall(after[: _closing(f"({after}") - 1]))

    @property
    def estimated_cycles(self) -> int | None:
        """The TPU compiler's estimate for one execution, None if it gives none."""
        found = re.search(r'estimated_cycles":"(\d+)"', self.line)
        return int(found.group(1)) if found else None


def first(shapes: str) -> str:
    """Return the first shape of a tuple's, or the only one: "f32[2,3]"."""
    found = _SHAPE.search(shapes)
    return found.group(0) if found else ""


def dimensions(shapes: str) -> tuple[int, ...]:
    """Return the sides of the first shape; () for a number, or where there is none."""
    found = _SHAPE.search(shapes)
    return tuple(int(n) for n in found.group(2).split(",") if n) if found else ()


def executed(text: str) -> Iterator[Instruction]:
    """Yield the instructions that the program executes: of the entry, loops, calls and branches.

    Instructions inside a fusion are part of the fusion and are not yielded.
    """
    computations, entry = _computations(text)
    yield from _walk(computations, entry, 1)


def collectives(text: str) -> dict[str, dict[str, int]]:
    """Return by kind of collective its executions and the bytes of its results, on one device."""
    computations, entry = _computations(text)
    found: dict[str, dict[str, int]] = {}
    for instruction in _walk(computations, entry, 1, fusions=True):
        kind = instruction.opcode.removesuffix("-start")
        if kind not in _COLLECTIVES:
            continue
        of_kind = found.setdefault(kind, {"count": 0, "bytes": 0})
        of_kind["count"] += instruction.times
        # The start of an asynchronous all-gather returns its operand as well: count the larger.
        sizes = size_bytes(instruction.shapes)
        if instruction.opcode.endswith("-start") and kind != "all-reduce":
            sizes = max(_sizes(instruction.shapes), default=0)
        of_kind["bytes"] += instruction.times * sizes
    return found


def size_bytes(shapes: str) -> int:
    """Return the bytes of a shape, or of all shapes of a tuple, without padding."""
    return sum(_sizes(shapes))


def _sizes(shapes: str) -> list[int]:
    sizes = []
    for dtype, dimensions in _SHAPE.findall(shapes):
        bits = 8 if dtype == "pred" else int(re.findall(r"\d+", dtype)[0])
        count = math.prod(int(n) for n in dimensions.split(",") if n)
        sizes.append(-(-count * bits // 8))
    return sizes


def _computations(text: str) -> tuple[dict[str, list[Instruction]], str]:
    computations: dict[str, list[Instruction]] = {}
    entry = current = ""
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head and not line.startswith(" "):
            current = head.group(2)
            computations[current] = []
            entry = current if head.group(1) else entry
            continue
        found = _INSTRUCTION.match(line)
        if current and found:
            shapes, opcode = _split(found.group(2))
            computations[current].append(Instruction(found.group(1), opcode, shapes, line))
    return computations, entry


def _split(text: str) -> tuple[str, str]:
    """Return the result's shapes and the opcode of the text after `=`."""
    end = _closing(text) if text.startswith("(") else text.find(" ")
    found = _OPCODE.search(text[end:])
    return text[:end], found.group(1) if found else ""


def _closing(text: str) -> int:
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place + 1
    return len(text)


def _walk(
    computations: dict[str, list[Instruction]], name: str, times: int, *, fusions: bool = False
) -> Iterator[Instruction]:
    for instruction in computations.get(name, ()):
        yield dataclasses.replace(instruction, times=times)
        repeated = times
        if instruction.opcode == "while":
            repeated *= _trips(instruction, computations)
        elif instruction.opcode not in ("call", "conditional", "async-start") and not (
            fusions and instruction.opcode == "fusion"
        ):
            continue
        branches = _BRANCHES.search(instruction.line)
        called = _CALLED.findall(instruction.line)
        called += re.findall(r"%?([\w.\-<>]+)", branches.group(1)) if branches else []
        for inner in called:
            yield from _walk(computations, inner, repeated, fusions=fusions)


def _trips(loop: Instruction, computations: dict[str, list[Instruction]]) -> int:
    if known := _TRIPS.search(loop.line):
        return int(known.group(1))
    condition = _CONDITION.search(loop.line)
    inside = computations.get(condition.group(1), []) if condition else []
    limits = [int(n) for i in inside for n in _LIMIT.findall(i.line)]
    counts = any("direction=LT" in i.line for i in inside)
    return limits[0] if counts and len(limits) == 1 else 1
