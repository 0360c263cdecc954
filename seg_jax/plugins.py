"""Packages of a user's own: they bring experiments, data set readers, losses, transforms, loggers.

A package is named in the environment variable SEG_JAX_EXPERIMENTS (names separated by commas), or
by an installed distribution in the entry-point group `seg_jax.experiments` (value: the package).
Its modules are imported, and what they register is then known by name. Such a package is code that
the user has chosen to run: no file that is read can name one.
"""

import functools
import importlib
import os
import pkgutil
import re
from collections.abc import Callable
from typing import Generic, TypeVar

from seg_jax import checks, config

VARIABLE = "SEG_JAX_EXPERIMENTS"
GROUP = "seg_jax.experiments"
Value = TypeVar("Value")


class Registry(Generic[Value]):
    """What can be named in a configuration: the package's own entries and those of users.

    Args:
      kind: what an entry is, for messages, e.g. "data set".
      own: the package's entries by name; they are found without importing a user's package.
    """

    def __init__(self, kind: str, own: dict[str, Value]):
        self._kind = kind
        self._entries = dict(own)

    def register(self, name: str, value: Value) -> None:
        """Add an entry; a name that is taken is a ValueError."""
        if self._entries.setdefault(name, value) != value:
            raise ValueError(f"{self._kind} {name!r} is registered twice")

    def decorator(self, name: str) -> Callable[[Value], Value]:
        """Return a decorator that adds what it decorates."""

        def add(value: Value) -> Value:
            self.register(name, value)
            return value

        return add

    def names(self) -> tuple[str, ...]:
        """Return every name, sorted."""
        load()
        return tuple(sorted(self._entries))

    def find(self, name: str) -> Value:
        """Return an entry; an unknown name is a UserError that names the closest ones."""
        if name not in self._entries:
            load()
        if name not in self._entries:
            raise checks.UserError(f"{self._kind}: {checks.unknown(name, self._entries)}")
        return self._entries[name]


def packages() -> tuple[tuple[str, str], ...]:
    """Return every package's name, and where it is named: the variable or a distribution."""
    named = os.environ.get(VARIABLE, "").split(",")
    return (
        *((name.strip(), VARIABLE) for name in named if name.strip()),
        *_entry_points(),
    )


@functools.cache
def _entry_points() -> tuple[tuple[str, str], ...]:
    import importlib.metadata  # 30 ms, which only a look-up of names needs

    return tuple(
        (point.module, f"the entry point {point.name!r} of {GROUP}")
        for point in importlib.metadata.entry_points(group=GROUP)
    )


def load() -> None:
    """Import every user's package, with the modules directly in it.

    Raises:
      UserError: a package does not exist, or imports what does not.
    """
    for package, origin in packages():
        import_all(package, origin)


def import_all(package: str, origin: str) -> None:
    """Import a module or, of a package, every module directly in it.

    Args:
      package: dotted name.
      origin: where it is named, for the error.

    Raises:
      UserError: it does not exist, or imports what does not.
    """
    if not re.fullmatch(r"\w+(\.\w+)*", package):
        raise checks.UserError(
            f"{origin} names {package!r}, which is not the dotted name of a package; separate "
            "several by commas"
        )
    try:
        root = config.use_package(package)
        for module in pkgutil.iter_modules(getattr(root, "__path__", ())):
            importlib.import_module(f"{package}.{module.name}")
    except ImportError as error:
        raise checks.UserError(
            f"{origin} names the package {package!r}, which cannot be imported ({error}); correct "
            "the name, or install the package or put its folder on PYTHONPATH"
        ) from error
