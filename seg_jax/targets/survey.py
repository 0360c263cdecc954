"""Every experiment on every target: a file of outcomes that grows, and goes on where it stopped.

Each program is compiled in a process of its own: a compiler that aborts takes only that one along.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from seg_jax import files, progress
from seg_jax.targets.compiling import ERROR

NOT_YET = "not compiled yet"
Key = tuple[str, str, str]


def key(entry: dict[str, Any]) -> Key:
    """Return experiment, target and mode: what an entry is of."""
    return entry["experiment"], entry["target"], entry["mode"]


def load(path: Path) -> dict[Key, dict[str, Any]]:
    """Return the entries of the file by key; none if it is not there."""
    if not path.exists():
        return {}
    return {key(entry): entry for entry in json.loads(path.read_text())}


def save(path: Path, entries: dict[Key, dict[str, Any]]) -> None:
    """Write the entries, sorted, whole or not at all."""
    files.write_json(path, [entries[found] for found in sorted(entries)])


def run(
    wanted: Iterable[Key],
    path: Path,
    *,
    compile_one: Callable[[Key], dict[str, Any]],
    say: Callable[[str], None] = progress.show,
    seconds: float = float("inf"),
) -> int:
    """Compile what the file does not have yet; write it after each; return how many were added.

    Args:
      wanted: in the order in which to compile.
      path: experiments/targets.json.
      compile_one: returns one entry.
      say: prints a line for each.
      seconds: after which no further one is begun.
    """
    entries, begin, added = load(path), time.monotonic(), 0
    for found in wanted:
        if found in entries:
            continue
        if time.monotonic() - begin > seconds:
            break
        entry = compile_one(found)
        entries = load(path) | {found: entry}
        save(path, entries)
        added += 1
        say(f"{' '.join(found)}: {entry['status']}")
    return added


def in_a_process(found: Key, options: Sequence[str] = ()) -> dict[str, Any]:
    """Compile one program by `python -m seg_jax compile` and return its entry."""
    name, target, mode = found
    command = [sys.executable, "-m", "seg_jax", "compile", name, "--for", target, "--json"]
    if mode != "kernel":
        command += ["--modes", mode]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    try:
        return json.loads(done.stdout)[0]
    except (ValueError, IndexError):
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else "no output"
        return {
            "experiment": name,
            "target": target,
            "mode": mode,
            "status": ERROR,
            "error": f"the compiler ended with code {done.returncode}: {reason[:500]}",
        }
