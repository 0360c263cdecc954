"""Four networks beside compiled PyTorch, and the dense CRF: compiled together, measured in turn.

    python scripts/gpu/together.py --work FOLDER [--compile-seconds 100]

Compiling takes minutes, for PyTorch even more than for XLA, and measuring seconds. So every
network's forward pass and training step, and the CRF, have a process that compiles; when all have
done so, or the time for it is over, they measure one after the other, each alone on the machine.
What has not compiled by then is ended, and said to be.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import turns

SCRIPTS = Path(__file__).resolve().parents[1]
# Plain convolutions, pooling with indices, a dilated ResNet, depthwise convolutions.
NETWORKS = (
    "deeplab_v3_resnet50_voc", "deeplab_v3plus_mobilenetv2_voc", "fcn8s_vgg16_voc",
    "segnet_vgg16_camvid",
)  # fmt: skip


def jobs(options: argparse.Namespace) -> dict[str, list[str]]:
    """Return the words of every process by name."""
    found = {}
    for name in NETWORKS[-1:] if options.tiny else NETWORKS:
        for job in ("forward",) if options.tiny else ("step", "forward"):
            found[f"{name}_{job}"] = [
                str(SCRIPTS / "bench.py"), "--only", name, "--jobs", job, "--dtype", "bfloat16",
                "--rounds", "2" if options.tiny else "20", "--step-images", "8",
                "--step-side", "257", "--output", str(options.work / f"{name}_{job}"),
            ]  # fmt: skip
    size = ["small", "--rounds", "1"] if options.tiny else ["321", "voc", "513", "--rounds", "5"]
    found["crf"] = [
        str(SCRIPTS / "bench_crf.py"), "--settings", "v2", "--sizes", *size, "--implementations",
        "lattice", *(() if options.tiny else ("exact_hopper",)),
    ]  # fmt: skip
    return found


def report(options: argparse.Namespace, states: Mapping[str, str]) -> None:
    """Write one record of all rows, and summary.md with every table and state."""
    lines, rows, record = [], [], {}
    for name, state in states.items():
        lines.append(f"{name}: {state}")
        for path in sorted((options.work / name).glob("*.json")):
            record = json.loads(path.read_text())
            rows += record["rows"]
        for path in sorted((options.work / name).glob("*.md")):
            table = path.read_text().splitlines()
            lines += [line for line in table if line.startswith("|") or line.startswith("*")]
        log = options.work / f"{name}.log"
        if name == "crf" and log.exists():
            lines += log.read_text(errors="replace").splitlines()[-12:]
    if rows:
        record = {**record, "command": "scripts/gpu.sh bench", "rows": rows}
        path = options.work / f"cuda_{record['dtype']}.json"
        path.write_text(json.dumps(record, indent=1) + "\n")
    (options.work / "summary.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Compile together, measure in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--compile-seconds", type=float, default=100)
    parser.add_argument("--tiny", action="store_true", help="one network and the lattice, small")
    options = parser.parse_args()
    found = jobs(options)
    for name in found:  # of an earlier run
        shutil.rmtree(options.work / name, ignore_errors=True)
    codes = turns.measure(
        found,
        options.work,
        compile_seconds=options.compile_seconds,
        report=lambda states: report(options, states),
    )
    sys.exit(1 if any(codes.values()) else 0)


if __name__ == "__main__":
    main()
