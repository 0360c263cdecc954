"""Batches of windows, and the sums over the images that they are parts of."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seg_jax import inference, metrics


class Batch(NamedTuple):
    """Windows of one shape; the last batch of a shape is filled up with all-IGNORE labels."""

    image: np.ndarray  # uint8 [n h w 3]
    label: np.ndarray  # uint8 [n h' w']
    regions: list[tuple[int, tuple[slice, slice]]]  # image and region of each real window


class Tally:
    """Adds batches up, and images once all their windows are there."""

    def __init__(
        self,
        sums: metrics.Scores,
        *,
        boundaries: bool,
        on_image: Callable[[int, np.ndarray], None] | None,
    ):
        self._sums = sums
        self._boundaries = boundaries
        self._on_image = on_image
        self._images = 0
        self._open: dict[int, _OpenImage] = {}

    def begin(self, index: int, label: np.ndarray, window_count: int) -> None:
        """Announce an image, before its windows come."""
        self._open[index] = _OpenImage(label, np.zeros(label.shape, np.uint8), window_count)

    def add(self, batch: Batch, answer: tuple[Any, Any]) -> int:
        """Count a batch; return how many images are complete with it."""
        counts, predictions = answer
        self._sums.confusion[...] += np.asarray(counts)
        wanted = self._boundaries or self._on_image is not None
        predictions = np.asarray(predictions) if wanted else None
        complete = 0
        for slot, (index, region) in enumerate(batch.regions):
            image = self._open[index]
            if wanted:
                inference.place(image.prediction, region, predictions[slot])
            image.missing -= 1
            if not image.missing:
                complete += 1
                self._close(index, self._open.pop(index))
        self._images += complete
        return complete

    def _close(self, index: int, image: "_OpenImage") -> None:
        if self._boundaries:
            pair, num_classes = (image.label, image.prediction), len(self._sums.confusion)
            bands = metrics.trimap_confusion(*pair, num_classes, self._sums.trimap_px)
            self._sums.trimap[...] += bands
            edges = metrics.boundary_f1(*pair, num_classes)
            self._sums.boundary[...] += metrics.boundary_sums(edges)
        if self._on_image is not None:
            self._on_image(index, image.prediction)

    def scores(self) -> metrics.Scores:
        """Return the sums so far."""
        return dataclasses.replace(self._sums, images=self._images)


@dataclasses.dataclass
class _OpenImage:
    label: np.ndarray  # uint8 [h w]
    prediction: np.ndarray  # uint8 [h w], as far as its windows are there
    missing: int  # windows still to come
