"""The types that a configuration file may name: an allow-list; no file decides what is imported.

1. the configuration types of seg_jax: those of `_MODULES`, and of the folders in `_FOLDERS`;
2. the types that the user's process has passed to `register_type`;
3. the types in packages that the user has named (`use_package`; `seg_jax.plugins` calls it for
   $SEG_JAX_EXPERIMENTS), as far as these packages have been imported.
"""

import dataclasses
import functools
import importlib.machinery
import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import TypeVar

from seg_jax.config import values

_MODULES = (
    "experiment", "losses", "optim", "search_space", "data.config", "data.preprocessing",
    "kernels.crf.params",
)  # fmt: skip
_FOLDERS = ("models", "backbones", "nn")
_REGISTERED: dict[str, type] = {}
_PACKAGES: set[str] = set()
Kind = TypeVar("Kind")


def register_type(kind: type[Kind]) -> type[Kind]:
    """Allow configuration files to name a dataclass or Linen module; also usable as a decorator.

    Types of packages in $SEG_JAX_EXPERIMENTS need no call; those of scripts and notebooks do:

        @seg_jax.config.register_type
        class MyNet(nn.Module): ...

    Raises:
      TypeError: it is no dataclass.
    """
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise TypeError(f"{kind!r} is no dataclass or Linen module, so no type of a configuration")
    _REGISTERED[values.path_of(kind)] = kind
    return kind


def use_package(name: str) -> types.ModuleType:
    """Import a module or package that the user has chosen, and allow configuration files its types.

    It may lie in the current folder, from which nothing else is imported. Submodules are allowed
    once they are imported.

    Args:
      name: dotted, e.g. "my_lab.networks".

    Raises:
      ImportError: it does not exist, or imports what does not.
    """
    top = name.partition(".")[0]
    if top not in sys.modules and importlib.util.find_spec(top) is None:
        spec = importlib.machinery.PathFinder.find_spec(top, [os.getcwd()])
        if spec is not None:
            sys.modules[top] = module = importlib.util.module_from_spec(spec)
            try:
                if spec.loader is not None:  # a folder without __init__.py has none
                    spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[top]
                raise
    module = importlib.import_module(name)
    _PACKAGES.add(name)
    return module


def find(path: str) -> type:
    """Return the allowed type of that name.

    Args:
      path: module and name, e.g. "seg_jax.models.fcn.FCN".

    Raises:
      ValueError: it is not on the allow-list. Nothing that the name mentions has been imported.
    """
    found = _look_up(path)
    if found is None:
        # The user's packages may not have been imported yet.
        importlib.import_module("seg_jax.plugins").load()
        found = _look_up(path)
    if found is None:
        raise ValueError(
            f"unknown type {path!r}: types of seg_jax, of packages in $SEG_JAX_EXPERIMENTS and "
            "those passed to seg_jax.config.register_type are known"
        )
    return found


def _look_up(path: str) -> type | None:
    if path in _REGISTERED:
        return _REGISTERED[path]
    module_name, _, name = path.rpartition(".")
    if module_name in _own_modules():
        module = importlib.import_module(module_name)
    elif any(module_name == part or module_name.startswith(f"{part}.") for part in _PACKAGES):
        module = sys.modules.get(module_name)
    else:
        return None
    kind = vars(module).get(name) if module else None
    # Of the module itself: what it has imported is not its own.
    if not isinstance(kind, type) or kind.__module__ != module_name:
        return None
    return kind if dataclasses.is_dataclass(kind) else None


@functools.cache
def _own_modules() -> frozenset[str]:
    """Return the modules of seg_jax that define types of configurations, from its own folders."""
    package = Path(__file__).parents[1]
    found = {f"seg_jax.{name}" for name in _MODULES}
    for folder in _FOLDERS:
        files = (package / folder).glob("*.py")
        found |= {f"seg_jax.{folder}.{file.stem}" for file in files if file.stem != "__init__"}
    return frozenset(found)
