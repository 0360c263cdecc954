"""The converters' libraries, which are no requirement of seg_jax: they pin versions against it."""

import importlib
from types import ModuleType

from seg_jax.checks import UserError


def needed(module: str, format: str) -> ModuleType:
    """Import a module that a format needs; UserError with the remedy where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"--format {format} needs {module.partition('.')[0]} ({error}): `bash "
            "scripts/test_export.sh` makes .venv-export with it; run .venv-export/bin/python"
        ) from error
