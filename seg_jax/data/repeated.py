"""DeepLab v3's duplicated images: those with hard classes come twice in every epoch."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from seg_jax import checks
from seg_jax import progress as progress_bar
from seg_jax.data.source import Record, Source


@dataclasses.dataclass(frozen=True)
class Repeated:
    """A split whose images come in another number than they are listed.

    Attributes:
      source: the split.
      indices: of its images, in the order in which they are now numbered.
    """

    source: Source
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        """Read one image and its mask."""
        return self.source[self.indices[index]]


def repeat(source: Source, classes: Sequence[int], *, progress: bool = True) -> Source | Repeated:
    """Return the split with every image that holds one of the classes a second time, at the end.

    Reads all masks once (VOC's 2,913 take some seconds).

    Args:
      source: the split.
      classes: ids; none: the split itself.
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
