"""How Numba compiles the kernels on the host, and where it keeps them."""

import logging
import os
from pathlib import Path
from typing import Any

from numba.core import config

from seg_jax import files

_log = logging.getLogger(__name__)


def _keep() -> bool:
    """Choose the folder for compiled kernels; return whether they are kept.

    What lies there is run, so it must be the user's alone. Numba's own choice, __pycache__ beside
    the source, is a folder that others may write where a package is shared.
    """
    try:
        folder = Path(os.environ.get("NUMBA_CACHE_DIR") or files.place("cache") / "numba")
        files.make_private(folder, variable="NUMBA_CACHE_DIR")
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        _log.warning("compiled kernels are not kept: %s", error)
        return False
    config.CACHE_DIR = str(folder)  # pyright: ignore[reportAttributeAccessIssue]
    return True


# Of `numba.njit`. NumPy's error model: a division by 0 is no exception, so that loops vectorise.
OPTIONS: dict[str, Any] = {"nogil": True, "cache": _keep(), "error_model": "numpy"}
