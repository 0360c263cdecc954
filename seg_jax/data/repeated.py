"""DeepLab v3's duplicated images: those with hard classes are used twice in every epoch."""

from collections.abc import Sequence

import numpy as np

from seg_jax import checks
from seg_jax import progress as progress_bar
from seg_jax.data.source import Source, Subset


def repeat(source: Source, classes: Sequence[int], *, progress: bool = True) -> Source | Subset:
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
    return Subset(source, (*every, *twice))
