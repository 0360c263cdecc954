"""Where a number comes from: the code's revision, the libraries, the machine, the moment."""

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

LIBRARIES = ("seg_jax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "pillow")


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Return the commit of the checkout whose top is `folder`, and whether tracked files differ.

    (None, None) if it is none: an installed copy has no revision of its own.
    """

    def git(*args: str) -> str:
        command = ["git", "-C", str(folder), *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder.resolve():
            return None, None
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "-uno"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def versions() -> dict[str, str]:
    """Return the version of Python and of every library that can move a number."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def device() -> dict[str, str | int]:
    """Return what JAX runs on: platform, kind, number of devices and processes, host cores."""
    return {
        "platform": jax.default_backend(),
        "kind": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "cores": os.cpu_count() or 0,
    }


def of_this_process() -> dict[str, Any]:
    """Return the fields of a record that say what made it; the date is ISO 8601 in UTC."""
    revision, dirty = git_state(Path(__file__).parents[2])
    return {
        "revision": revision,
        "dirty": dirty,
        "versions": versions(),
        "device": device(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
