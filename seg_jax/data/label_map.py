"""Names and colours of a model's class ids."""

from typing import NamedTuple

import numpy as np

from seg_jax import checks, data
from seg_jax.data import colours
from seg_jax.data.config import DataConfig
from seg_jax.types import VOC_CLASSES, voc_palette


class LabelMap(NamedTuple):
    """Names and colours by class id.

    Attributes:
      names: of the classes.
      colours: red, green and blue of each, 0..255.
    """

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]

    @property
    def palette(self) -> np.ndarray:
        """Colours of all 256 values of a label map, uint8 [256 3]; VOC's beyond the classes."""
        palette = voc_palette()
        palette[: len(self.colours)] = self.colours
        return palette


def find(config: DataConfig, num_classes: int) -> LabelMap:
    """Return the label map of the data set, if its folder is there.

    Otherwise the names and colours are VOC's for 21 classes; for any other count they are numbers,
    with colours that colour-blind readers can tell apart.

    Args:
      config: configuration of the data that the model was trained on.
      num_classes: number of the model's classes.
    """
    names = tuple(f"class {index}" for index in range(num_classes))
    if num_classes == len(VOC_CLASSES):
        names = VOC_CLASSES
    palette = colours.of(names)
    try:
        source = data.open_configured(config, config.val_split)
        names, palette = tuple(source.classes), source.palette
    except checks.UserError:
        pass  # predicting images and releasing weights must work without the data set
    found = ((int(r), int(g), int(b)) for r, g, b in palette[: len(names)])
    return LabelMap(names, tuple(found))
