"""Where the experiments are, with their records and index: found without importing them."""

import importlib.util
from pathlib import Path


def experiments_folder() -> Path:
    """Return the folder of the package `experiments`, without importing it."""
    spec = importlib.util.find_spec("experiments")
    assert spec is not None and spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))
