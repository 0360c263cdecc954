"""docs/targets.md, from experiments/targets.json: every experiment on every target."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from seg_jax.targets import programs, table
from seg_jax.targets.survey import NOT_YET, Key

_HEAD = """\
# What compiles for which accelerator

Generated from `experiments/targets.json` by `python -m seg_jax.targets.page`; do not edit.

**Nothing on this page has run.** Each program was compiled, by the accelerator's own compiler, for
devices that were described to it on a machine that has none: `python -m seg_jax compile NAME --for
TARGET` does it again. Memory is what the compiler says a device needs, of what the compiler or the
data sheet says it has. Times are estimates from the compiler's FLOPs and bytes at the hardware's
published peaks, which no program reaches: lower bounds, not measurements. "Cycles" are the
compiler's own estimates. For GPUs it has none for cuDNN's convolutions, cuBLAS's products and
copies: these are counted at the published peaks, GFLOP are of convolutions and products alone,
launching the kernels is not in the cycles, and device-hours are by the cycles; for A100 XLA has
none. "compiled as X": experiments that differ in their images, weights, rates or number of steps
often have one program to the letter, which was compiled for X. "quick": compiled with the TPU
compiler's least effort (`--effort quick`), which looks for no fast windows and schedules. In three
programs compiled both ways its peak memory was 1.0, 2.0 and, of a tiny one, 3.4 times that in full,
FLOPs within 5 %, bytes and so the estimate 0.7 to 1.4 times; what does not fit so was compiled in
full. It has no cycles.

"""


def markdown(entries: Mapping[Key, Mapping[str, Any]], names: Iterable[str]) -> str:
    """Return the page.

    Args:
      entries: outcomes by experiment, target and mode (`survey.load`).
      names: of all experiments.
    """
    rows = [(name, mode) for name in names for mode in ("train", "evaluate")]
    rows += [(name, "kernel") for name in programs.KERNELS]
    return "".join(
        [
            _HEAD,
            *_summary(entries, rows),
            "## Every experiment, every target\n\n",
            "A number: compiled, and fits; the peak memory of one device in GiB. A blank cell is "
            f'"{NOT_YET}". train, evaluate, kernel: which program.\n\n',
            _overview(entries, rows),
            *_details(entries),
        ]
    )


def _summary(
    entries: Mapping[Key, Mapping[str, Any]], rows: Collection[tuple[str, str]]
) -> Iterable[str]:
    cells = len(rows) * len(table.SURVEYED)
    done = sum((name, target, mode) in entries for name, mode in rows for target in table.SURVEYED)
    yield f"{done} of {cells} programs were given to the compilers"
    yield ":\n\n" if done == cells else f"; any other is {NOT_YET}:\n\n"
    yield "| target | devices | hosts | memory of a device | compiled | do not fit | errors |"
    yield " kernels of other chips | most memory of a training step | most of an evaluation |\n"
    yield "|---" * 10 + "|\n"
    for name in table.SURVEYED:
        target = table.get(name)
        found = [entry for key, entry in entries.items() if key[1] == name]
        kinds = Counter("elsewhere" if _only(entry) else entry["status"] for entry in found)
        counts = [str(kinds[kind]) for kind in ("compiled", "does not fit", "error", "elsewhere")]
        memory = f"{target.memory_bytes / table.GIB:.0f} GiB"
        most = [_most(found, mode) for mode in ("train", "evaluate")]
        line = [name, f"{target.devices} x {target.chip.name}", str(target.hosts), memory]
        yield f"| {' | '.join([*line, *counts, *most])} |\n"
    yield "\n"


def _most(entries: Iterable[Mapping[str, Any]], mode: str) -> str:
    """Return the largest peak of the programs that fit, and whose it is."""
    found = [entry for entry in entries if entry["mode"] == mode and "peak_bytes" in entry]
    if not found:
        return ""
    largest = max(found, key=lambda entry: entry["peak_bytes"])
    return f"{_gib(largest, 'peak_bytes')}, {largest['experiment']}"


def _details(entries: Mapping[Key, Mapping[str, Any]]) -> Iterable[str]:
    for name in table.SURVEYED:
        target = table.get(name)
        found = [entry for key, entry in sorted(entries.items()) if key[1] == name]
        if not found:
            continue
        yield f"\n## {name}\n\n{target.chips} x {target.chip.name}, {target.devices} devices"
        yield f" on {target.hosts} host(s) as described to the compiler.\n\n"
        yield "| program | batch | outcome | arguments | temporaries | peak | of | GFLOP | GB |"
        yield " collectives | estimate, at least | device-hours | cycles, estimate |\n"
        yield "|---" * 13 + "|\n"
        for entry in found:
            yield _row(entry)


def _row(entry: Mapping[str, Any]) -> str:
    batch = str(entry.get("batch", ""))
    if entry.get("batch") != entry.get("recipe_batch"):
        batch += f" (recipe {entry['recipe_batch']})"
    if entry.get("accumulate", 1) > 1:
        batch += f", {entry['accumulate']} parts"
    cells = [
        f"{entry['experiment']} {entry['mode']}, {entry.get('precision', '')}",
        batch,
        outcome(entry),
        *(_gib(entry, f"{kind}_bytes") for kind in ("arguments", "temporaries", "peak", "memory")),
        _number(entry, "flops", 1e9, ".0f"),
        _number(entry, "accessed_bytes", 1e9, ".2f"),
        _number(entry, "collective_bytes", 1e6, ".1f", " MB"),
        _number(entry, "roofline_seconds", 1e-3, ".2f", " ms"),
        _number(entry, "device_hours", 1, ".1f"),
        _number(entry, "estimated_cycles", 1e6, ".1f", " M"),
    ]
    return f"| {' | '.join(cells)} |\n"


def outcome(entry: Mapping[str, Any] | None) -> str:
    """Return a program's outcome in words: compiled (as what), does not fit (remedy), the error."""
    if entry is None:
        return NOT_YET
    if entry["status"] == "compiled":
        as_what = f" as {entry['same_program_as']}" if "same_program_as" in entry else ""
        return "compiled" + as_what + (", quick" if "effort" in entry else "")
    if entry["status"] == "does not fit":
        return f"does not fit: {entry.get('remedy', 'a smaller batch')}"
    if entry["status"] == "error":
        return "error: " + entry["error"].replace("|", "\\|")[:200]
    return entry["status"]


