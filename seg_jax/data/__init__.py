"""Data sets by name. A reader is one module with

    GET = "put the archive"           how a user gets the data; completes "no folder ...: "
    splits(root)                      the names of the lists that the folder has
    open_split(root, split)           the `seg_jax.data.source.Source` of one list

and, where they apply, MAKES_ITSELF = True (opening it creates the data where there is none) and
PUBLISHED_WEIGHTS (class weights of the data set's release, one a class).

A new data set is one such file in `seg_jax/data/datasets/`, whose name is the data set's. In a
package of your own (`seg_jax.plugins`) it registers itself: `data.register("pets", __name__)`.
"""

import dataclasses
import importlib
import os
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from seg_jax import checks, files, plugins

if TYPE_CHECKING:
    from seg_jax.data.config import DataConfig
    from seg_jax.data.source import Source

_FOLDER = "datasets"


@dataclasses.dataclass(frozen=True)
class Reader:
    """A data set's reader, imported when it is first used: calling it calls `open_split`.

    Attributes:
      module: name of the reader's module.
    """

    module: str

    def __call__(self, root: Path, split: str) -> "Source":
        """Return the split, unchecked."""
        return self._imported.open_split(root, split)

    @property
    def get(self) -> str:
        """How a user gets the data."""
        return self._imported.GET

    @property
    def makes_itself(self) -> bool:
        """Whether opening it creates the data where there is none."""
        return getattr(self._imported, "MAKES_ITSELF", False)

    @property
    def published_weights(self) -> tuple[float, ...] | None:
        """Class weights of the data set's release, by class, where there are some."""
        return getattr(self._imported, "PUBLISHED_WEIGHTS", None)

    def splits(self, root: Path) -> tuple[str, ...]:
        """Return the names of the lists that the folder has."""
        return self._imported.splits(root)

    @property
    def _imported(self) -> ModuleType:
        module = importlib.import_module(self.module)
        missing = [name for name in ("GET", "splits", "open_split") if not hasattr(module, name)]
        if missing:
            raise checks.UserError(
                f"reader {self.module} has no {' and no '.join(missing)}: see the docstring of "
                "seg_jax.data for what a reader is"
            )
        return module


def _own_readers() -> dict[str, Reader]:
    """Find the readers by the names of their files: importing all of them takes seconds."""
    folder = os.path.join(os.path.dirname(__file__), _FOLDER)
    return {
        module.name: Reader(f"{__name__}.{_FOLDER}.{module.name}")
        for module in pkgutil.iter_modules([folder])
    }


_READERS = plugins.Registry("data set", _own_readers())


def register(dataset: str, module: str) -> None:
    """Make a reader known under a name: `register("pets", __name__)` in the reader's own module."""
    _READERS.register(dataset, Reader(module))


def names() -> tuple[str, ...]:
    """Return the name of every data set, sorted."""
    return _READERS.names()


def reader(dataset: str) -> Reader:
    """Return the reader of that name; an unknown one is a UserError that names the closest."""
    return _READERS.find(dataset)


def default_root(dataset: str) -> Path:
    """Return the data set's folder where none is given: see `files.find_place`."""
    return files.find_place("data", dataset)


def find_root(dataset: str, root: Path | None = None) -> Path:
    """Return the data set's folder, `root` or the default one; a missing one is a UserError that
    says which folder was looked at and how to get the data.
    """
    entry = reader(dataset)
    folder = Path(root).expanduser() if root else default_root(dataset)
    if not folder.is_dir() and not (entry.makes_itself and not folder.exists()):
        raise checks.UserError(
            f"data set {dataset!r}: no folder {checks.printable(folder.absolute())}; {entry.get} "
            "there, or name its folder with --data.root or $SEG_JAX_DATA"
        )
    return folder


def open_source(
    dataset: str, root: Path | None, split: str, *, allow_outside: bool = False
) -> "Source":
    """Return the split, its list and the existence of its files checked.

    Args:
      dataset: one of `names()`.
      root: the data set's folder; None: `default_root`.
      split: name of a list, e.g. "train".
      allow_outside: files may lie outside the folder: `DataConfig.allow_outside`.

    Raises:
      UserError: for an unknown name or split, missing data, an empty list, duplicated ids, and
        listed files that do not exist or lie outside the folder.
    """
    source = reader(dataset)(find_root(dataset, root), split)
    return dataclasses.replace(source, allow_outside=allow_outside).check_files()


def open_configured(config: "DataConfig", split: str, *, root: Path | None = None) -> "Source":
    """Return the split as an experiment's configuration reads it, checked as by `open_source`.

    Args:
      config: gives the data set, its folder, the meaning of mask values and the images' channels.
      split: name of a list.
      root: the data set's folder, instead of the configuration's.

    Raises:
      UserError: as `open_source`; a class id in `config.map` that the data set does not have.
    """
    from seg_jax.data.config import mask_values

    where = root or config.root
    source = open_source(config.dataset, where, split, allow_outside=config.allow_outside)
    meant, seen = mask_values(config.map), config.preprocessing
    if meant:
        source = source.with_values(meant)
    if seen.is_plain:
        return source
    return dataclasses.replace(source, channels=seen.channels, range=seen.range)
