"""Read the instruction bundles that the TPU's compiler dumps: a static cycle model of each kernel.

A TensorCore issues one bundle a cycle, so the bundles of a loop times its trips are the cycles that
it takes if nothing waits for memory. `dumping` makes the compiler write them; `of` reads them.
"""

import contextlib
import dataclasses
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seg_jax import checks
from seg_jax.targets import topology
from seg_jax.targets.table import Target

# The units of a bundle as the compiler's table names them, and how often one can be used a cycle.
_TABLE = "final_hlo-static-per-bundle-utilization.txt"
_CODE = "final_bundles.txt"
_SOURCE = "original.txt"
_FILE = re.compile(r"^\d+-(?P<kernel>.+?)-\d+-(?P<kind>[a-zA-Z].*\.txt)$")
_BUNDLE = re.compile(r"^\s*0x([0-9a-f]+)\s+(LB)?[A-Z ]*:(\s*>*)|^\s*(0)\s+:(\s*>*)")
_GRID = re.compile(r"loop: start=(\d+), step=(\d+), limit=(\d+)")
_UNITS_OF_WORK = ("MXU", "XLU", "VALU", "EUP", "VLOAD", "VSTORE")


@dataclasses.dataclass(frozen=True)
class Loop:
    """A loop of a kernel, with the loops inside it counted once.

    Attributes:
      begin: number of its first bundle in the kernel.
      depth: 1 for a loop that is in no other.
      bundles: cycles of one trip, nothing waiting for memory.
      used: how often each unit is used in them.
      capacity: how often each can be used a cycle.
    """

    begin: int
    depth: int
    bundles: int
    used: dict[str, int]
    capacity: dict[str, int]

    @property
    def bounds(self) -> dict[str, int]:
        """Fewest cycles that each unit alone needs for one trip."""
        return {unit: -(-n // self.capacity[unit]) for unit, n in self.used.items()}

    @property
    def binds(self) -> str:
        """The unit that needs most cycles: of the units of work, spilled stores among them."""
        bounds = self.bounds
        return max(_UNITS_OF_WORK, key=lambda unit: bounds.get(unit, 0))


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel of a program: a fusion, a convolution, a copy, a Pallas kernel.

    Attributes:
      name: of the instruction in the program's text.
      bundles: all of them, once.
      grid: trips of the loops over blocks of its operands that its source names.
      loops: in the order of the code.
    """

    name: str
    bundles: int
    grid: tuple[int, ...]
    loops: tuple[Loop, ...]

    @property
    def cycles(self) -> int:
        """The bundles with the outermost loop repeated; loops inside it count once.

        Too few where an inner loop is repeated, too many where predicates skip some of the body.
        """
        trips = self.grid[0] if self.grid else 1
        outer = next((loop.bundles for loop in self.loops if loop.depth == 1), 0)
        return self.bundles + (max(trips, 1) - 1) * outer


@contextlib.contextmanager
def dumping(target: Target) -> Iterator[Path]:
    """Prepare the compiler as `topology.prepare` does; yield the folder, removed in the end, into
    which it writes bundles. Before libtpu is loaded, which reads the flags.

    Raises:
      UserError: the compiler is not installed.
    """
    topology.require(target)
    with tempfile.TemporaryDirectory() as folder:
        flags = [os.environ.get("LIBTPU_INIT_ARGS", ""), dump_flags(Path(folder))]
        os.environ["LIBTPU_INIT_ARGS"] = " ".join(flags).strip()
        topology.prepare(target)
        yield Path(folder)


def dump_flags(folder: Path) -> str:
    """Return LIBTPU_INIT_ARGS that make the compiler dump to the folder; set before jax starts."""
    return f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"


def of(folder: Path) -> dict[str, Kernel]:
    """Read the kernels that were dumped to a folder, by name; of several programs, the last.

    Raises:
      UserError: the folder holds no dump.
    """
    files: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob("*.txt")):
        found = _FILE.match(path.name)
        if found and found["kind"] in (_TABLE, _CODE, _SOURCE) and "<" not in found["kernel"]:
            files.setdefault(found["kernel"], {})[found["kind"]] = path
    kernels = {
        name: _kernel(name, kinds[_CODE], kinds[_TABLE], kinds.get(_SOURCE))
        for name, kinds in files.items()
        if _CODE in kinds and _TABLE in kinds and name != "TLP"  # the program around the kernels
    }
    if not kernels:
        raise checks.UserError(
            f"{folder}: no bundles; compile with LIBTPU_INIT_ARGS='{dump_flags(folder)}'"
        )
    return kernels


def _kernel(name: str, code: Path, table: Path, source: Path | None) -> Kernel:
    capacity, rows = _slots(table.read_text())
    depths, heads = _depths(code.read_text())
    grid = ()
    if source is not None:
        found = _GRID.findall(source.read_text())
        grid = tuple(len(range(int(a), int(c), int(b))) for a, b, c in found)
    loops = []
    for begin in heads:
        depth = depths[begin]
        end = begin + 1
        while (
            end < len(depths)
            and depths[end] >= depth
            and not (end in heads and depths[end] == depth)
        ):
            end += 1
        used = {
            unit: sum(row[place] for row in rows[begin:end]) for place, unit in enumerate(capacity)
        }
        loops.append(Loop(begin, depth, end - begin, used, capacity))
    return Kernel(name, len(depths), grid, tuple(loops))


def _slots(text: str) -> tuple[dict[str, int], list[list[int]]]:
    """Return the capacities by unit, and for each bundle how often it uses each unit."""
    lines = text.splitlines()
    units = [unit.strip() for unit in lines[1].split(",")]
    capacity = dict(zip(units, map(int, lines[2].split()), strict=True))
    start = next(i for i, line in enumerate(lines) if "UTILIZATION" in line) + 1
    return capacity, [[int(n) for n in line.split()] for line in lines[start:] if line.strip()]


def _depths(text: str) -> tuple[list[int], list[int]]:
    """Return for each bundle in how many loops it is, and the bundles at which loops begin."""
    depths, heads = [], []
    for line in text.splitlines():
        found = _BUNDLE.match(line)
        if not found:
            continue
        if found.group(2):
            heads.append(len(depths))
        inside = (found.group(3) or found.group(5) or "").count(">")
        # An empty bundle is written without the marks of the loop that it is in.
        empty = re.search(r":\s*\{\}", line)
        depths.append(depths[-1] if empty and depths else inside)
    return depths, heads


def to_dict(kernel: Kernel) -> dict[str, Any]:
    """Return a kernel and its loops as JSON data: kernel, bundles, grid, cycles, loops."""
    return {
        "kernel": kernel.name,
        "bundles": kernel.bundles,
        "grid": list(kernel.grid),
        "cycles": kernel.cycles,
        "loops": [
            dataclasses.asdict(loop)
            | {"binds": loop.binds, "bound_cycles": loop.bounds.get(loop.binds, 0)}
            for loop in kernel.loops
        ],
    }


def text(kernel: Mapping[str, Any], *, least: int = 16) -> str:
    """Return the loops of at least so many bundles as lines: bundles, slots, what binds.

    `kernel` is of `to_dict`.
    """
    grid = "x".join(map(str, kernel["grid"])) or "none"
    lines = [f"{kernel['kernel']}: {kernel['bundles']} bundles, grid {grid}"]
    for loop in kernel["loops"]:
        if loop["bundles"] >= least:
            used = ", ".join(f"{unit} {n}" for unit, n in loop["used"].items() if n)
            lines.append(
                f"{'  ' * loop['depth']}loop at {loop['begin']}: {loop['bundles']} bundles a trip, "
                f"bound by {loop['binds']} ({loop['bound_cycles']} cycles); slots: {used}"
            )
    return "\n".join(lines)
