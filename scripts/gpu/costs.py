"""What XLA says of training steps on this device, beside the memory and time that they take.

    python scripts/gpu/costs.py --work FOLDER

The steps are those of the recipes, in bfloat16. For a GPU that is elsewhere XLA tells the memory of
such a program and neither FLOPs nor bytes (`seg_jax compile`); on the device it tells all three.
Every network compiles in a process of its own, and they measure in turn.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import turns

NETWORKS = ("deeplab_v3_resnet50_voc", "deeplab_v3plus_mobilenetv2_voc", "fcn8s_vgg16_voc")
TINY = ("segnet_basic_camvid",)  # in a rehearsal
CHIP = "h200x8"  # target whose chip gives the bound; of memory: H200 for H100 is too fast
STEPS = 10


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the compiler's figures and the measured ones of one network's step."""
    import jax

    from seg_jax import experiment, parallel
    from seg_jax.targets import cost, programs, table

    parallel.prepare_process()
    chosen = experiment.get(name)
    train = dataclasses.replace(chosen.train, precision="bfloat16")
    chosen = dataclasses.replace(chosen, train=train)
    images = train.batch_size
    if options.tiny:
        images, augmentation = 1, dataclasses.replace(chosen.data.augmentation, crop=(96, 96))
        data = dataclasses.replace(chosen.data, augmentation=augmentation)
        chosen = dataclasses.replace(chosen, data=data)
    size = chosen.data.augmentation.crop
    mesh = parallel.make_mesh(jax.devices()[:1])
    state, batch, inputs = programs.arguments(chosen, mesh, images)
    started = time.monotonic()
    compiled = programs.training(chosen, mesh, images).compile()
    compile_seconds = time.monotonic() - started
    said = cost.of(compiled, compiled.as_text())
    with turns.alone(options.turns):
        seconds = []
        for _ in range(2 if options.tiny else STEPS + 2):
            started = time.monotonic()
            state, metrics = compiled(state, batch, inputs)
            jax.block_until_ready(metrics)
            seconds.append(time.monotonic() - started)
    used = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {
        "name": name,
        "device": jax.devices()[0].device_kind,
        "images": images,
        "size": list(size),
        "compile_seconds": round(compile_seconds, 1),
        "step_seconds": statistics.median(seconds[-STEPS:]),
        "peak_bytes_in_use": used,
        "bound_seconds": cost.roofline_seconds(said, table.get(CHIP), "bfloat16"),
        **dataclasses.asdict(said),
    }


def report(names: list[str], work: Path) -> None:
    """Write summary.md."""
    lines = [
        f"Bound: the slower of FLOPs and bytes at the published peaks of {CHIP.split('x')[0]}.",
        "",
        "| step | images | compiled (s) | planned GiB | in use GiB | TFLOP | GB | bound ms | ms |",
        "|---|---|" + "---:|" * 7,
    ]
    for name in names:
        path = work / f"{name}.json"
        if not path.exists():
            lines.append(f"| {name} | no result | | | | | | | |")
            continue
        one = json.loads(path.read_text())
        numbers = (
            (one["peak_bytes"], 2**30, ".2f"), (one["peak_bytes_in_use"], 2**30, ".2f"),
            (one["flops"], 1e12, ".3f"), (one["accessed_bytes"], 1e9, ".1f"),
            (one["bound_seconds"], 1e-3, ".2f"), (one["step_seconds"], 1e-3, ".2f"),
        )  # fmt: skip
        cells = [
            "-" if value is None else format(value / unit, form) for value, unit, form in numbers
        ]
        shape = f"{one['images']} of {one['size'][0]}x{one['size'][1]}"
        lines.append(f"| {name} | {shape} | {one['compile_seconds']} | {' | '.join(cells)} |")
    (work / "summary.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Measure all networks, or one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true", help="one network, one image of 96 px")
    parser.add_argument("--only", help="measure this network, in this process")
    parser.add_argument("--turns", type=Path, help="folder of those that take turns")
    options = parser.parse_args()
    if options.only:
        found = measure(options.only, options)
        (options.work / f"{options.only}.json").write_text(json.dumps(found, indent=1) + "\n")
        return
    names = list(TINY if options.tiny else NETWORKS)
    for name in names:  # of an earlier run
        (options.work / f"{name}.json").unlink(missing_ok=True)
    words = ["--tiny"] if options.tiny else []
    codes = turns.measure(
        {name: [__file__, "--work", str(options.work), "--only", name, *words] for name in names},
        options.work,
        compile_seconds=900 if options.tiny else 60,
        report=lambda states: report(names, options.work),
    )
    sys.exit(1 if any(codes.values()) else 0)


if __name__ == "__main__":
    main()
