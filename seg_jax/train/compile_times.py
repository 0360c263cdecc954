"""How long it took to compile a training step the last time, kept beside the compiled programs."""

import contextlib
import math
import os
from pathlib import Path

import jax

from seg_jax import config, files
from seg_jax.checks import UserError
from seg_jax.experiment import Experiment
from seg_jax.runs import folder as run_folder

FOLDER = "compile_seconds"
_MOST_BYTES = 100


def last(experiment: Experiment) -> float | None:
    """Return the seconds that it took the last time on such devices; None: not known."""
    path = _path(experiment)
    if path is None or not os.path.lexists(path):
        return None
    try:
        seconds = files.read_json(path, most=_MOST_BYTES)
    except UserError:  # damaged: the next compilation writes it anew
        return None
    if isinstance(seconds, int | float) and math.isfinite(seconds) and seconds >= 0:
        return float(seconds)
    return None


def keep(experiment: Experiment, seconds: float) -> None:
    """Remember how long it took; nothing is kept where compiled programs are not.

    A file of its own for each, because several trainings may write at the same time.
    """
    path = _path(experiment)
    if path is None or jax.process_index():
        return
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        files.write_json(path, round(seconds, 2))


def _path(experiment: Experiment) -> Path | None:
    folder = jax.config.values["jax_compilation_cache_dir"]
    return Path(folder) / FOLDER / f"{_key(experiment)}.json" if folder else None


def _key(experiment: Experiment) -> str:
    device = jax.devices()[0].device_kind
    what = [run_folder.identity(experiment), device, jax.device_count(), jax.__version__]
    return config.digest(what)
