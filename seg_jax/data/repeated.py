"""DeepLab v3's duplicated images: those with hard classes are used twice in every epoch."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from seg_jax import checks
from seg_jax import progress as progress_bar
from seg_jax.data.source import Record, Source


@dataclasses.dataclass(frozen=True)
class Repeated:
    """A split of which some images are repeated.

    Attributes:
      source: the split.
      indices: index in `source` of every image of this split.
    """

    source: Source
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        """Read one image and its mask."""
        return self.source[self.indices[index]]


def repeat(source: Source, classes: Sequence[int], *, progress: bool = True) -> Source | Repeated:
    """Return the split with every image that has one of the classes repeated once, at the end.

    All masks are read for this (some seconds for VOC's 2,913).

    Args:
      source: the split.
      classes: class ids; empty: the split itself is returned.
      progress: draw a progress bar.

    Raises:
      UserError: a class id is not one of the data set's.
    """
    if not classes:
        return source
    unknown = [value for value in classes if not 0 <= value < len(source.classes)]
    if unknown:
        raise checks.UserError(
            f"data.repeat_classes {unknown}: class ids of {source.name} are "
            f"0..{len(source.classes) - 1}"
        )
    every = range(len(source))
    bar = progress_bar.bar(every, desc="looking for classes to repeat", shown=progress)
    twice = [index for index in bar if np.isin(source.label(index), classes).any()]
    return Repeated(source, (*every, *twice))