def _gib(entry: Mapping[str, Any], name: str) -> str:
    return f"{entry[name] / table.GIB:.2f} GiB" if name in entry else ""


def _number(entry: Mapping[str, Any], name: str, unit: float, form: str, suffix: str = "") -> str:
    value = entry.get(name)
    return "" if value is None else f"{value / unit:{form}}{suffix}"


def _overview(entries: Mapping[Key, Mapping[str, Any]], rows: Iterable[tuple[str, str]]) -> str:
    lines = [
        f"| program | {' | '.join(table.SURVEYED)} |",
        "|---" * (len(table.SURVEYED) + 1) + "|",
    ]
    for name, mode in rows:
        cells = []
        for target in table.SURVEYED:
            entry = entries.get((name, target, mode))
            cells.append(_cell(entry) if entry else "")
        lines.append(f"| {name} {mode} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(entry: Mapping[str, Any]) -> str:
    if entry["status"] == "compiled":
        return f"{entry['peak_bytes'] / table.GIB:.2f}"
    return _only(entry) or entry["status"]


def _only(entry: Mapping[str, Any]) -> str:
    """Return e.g. "tpu only" for a kernel that was asked of another chip; empty: it was not."""
    before, _, only = entry.get("error", "").partition("a kernel for ")
    return "" if before else only


def main() -> None:
    """Write the page of this checkout."""
    from pathlib import Path

    from seg_jax import experiment, files
    from seg_jax.targets import survey

    root = Path(__file__).parents[2]
    entries = survey.load(root / "experiments" / "targets.json")
    files.write_text(root / "docs" / "targets.md", markdown(entries, experiment.names()))


if __name__ == "__main__":
    main()
