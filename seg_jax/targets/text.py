"""What `compile` prints, from the data of an entry."""

from collections.abc import Mapping
from typing import Any

from seg_jax.targets import bundles
from seg_jax.targets.compiling import COMPILED, ERROR
from seg_jax.targets.cost import gib


def heading(entry: Mapping[str, Any]) -> str:
    """Return the line that names program, target and batch."""
    batch = f"batch {entry['batch']}"
    if entry["batch"] != entry["recipe_batch"]:
        batch += f" (the recipe's {entry['recipe_batch']} does not divide among the devices)"
    micro = f", {entry['accumulate']} micro-batches" if entry["accumulate"] > 1 else ""
    return (
        f"{entry['experiment']}, {entry['mode']}, {entry['target']}: {batch}{micro} on "
        f"{entry['devices']} devices, {entry['precision']}"
    )


def entry_text(entry: Mapping[str, Any], *, top: int = 20) -> str:
    """Return one program's outcome in a few lines; every time is called an estimate."""
    lines = [heading(entry)]
    if entry["status"] == ERROR:
        lines.append(f"  does not compile: {entry['error']}")
        return "\n".join(lines)
    memory = f"{gib(entry['peak_bytes'])} of {gib(entry['memory_bytes'])} a device"
    if entry["status"] == COMPILED:
        if "same_program_as" in entry:
            how = f"the program of {entry['same_program_as']}, compiled before, not run"
        else:
            quick = "quickly, " if "effort" in entry else ""
            how = f"compiled {quick}in {entry['compile_seconds']} s, not run"
        lines.append(f"  {how}; fits: {memory}")
    else:
        lines.append(f"  does not fit: {memory}; set {entry.get('remedy', 'a smaller batch')}")
    if "arguments_bytes" in entry:
        lines.append(
            f"  arguments {gib(entry['arguments_bytes'])}, temporaries "
            f"{gib(entry['temporaries_bytes'])}"
        )
        work = collectives_text(entry["collectives"])
        if entry["flops"] is not None and entry["accessed_bytes"] is not None:
            work = (
                f"{entry['flops'] / 1e9:.1f} GFLOP, {entry['accessed_bytes'] / 1e9:.2f} GB read "
                f"and written, {work}"
            )
        elif entry["flops"] is not None:
            gflop = entry["flops"] / 1e9
            work = f"{gflop:.1f} GFLOP of convolutions and matrix products, {work}"
        else:
            work += "; this compiler counts neither FLOPs nor bytes, --cycles adds up its estimates"
        lines.append(f"  a device: {work}")
    if entry.get("roofline_seconds"):
        line = (
            f"  estimate at the published peaks: {1e3 * entry['roofline_seconds']:.2f} ms at least"
        )
        if "device_hours" in entry:
            line += f", {entry['device_hours']:.1f} device-hours for the recipe"
        lines.append(line)
    if "estimated_cycles" in entry:
        lines += _cycles(entry, top)
        if "device_hours" in entry and not entry.get("roofline_seconds"):
            lines.append(
                f"  {entry['device_hours']:.1f} device-hours for the recipe, by the cycles"
            )
    for kernel in entry.get("bundles", ()):
        lines += [f"  {line}" for line in bundles.text(kernel).splitlines()]
    if "largest_batch" in entry:
        lines.append(f"  largest global batch found to fit: {entry['largest_batch']}")
    return "\n".join(lines)


def collectives_text(collectives: Mapping[str, Mapping[str, int]]) -> str:
    """Return kinds, numbers and bytes of the collectives in words."""
    if not collectives:
        return "no collectives"
    return ", ".join(
        f"{kind['count']} {name} of {kind['bytes'] / 1e6:.1f} MB"
        for name, kind in collectives.items()
    )


def _cycles(entry: Mapping[str, Any], top: int) -> list[str]:
    total = entry["estimated_cycles"]
    seconds = entry["estimated_seconds"]
    line = f"  {total / 1e6:.1f} M cycles by the compiler's estimate"
    if seconds:
        images = entry["batch"] / entry["devices"] / seconds
        line += (
            f": {1e3 * seconds:.1f} ms, {images:.0f} images a second a device, "
            f"{100 * entry['utilization']:.1f} % of peak"
        )
    line += f"; convolutions and matrix products {100 * entry['convolution_share']:.0f} %"
    lines = [line]
    for group in entry.get("cycles_by", ())[:top]:
        share = 100 * group["cycles"] / max(total, 1)
        direction = "backward" if group["backward"] else "forward "
        lines.append(f"    {share:5.1f} %  {direction}  {group['kind']}  {group['module']}")
    if entry.get("without_estimate"):
        names = ", ".join(f"{n} {name}" for name, n in entry["without_estimate"].items())
        lines.append(f"    without an estimate: {names}")
    return lines
