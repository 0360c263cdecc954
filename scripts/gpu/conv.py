"""Every case of bench_conv.py in bfloat16: compiled side by side, measured in turn.

python scripts/gpu/conv.py --work FOLDER
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import turns

SCRIPT = Path(__file__).resolve().parents[1] / "bench_conv.py"


def names() -> list[str]:
    """Return the names of the cases, of which some share one."""
    return list(
        dict.fromkeys(re.findall(r'^    Case\("([^"]+)"', SCRIPT.read_text(), re.MULTILINE))
    )


def report(work: Path, states: Mapping[str, str]) -> None:
    """Write summary.md: every line that was printed, and what did not end well."""
    lines = []
    for name, state in states.items():
        log = work / f"{name}.log"
        found = log.read_text(errors="replace").splitlines() if log.exists() else []
        lines += [line for line in found if re.search(r" (forward|gradients) ", line)]
        lines += [] if state == "done" else [f"{name}: {state}"]
    (work / "summary.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run a process for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--compile-seconds", type=float, default=35)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", nargs="+", default=names(), help="names of cases")
    options = parser.parse_args()
    words = [str(SCRIPT), "--dtype", "bfloat16", "--batch", str(options.batch)]
    words += ["--rounds", str(options.rounds), "--only"]
    codes = turns.measure(
        {name: [*words, name] for name in options.only},
        options.work,
        compile_seconds=options.compile_seconds,
        report=lambda states: report(options.work, states),
    )
    sys.exit(1 if any(codes.values()) else 0)


if __name__ == "__main__":
    main()
