"""A handful of validation images with truth and prediction, and the confusion matrix, as images.

They are the same images at every evaluation of a run, spread evenly over the split.
"""

import numpy as np
from PIL import Image

from seg_jax.data import visualize
from seg_jax.data.source import Source, Subset

_COUNT = 4
_LONGEST_PX = 320  # of an image's longer side as it is shown
_CELL_PX = 12  # side of a cell of the confusion matrix, at least
_MATRIX_PX = 320


class TrainingImages:
    """What an evaluation predicts for some images of a split.

    Args:
      source: the whole split.

    Attributes:
      shown: the images.
    """

    def __init__(self, source: Source):
        count = min(len(source), _COUNT)
        indices = np.linspace(0, len(source) - 1, count).astype(int).tolist()
        self.shown = Subset(source, tuple(indices))
        self._found: dict[int, np.ndarray] = {}

    def keep(self, index: int, prediction: np.ndarray) -> None:
        """Make one picture of image, truth and prediction, uint8 [h w]."""
        example, palette = self.shown[index], self.shown.source.palette
        image = Image.fromarray(visualize.as_rgb(example["image"]))
        truth, found = (
            visualize.label_image(label, palette).convert("RGB")
            for label in (example["label"], prediction)
        )
        factor = min(1.0, _LONGEST_PX / max(image.size))
        width, height = (max(1, round(side * factor)) for side in image.size)
        parts = [
            np.asarray(part.resize((width, height), method))
            for part, method in (
                (image, Image.Resampling.BILINEAR),
                (truth, Image.Resampling.NEAREST),
                (found, Image.Resampling.NEAREST),
            )
        ]
        self._found[self.shown.indices[index]] = np.concatenate(parts, axis=1)

    def images(self, confusion: np.ndarray) -> dict[str, np.ndarray]:
        """Return the pictures by name, uint8 [h w 3], the confusion matrix among them."""
        pictures = {
            f"evaluate/image {index}: input, truth, prediction": picture
            for index, picture in sorted(self._found.items())
        }
        return {**pictures, "evaluate/confusion": matrix_image(confusion)}


def matrix_image(confusion: np.ndarray) -> np.ndarray:
    """Return a confusion matrix [k k] as an image: a row for each true class, from the top, a
    column for each predicted one; a cell is the darker the greater its share of the row.
    """
    counts = np.asarray(confusion, np.float64)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(_CELL_PX, _MATRIX_PX // len(counts))
    grey = np.kron(np.uint8(np.round(255 * (1 - share))), np.ones((side, side), np.uint8))
    grey[::side], grey[:, ::side] = 224, 224
    return np.repeat(grey[..., None], 3, axis=2)
