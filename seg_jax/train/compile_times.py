"""How long it took to compile a training step the last time, kept beside the compiled programs."""

import contextlib
import math
import os
from pathlib import Path
from typing import Any

import jax

from seg_jax import config, files
from seg_jax.checks import UserError
from seg_jax.experiment import Experiment
from seg_jax.runs import folder as run_folder

FILE = "compile_seconds.json"
_MOST_ENTRIES = 1000
_MOST_BYTES = 2**20


def last(experiment: Experiment) -> float | None:
    """Return the seconds that it took the last time on such devices; None: not known."""
    seconds = _read().get(_key(experiment))
    known = isinstance(seconds, int | float) and math.isfinite(seconds) and seconds > 0
    return float(seconds) if known else None


def keep(experiment: Experiment, seconds: float) -> None:
    """Remember how long it took; nothing is kept where compiled programs are not."""
    path = _path()
    if path is None or jax.process_index():
        return
    known = _read()
    known.pop(_key(experiment), None)  # the newest is the last
    known[_key(experiment)] = round(seconds, 2)
    with contextlib.suppress(OSError):
        files.write_json(path, dict(list(known.items())[-_MOST_ENTRIES:]))


def _path() -> Path | None:
    folder = jax.config.jax_compilation_cache_dir
    return Path(folder) / FILE if folder else None


def _read() -> dict[str, Any]:
    path = _path()
    if path is None or not os.path.lexists(path):
        return {}
    try:
        found = files.read_json(path, most=_MOST_BYTES)
    except UserError:  # damaged: the next compilation writes it anew
        return {}
    return found if isinstance(found, dict) else {}


def _key(experiment: Experiment) -> str:
    device = jax.devices()[0].device_kind
    what = [run_folder.identity(experiment), device, jax.device_count(), jax.__version__]
    return config.digest(what)
