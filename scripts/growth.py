"""How the cost of a training step grows with the batch, the crop, the classes and the devices.

    python scripts/growth.py cpu     # compiled and run here; on an idle machine
    python scripts/growth.py tpu     # compiled for 1, 8, 64 and 256 TPU v5e; in .venv-targets
    python scripts/growth.py page    # docs/performance.md, from what these two found

Each row changes one thing of one experiment. The first two add what they find, row by row, to
experiments/growth.json; `--only AXIS` does one of batch, crop, classes, devices again. Devices of
the CPU are forced ones of the same two cores, so that only the overhead of splitting can be seen.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "experiments" / "growth.json"
PAGE = ROOT / "docs" / "performance.md"
EXPERIMENT = "deeplab_v3_mobilenetv2_camvid"
BASE = {"batch": 8, "crop": 257, "classes": 11, "devices": 1}
VALUES = {
    "cpu": {
        "batch": (1, 2, 4, 8, 16),
        "crop": (129, 193, 257, 385),
        "classes": (11, 21, 60, 150),
        "devices": (1, 2, 4),
    },
    "tpu": {"devices": (1, 8, 64, 256)},
}
TOPOLOGIES = {1: ("v5e:2x2", 4), 8: ("v5e:2x4", 8), 64: ("v5e:8x8", 64), 256: ("v5e:16x16", 256)}
STEPS = 5
COLUMNS = {
    "seconds": "s a step",
    "gflop": "GFLOP",
    "temporaries_mib": "temporaries, MiB",
    "collective_mib": "collectives, MiB",
}


def experiment_of(setting: dict[str, int]) -> Any:
    """Return the experiment with a setting's crop and classes, on random labels of all classes."""
    from seg_jax import experiment

    found = experiment.get(EXPERIMENT)
    side, classes = setting["crop"], setting["classes"]
    augmentation = dataclasses.replace(found.data.augmentation, crop=(side, side))
    return dataclasses.replace(
        found,
        data=dataclasses.replace(found.data, augmentation=augmentation),
        model=found.model.clone(num_classes=classes),
        loss=dataclasses.replace(found.loss, class_weights=()),
    )


def figures(compiled: Any) -> dict[str, float]:
    """Return what the compiler says of one device's share of a program."""
    from seg_jax.targets import cost

    found = cost.of(compiled, compiled.as_text())
    return {
        "gflop": round((found.flops or 0) / 1e9, 2),
        "temporaries_mib": round(found.temporaries_bytes / 2**20, 1),
        "collective_mib": round(found.collective_bytes / 2**20, 2),
    }


def on_cpu(setting: dict[str, int]) -> dict[str, float]:
    """Compile a step for forced CPU devices, and time it: the median of a few."""
    from seg_jax import parallel

    parallel.prepare_process()
    import jax

    from seg_jax.targets import programs

    found, mesh = experiment_of(setting), parallel.make_mesh()
    compiled = programs.training(found, mesh, setting["batch"]).compile()
    state, batch, inputs = programs.arguments(found, mesh, setting["batch"])
    taken = []
    for _ in range(3 + STEPS):
        began = time.perf_counter()
        state, metrics = compiled(state, batch, inputs)
        jax.block_until_ready(metrics)
        taken.append(time.perf_counter() - began)
    return {"seconds": round(statistics.median(taken[3:]), 3)} | figures(compiled)


def on_tpu(setting: dict[str, int]) -> dict[str, float]:
    """Compile a step for TPUs that are not here; nothing runs."""
    from seg_jax import parallel
    from seg_jax.targets import programs, table, topology

    devices = setting["devices"]
    target = table.Target(f"v5e-{devices}", table.V5E, *TOPOLOGIES[devices])
    topology.prepare(target)
    mesh = parallel.make_mesh(topology.describe(target)[:devices])
    return figures(programs.training(experiment_of(setting), mesh, setting["batch"]).compile())


def settings(where: str, only: str) -> list[tuple[str, dict[str, int]]]:
    """Return (what changes, setting): on TPU eight images a chip, else the same batch for all."""
    rows = []
    for axis, values in VALUES[where].items():
        for value in values if only in ("", axis) else ():
            setting = BASE | {axis: value}
            if where == "tpu":
                setting["batch"] = BASE["batch"] * value
            rows.append((axis, setting))
    return rows


