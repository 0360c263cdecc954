"""Every experiment on every target: a file of outcomes that grows, and goes on where it stopped.

Each program is compiled in a process of its own: a compiler that aborts takes only that one along.
"""

import contextlib
import fcntl
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_jax import config, files, progress
from seg_jax.experiment import Experiment
from seg_jax.targets import table
from seg_jax.targets.compiling import ERROR

NOT_YET = "not compiled yet"
Key = tuple[str, str, str]
# Of an entry, not kept in the file, whose page does not show them; `compile --cycles` prints them.
DETAILS = ("cycles_by", "without_estimate")


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


def add(path: Path, entry: dict[str, Any]) -> None:
    """Add one entry, but for its DETAILS; several processes may do so at once."""
    entry = {name: value for name, value in entry.items() if name not in DETAILS}
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        save(path, load(path) | {key(entry): entry})
    finally:
        os.close(folder)


def run(
    wanted: Iterable[Key],
    path: Path,
    *,
    compile_one: Callable[[Key, float | None], dict[str, Any] | None],
    say: Callable[[str], None] = progress.show,
    seconds: float = math.inf,
) -> int:
    """Compile what the file does not have yet, what takes least first; return how many were added.

    The file is written after each. What is cut off, by the time or by a signal, is no outcome: the
    next run compiles it.

    Args:
      wanted: what to compile.
      path: experiments/targets.json.
      compile_one: returns one entry, given the seconds it may take; None: it was cut off.
      say: prints a line for each.
      seconds: after which everything ends.
    """
    begin, added, known = time.monotonic(), 0, load(path)
    for found in sorted(wanted, key=lambda found: _seconds(found, known)):
        if found in load(path):  # perhaps by another process, since this one began
            continue
        left = begin + seconds - time.monotonic()
        if left <= 0:
            say("the time is over; the same command goes on")
            break
        entry = compile_one(found, left if math.isfinite(left) else None)
        if entry is None:
            say(f"{' '.join(found)}: cut off, not recorded")
            continue
        add(path, entry)
        added += 1
        say(f"{' '.join(found)}: {entry['status']}")
    return added


def _seconds(found: Key, entries: Mapping[Key, Mapping[str, Any]]) -> float:
    """Guess how long a compilation takes, for the order: as for the same program elsewhere, else
    by the number of layers, which the name of a backbone tells.
    """
    name, target, mode = found
    platform = table.get(target).chip.platform
    known = [
        entry["compile_seconds"]
        for (other, its_target, its_mode), entry in entries.items()
        if (other, its_mode, table.get(its_target).chip.platform) == (name, mode, platform)
        and "compile_seconds" in entry
    ]
    if known:
        return sum(known) / len(known)
    layers = re.search(r"(?:vgg|resnet|xception)(\d+)", name)
    depth = int(layers.group(1)) if layers else 53 if "mobilenet" in name else 20
    guess = depth * {"tpu": 3.0, "gpu": 1.0}[platform] * (1.0 if mode == "train" else 0.5)
    return guess / 2 if name.endswith("_synthetic") else guess


def in_a_process(
    found: Key, options: Sequence[str] = (), *, timeout: float | None = None
) -> dict[str, Any] | None:
    """Compile one program by `python -m seg_jax compile` and return its entry.

    Returns:
      None if it took longer than `timeout` seconds, or a signal from outside ended it.
    """
    name, target, mode = found
    command = [sys.executable, "-m", "seg_jax", "compile", name, "--for", target, "--json"]
    if mode != "kernel":
        command += ["--modes", mode]
    try:
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return None
    if -done.returncode in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        return None
    return _entry(found, done)


def of_experiment(experiment: Experiment, target: str) -> dict[str, Any]:
    """Compile the training step of an experiment as it is, overrides and all; return its entry."""
    done = subprocess.run(
        [sys.executable, "-c", _ONE, target],
        input=json.dumps(config.to_dict(experiment)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return _entry((experiment.name, target, "train"), done)


_ONE = """
import json, sys
from seg_jax import config, experiment
from seg_jax.targets import table, topology
target = table.get(sys.argv[1])
topology.prepare(target)
from seg_jax.targets import compiling
wanted = config.from_dict(json.load(sys.stdin), experiment.Experiment)
print(json.dumps([compiling.experiment_entry(wanted, target, "train")]))
"""


def _entry(found: Key, done: subprocess.CompletedProcess) -> dict[str, Any]:
    """Return the entry that a process has printed, or one that says why there is none."""
    try:
        return json.loads(done.stdout)[0]
    except (ValueError, IndexError):
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else "no output"
        return _error(found, f"the compiler ended with code {done.returncode}: {reason[:500]}")


def cut_off(found: Key) -> dict[str, Any]:
    """Return the entry of a program whose compiler a signal ended, where that is to be shown."""
    return _error(found, "a signal ended the compiler; too little memory?")


def _error(found: Key, words: str) -> dict[str, Any]:
    name, target, mode = found
    return {"experiment": name, "target": target, "mode": mode, "status": ERROR, "error": words}
