"""The run record: what was measured, on what, how, and by which code."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from seg_jax import metrics
from seg_jax.papers import Protocol
from seg_jax.results import schema
from seg_jax.results.searched import Searched

_ERRORS = ("pixel_error", "rand_error", "warping_error")
SCHEMA = 2  # 1 had no image_iou, objects and membranes among its counts
# Metrics that came after schema 2, from its counts: older records do not show them. Recall is the
# accuracy of a class, F1 is Dice's coefficient.
LATER_METRICS = {
    "per_class_precision": metrics.per_class_precision,
    "per_class_recall": metrics.per_class_accuracy,
    "per_class_dice": metrics.per_class_dice,
}


@dataclasses.dataclass(frozen=True)
class Split:
    """One list of a data set.

    Attributes:
      name: of the data set as it was found; "-part" marks an incomplete one.
      split: name of the list.
      images: how many it holds.
      description: one line, e.g. "voc2012-part val: 351 of 1449 images".
      checksum: SHA-256 of the list of ids.
    """

    name: str
    split: str
    images: int
    description: str
    checksum: str


@dataclasses.dataclass(frozen=True)
class Training:
    """How the weights came about.

    Attributes:
      data: the training images; None where they were not available when the record was made.
      pretraining: experiment or weights it started from; "none": random initialisation.
      steps: optimiser updates done.
      batch_size: images in an update.
      crop: (height, width) of the training images, in pixels.
      seed: of initialisation, order, augmentation and dropout.
      seconds: wall time of training, None if unknown.
      parameters: numbers in the model's parameters.
      selection: how the checkpoint was chosen: "best of 12 by mean_iou on val"; empty: the last.
    """

    data: Split | None
    pretraining: str
    steps: int
    batch_size: int
    crop: tuple[int, ...]
    seed: int
    seconds: float | None
    parameters: int
    selection: str = ""


@dataclasses.dataclass(frozen=True)
class PublishedWeights:
    """Weights that others trained and published.

    Attributes:
      name: in the catalogue.
      trained_on: data, first to last.
      saw_val: whether VOC 2012's val images were among them: "no", "yes" or "unknown".
    """

    name: str
    trained_on: str
    saw_val: str


@dataclasses.dataclass(frozen=True)
class Counts:
    """`metrics.Scores` as lists: integers, from which every metric is divided."""

    confusion: tuple[tuple[int, ...], ...]
    trimap: tuple[tuple[tuple[int, ...], ...], ...]
    trimap_px: tuple[int, ...]
    boundary: tuple[tuple[int, ...], ...]
    image_iou: tuple[tuple[int, ...], ...]
    objects: tuple[tuple[tuple[int, ...], ...], ...]
    membranes: tuple[tuple[int, ...], ...]
    images: int


@dataclasses.dataclass(frozen=True)
class Record:
    """One evaluation of one run.

    Attributes:
      schema: version of this format.
      experiment: its registered name.
      family: the architecture's name.
      run: name of the run's folder.
      config: the resolved experiment, as `seg_jax.config.to_dict` writes it.
      digest: of that configuration.
      data: the evaluated images.
      classes: names by class id.
      protocol: of the evaluation, in the terms of published figures.
      cutting: how images were fitted to the network, in words.
      training: how the weights came about.
      counts: sums over the split.
      evaluation_seconds: wall time.
      revision: git commit of seg_jax; None: not run from a checkout.
      dirty: the checkout had changes that no commit holds.
      versions: of Python and the libraries.
      device: what JAX ran on.
      command: that made this record.
      date: of the evaluation, ISO 8601, UTC.
      weights: published ones, which were not trained here; None: those of the run.
      searched: the sweep that chose the settings; None: no sweep did.
    """

    schema: int
    experiment: str
    family: str
    run: str
    config: dict[str, Any]
    digest: str
    data: Split
    classes: tuple[str, ...]
    protocol: Protocol
    cutting: str
    training: Training
    counts: Counts
    evaluation_seconds: float
    revision: str | None
    dirty: bool | None
    versions: dict[str, str]
    device: dict[str, Any]
    command: str
    date: str
    weights: PublishedWeights | None = None
    searched: Searched | None = None

    @functools.cached_property
    def scores(self) -> metrics.Scores:
        """The counts as arrays, with the metrics as properties."""
        bands, k = self.counts.trimap_px, len(self.classes)
        arrays = {
            name: np.array(getattr(self.counts, name), np.int64).reshape(shape)
            for name, shape in metrics.shapes_of_counts(k, len(bands)).items()
        }
        return metrics.Scores(**arrays, trimap_px=bands, images=self.counts.images)

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        """Every metric by name, as shares of 1; None where there is no score."""
        scores = self.scores
        membranes = scores.membranes.any()
        return {
            "mean_iou": _number(scores.mean_iou),
            "pixel_accuracy": _number(scores.pixel_accuracy),
            "mean_accuracy": _number(scores.mean_accuracy),
            "frequency_weighted_iou": _number(scores.frequency_weighted_iou),
            "mean_dice": _number(scores.mean_dice),
            "mean_image_iou": _number(scores.mean_image_iou),
            "boundary_f1": _number(scores.boundary_f1),
            "boundary_accuracy": _number(scores.boundary_accuracy),
            "internal_accuracy": _number(scores.internal_accuracy),
            "object_iou": _by_name(metrics.SIZE_NAMES, scores.object_iou),
            **({"membrane_errors": _by_name(_ERRORS, scores.membrane_errors)} if membranes else {}),
            "trimap_mean_iou": _by_name(scores.trimap_px, scores.trimap_iou),
            "per_class_iou": _by_name(self.classes, scores.per_class_iou),
            "per_class_boundary_f1": _by_name(self.classes, scores.per_class_boundary_f1),
            **{
                name: _by_name(self.classes, share(scores.confusion))
                for name, share in LATER_METRICS.items()
            },
        }

    def to_dict(self) -> dict[str, Any]:
        """Return what `result.json` holds: the fields and, for its readers, the metrics."""
        return {**schema.plain(self), "metrics": self.metrics}


def counts_of(scores: metrics.Scores) -> Counts:
    """Return the sums of an evaluation as a record stores them."""
    counts = {name: getattr(scores, name).tolist() for name in metrics.shapes_of_counts(0, 0)}
    plain = {"trimap_px": list(scores.trimap_px), "images": scores.images}
    return schema.parse(Counts, {**counts, **plain}, file="scores")


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _by_name(names: tuple, values: Any) -> dict[str, float | None]:
    return {str(name): _number(value) for name, value in zip(names, values, strict=True)}
