"""Accumulates metrics over batches of windows, and merges the windows of each image."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from seg_jax import metrics
from seg_jax.experiment import EvalConfig
from seg_jax.inference import forward, stitching
from seg_jax.inference.windows import Window
from seg_jax.metrics import bootstrap

Refine = Callable[[np.ndarray, np.ndarray], np.ndarray]
OnImage = Callable[[int, np.ndarray], None]


@dataclasses.dataclass(frozen=True)
class Division:
    """How the work on a batch of windows is divided between device and host.

    Attributes:
      device_counts: the device computes the confusion matrix. Otherwise the host does, for each
        image: if boundaries are measured or probabilities are merged.
      probabilities: the host gets the probabilities of a window, not only its most probable
        classes: to average overlapping windows, to resize, or for a CRF.
    """

    device_counts: bool
    probabilities: bool

    @classmethod
    def of(cls, evaluation: EvalConfig, *, boundaries: bool, refine: bool) -> "Division":
        """Return the division that transfers the least data to the host."""
        probabilities = refine or forward.needs_probabilities(evaluation)
        return cls(device_counts=not (boundaries or probabilities), probabilities=probabilities)


class Batch(NamedTuple):
    """Windows of one shape; the last batch of a shape is padded with labels of IGNORE only."""

    image: np.ndarray  # uint8 [n h w 3]
    label: np.ndarray | None  # uint8 [n h' w'], if the device counts
    windows: list[tuple[int, Window]]  # each with the index of its image


class Output(NamedTuple):
    """The network's output for a batch of windows."""

    prediction: Any  # uint8 [n h w], or the probabilities, float32 [n h w k]
    confusion: Any | None  # int32 [k k], if the device counts


class Accumulator:
    """Accumulates the counts of batches, and of each image once all its windows are there.

    Args:
      classes: names by id.
      evaluation: the protocol.
      division: of the work between device and host.
      boundaries: also measure boundaries, objects and single images.
      on_image: called with index and prediction of each image when it is complete.
      refine: maps an image, uint8 [h w 3], and its probabilities, float32 [h w k], to refined
        probabilities.
      per_image: int64 [n 3 k], which receives `metrics.bootstrap.image_counts` of each image; None:
        they are not wanted. Only with `boundaries`.
    """

    def __init__(
        self,
        classes: Sequence[str],
        evaluation: EvalConfig,
        division: Division,
        *,
        boundaries: bool,
        on_image: OnImage | None = None,
        refine: Refine | None = None,
        per_image: np.ndarray | None = None,
    ):
        self._classes = classes
        self._sums = metrics.Scores.zero(len(classes), evaluation.trimap_px)
        self._evaluation = evaluation
        self._division = division
        self._boundaries = boundaries
        self._on_image = on_image
        self._refine = refine
        self._per_image = per_image
        self._images = 0
        self._open: dict[int, _OpenImage] = {}

    def begin(
        self, index: int, image: np.ndarray, label: np.ndarray, windows: Sequence[Window]
    ) -> None:
        """Register an image before its windows are added."""
        whole = stitching.stitch(label.shape, windows, self._evaluation)
        kept = image if self._refine else None
        self._open[index] = _OpenImage(kept, label, whole, len(windows))

    def add(self, batch: Batch, output: Output) -> int:
        """Add a batch; return how many images it completes."""
        if self._division.device_counts:
            self._sums.confusion[...] += np.asarray(output.confusion)
        merge = not self._division.device_counts or self._on_image is not None
        predictions = np.asarray(output.prediction) if merge else None
        complete = 0
        for slot, (index, window) in enumerate(batch.windows):
            image = self._open[index]
            if predictions is not None:
                image.whole.add(window, predictions[slot])
            image.missing -= 1
            if not image.missing:
                complete += 1
                del self._open[index]
                if merge:
                    self._close(index, image)
        self._images += complete
        return complete

    def _close(self, index: int, image: "_OpenImage") -> None:
        prediction = image.whole.result()
        if self._division.probabilities:
            if self._refine and image.image is not None:
                prediction = self._refine(image.image, prediction)
            prediction = forward.labels(prediction)
        if self._boundaries:
            trimap_px = self._evaluation.trimap_px
            found = metrics.of_image(image.label, prediction, self._classes, trimap_px)
            self._sums += found
            if self._per_image is not None:
                self._per_image[index] = bootstrap.image_counts(found.confusion)
        elif not self._division.device_counts:
            self._sums.confusion[...] += metrics.confusion_on_host(
                image.label, prediction, len(self._classes)
            )
        if self._on_image is not None:
            self._on_image(index, prediction)

    def scores(self) -> metrics.Scores:
        """Return the counts so far."""
        return dataclasses.replace(self._sums, images=self._images)


@dataclasses.dataclass
class _OpenImage:
    image: np.ndarray | None  # uint8 [h w 3], for `refine`
    label: np.ndarray  # uint8 [h w]
    whole: stitching.Stitched  # merges the windows added so far
    missing: int  # windows still to come