def add(where: str, axis: str, setting: dict[str, int], found: dict[str, float]) -> None:
    """Put a row into the record, in place of the one of the same setting."""
    import jax

    rows = json.loads(RECORD.read_text()) if RECORD.exists() else []
    row = {
        "where": where, "axis": axis, **setting, **found, "jax": jax.__version__,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}", "date": time.strftime("%F"),
    }  # fmt: skip
    same = ("where", "axis", *BASE)
    rows = [old for old in rows if any(old[key] != row[key] for key in same)] + [row]
    order = {axis: number for number, axis in enumerate(BASE)}
    rows.sort(key=lambda row: (row["where"], order[row["axis"]], row[row["axis"]]))
    RECORD.write_text(json.dumps(rows, indent=1) + "\n")


def exponent(values: list[float], costs: list[float]) -> float | None:
    """Return p of cost ~ value ** p by least squares of the logarithms; None: it has none."""
    if len(values) < 3 or min(costs) <= 0:
        return None
    return float(np.polyfit(np.log(values), np.log(costs), 1)[0])


def page(rows: list[dict[str, Any]]) -> str:
    """Return docs/performance.md."""
    text = [
        "# How the cost grows",
        "Generated by `python scripts/growth.py page` from experiments/growth.json; do not edit.",
        f"A training step of `{EXPERIMENT}` in float32, one thing changed at a time from "
        f"{BASE['batch']} images of {BASE['crop']} px, {BASE['classes']} classes, one device. "
        "FLOPs, temporaries and collectives are those of one device's program, by the compiler. "
        "**p** is the exponent of cost ~ x^p, fitted to the logarithms; of the crop, x is the "
        "number of pixels. Above 1, the cost grows more than in proportion. Devices of the CPU are "
        "forced ones of the same cores: their times show what splitting costs, not what it gains.",
    ]
    titles = {
        "cpu": "Run on the CPU (`python scripts/growth.py cpu`)",
        "tpu": "Compiled for TPU v5e, not run (`python scripts/growth.py tpu`)",
    }
    names = {"batch": "images", "crop": "crop, px", "classes": "classes", "devices": "devices"}
    for where, title in titles.items():
        own = [row for row in rows if row["where"] == where]
        if not own:
            continue
        versions = sorted({f"jax {row['jax']}, {row['machine']}, {row['date']}" for row in own})
        text += [f"## {title}", f"{'; '.join(versions)}."]
        for axis in VALUES[where]:
            some = [row for row in own if row["axis"] == axis]
            if some:
                text.append(_table(axis, names[axis], some))
    return "\n\n".join(text) + "\n"


def _fit(axis: str, key: str, rows: list[dict[str, Any]]) -> float | None:
    if axis == "devices" and key == "collective_mib":  # one has no other to sum its gradients with
        rows = [row for row in rows if row["devices"] > 1]
    x = [row[axis] ** 2 if axis == "crop" else row[axis] for row in rows]
    return exponent(x, [row[key] for row in rows])


def _table(axis: str, name: str, rows: list[dict[str, Any]]) -> str:
    shown = [key for key in COLUMNS if any(row.get(key) for row in rows)]
    lines = [f"| {name} | " + " | ".join(COLUMNS[key] for key in shown) + " |"]
    lines.append("|---" * (1 + len(shown)) + "|")
    for row in rows:
        lines.append(f"| {row[axis]} | " + " | ".join(f"{row[key]:,.4g}" for key in shown) + " |")
    fitted = [_fit(axis, key, rows) for key in shown]
    cells = (f"**{p:.2f}**" if p is not None else "" for p in fitted)
    return "\n".join([*lines, "| p | " + " | ".join(cells) + " |"])


def main() -> None:
    """Measure, compile, or write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("cpu", "tpu", "page"))
    parser.add_argument("--only", default="", choices=("", *BASE))
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:  # a process for each row: its own devices, its own memory
        axis, setting = json.loads(options.row)
        measure = on_cpu if options.what == "cpu" else on_tpu
        add(options.what, axis, setting, measure(setting))
        return
    if options.what == "page":
        PAGE.write_text(page(json.loads(RECORD.read_text())))
        return
    for axis, setting in settings(options.what, options.only):
        print(f"{axis}: {setting}", file=sys.stderr)
        flags = os.environ.get("XLA_FLAGS", "")
        if options.what == "cpu":
            flags += f" --xla_force_host_platform_device_count={setting['devices']}"
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
        command = [sys.executable, __file__, options.what, "--row", json.dumps([axis, setting])]
        subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
