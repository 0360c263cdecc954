"""Some images of a split with truth and prediction, for a report: RUN/predictions.

They are spread evenly over the split; those with the lowest IoU are added.
"""

import heapq
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_jax import checks
from seg_jax.data import visualize
from seg_jax.data.source import Source
from seg_jax.metrics import bootstrap

_COUNT, _WORST = 8, 4
_KINDS = ("input.jpg", "truth.png", "prediction.png")


class ExampleImages:
    """Writes examples, spread evenly over a split, beside those of an earlier evaluation.

    The earlier ones stay until `publish` replaces them. An error of the disk's does not end the
    evaluation.

    Args:
      folder: RUN/predictions.
      source: the split.
      per_image: int64 [n 3 k], which has an image's counts (`bootstrap.image_counts`) by the time
        that `keep` is called for it.
      worst: number of those with the lowest IoU; fewer than the default are not kept.

    Attributes:
      error: the first error; None: there was none.
    """

    def __init__(self, folder: Path, source: Source, per_image: np.ndarray, *, worst: int = 0):
        self.error: OSError | None = None
        self._most = max(_WORST, worst)
        self._folder, self._source, self._per_image = folder, source, per_image
        self._shown = set(np.linspace(0, len(source) - 1, min(len(source), _COUNT)).astype(int))
        self._worst: list[tuple[float, int, np.ndarray]] = []  # (-mean IoU, -index, prediction)
        self._new = folder.with_name(f".{folder.name}.{os.urandom(8).hex()}.part")

    def keep(self, index: int, prediction: np.ndarray) -> None:
        """Write an image if it is one of the examples, and remember it if it is among the worst.

        Args:
          index: in the split.
          prediction: uint8 [h w].
        """
        if self.error:
            return
        if index in self._shown:
            self._write(index, prediction)
            return
        iou = float(bootstrap.mean_iou(self._per_image[index]))
        if not math.isnan(iou):
            heapq.heappush(self._worst, (-iou, -index, prediction))
            if len(self._worst) > self._most:
                heapq.heappop(self._worst)  # the best of them

    def _write(self, index: int, prediction: np.ndarray) -> None:
        try:
            write_images(self._new, self._source, index, prediction)
        except OSError as error:
            self.error = error

    def publish(self) -> None:
        """Put the new images into the folder, then delete those of earlier evaluations.

        Raises:
          OSError: they could not be written; the earlier ones are all there.
        """
        for _, index, prediction in self._worst:
            if not self.error:
                self._write(-index, prediction)
        if self.error:
            raise self.error
        names = {path.name for path in self._new.iterdir()} if self._new.is_dir() else set()
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(names):
            os.replace(self._new / name, self._folder / name)
        for path in self._folder.iterdir():
            ours = path.name.endswith(tuple(f".{kind}" for kind in _KINDS))
            if ours and path.name not in names and path.is_file():
                path.unlink()

    def close(self) -> None:
        """Remove what was not published."""
        shutil.rmtree(self._new, ignore_errors=True)


def write_images(folder: Path, source: Source, index: int, prediction: np.ndarray) -> None:
    """Write one image, its truth and its prediction, uint8 [h w], for a report."""
    folder.mkdir(parents=True, exist_ok=True)
    example = source[index]
    name = checks.path_component(example["id"].replace("/", "_").replace("\\", "_"), "image")
    images = (
        Image.fromarray(visualize.as_rgb(example["image"])),
        visualize.label_image(example["label"], source.palette),
        visualize.label_image(prediction, source.palette),
    )
    for kind, image in zip(_KINDS, images, strict=True):
        options: dict[str, Any] = {"quality": 90, "subsampling": 0} if kind.endswith(".jpg") else {}
        image.save(folder / f"{name}.{kind}", **options)
