"""Batches of windows, and the sums over the images that they are parts of."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from seg_jax import inference, metrics, stitching
from seg_jax.cutting import Window
from seg_jax.experiment import EvalConfig

Refine = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Batch(NamedTuple):
    """Windows of one shape; the last batch of a shape is filled up with all-IGNORE labels."""

    image: np.ndarray  # uint8 [n h w 3]
    label: np.ndarray | None  # uint8 [n h' w']; None: the host counts
    windows: list[tuple[int, Window]]  # each with the index of its image


class Tally:
    """Adds batches up, and images once all their windows are there.

    Args:
      classes: names by id.
      evaluation: the protocol.
      boundaries: also count what is measured image by image.
      on_image: called with index and prediction of every image as it is done.
      refine: given a picture, uint8 [h w 3], and its probabilities, float32 [h w k], returns the
        probabilities to use instead. Batches then bring probabilities.
    """

    def __init__(
        self,
        classes: Sequence[str],
        evaluation: EvalConfig,
        *,
        boundaries: bool,
        on_image: Callable[[int, np.ndarray], None] | None,
        refine: Refine | None = None,
    ):
        self._classes = classes
        self._sums = metrics.Scores.zero(len(classes), evaluation.trimap_px)
        self._evaluation = evaluation
        self._boundaries = boundaries
        self._on_image = on_image
        self._refine = refine
        self._images = 0
        self._open: dict[int, _OpenImage] = {}

    def begin(
        self, index: int, image: np.ndarray, label: np.ndarray, cut: Sequence[Window]
    ) -> None:
        """Announce an image, before its windows come."""
        whole = stitching.stitch(label.shape, cut, self._evaluation)
        picture = image if self._refine else None
        self._open[index] = _OpenImage(picture, label, whole, len(cut))

    def add(self, batch: Batch, answer: tuple[Any, Any]) -> int:
        """Count a batch; return how many images are complete with it.

        Args:
          batch: windows.
          answer: their confusion matrix, int [k k], or None: the host counts; and their
            predictions, uint8 [n h w], or probabilities, float32 [n h w k].
        """
        counts, found = answer
        if counts is not None:
            self._sums.confusion[...] += np.asarray(counts)
        wanted = counts is None or self._on_image is not None
        found = np.asarray(found) if wanted else None
        complete = 0
        for slot, (index, window) in enumerate(batch.windows):
            image = self._open[index]
            if wanted:
                image.whole.add(window, found[slot])
            image.missing -= 1
            if not image.missing:
                complete += 1
                del self._open[index]
                if wanted:
                    self._close(index, image, counted=counts is not None)
        self._images += complete
        return complete

    def _close(self, index: int, image: "_OpenImage", *, counted: bool) -> None:
        prediction = image.whole.result()
        if prediction.ndim == 3:
            if self._refine:
                prediction = self._refine(image.picture, prediction)
            prediction = inference.labels(prediction)
        if self._boundaries:
            trimap_px = self._evaluation.trimap_px
            self._sums += metrics.of_image(image.label, prediction, self._classes, trimap_px)
        elif not counted:
            self._sums.confusion[...] += metrics.confusion_on_host(
                image.label, prediction, len(self._classes)
            )
        if self._on_image is not None:
            self._on_image(index, prediction)

    def scores(self) -> metrics.Scores:
        """Return the sums so far."""
        return dataclasses.replace(self._sums, images=self._images)


@dataclasses.dataclass
class _OpenImage:
    picture: np.ndarray | None  # uint8 [h w 3], for `refine`
    label: np.ndarray  # uint8 [h w]
    whole: (
        stitching.Mosaic | stitching.Overlap | stitching.Resized
    )  # as far as its windows are there
    missing: int  # windows still to come
