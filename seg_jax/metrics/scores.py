"""All counts over a split, as integers, and the metrics computed from them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from seg_jax.metrics import boundary, isbi2012, object_sizes, sums
from seg_jax.metrics import confusion_matrix as matrix

_MEMBRANES = ("membrane", "cell")  # the classes of ISBI 2012
_SUMMARY = (
    "mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "mean_dice",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Sums over images. `a + b` are the sums over both; metrics do not depend on the grouping.

    Attributes:
      confusion: int64 [k k], pixels; row: truth, column: prediction.
      trimap: int64 [r k k], the same within each band around the labelled boundaries.
      trimap_px: half-widths of the r bands, in pixels.
      boundary: int64 [2 k+1], `metrics.image_sums` of boundary F1.
      image_iou: int64 [2 k+1], the same of IoU in single images.
      objects: int64 [2 3 k], IoU of single objects by size and class, and their numbers.
      membranes: int64 [2 4], `metrics.image_sums` of the errors of ISBI 2012; of other data sets 0.
      images: how many were counted.
    """

    confusion: np.ndarray
    trimap: np.ndarray
    trimap_px: tuple[int, ...]
    boundary: np.ndarray
    image_iou: np.ndarray
    objects: np.ndarray
    membranes: np.ndarray
    images: int

    @classmethod
    def zero(cls, num_classes: int, trimap_px: tuple[int, ...]) -> "Scores":
        """Return the sums over no image."""
        shapes = shapes_of_counts(num_classes, len(trimap_px))
        arrays = {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}
        return cls(**arrays, trimap_px=tuple(trimap_px), images=0)

    def __add__(self, other: "Scores") -> "Scores":
        if self.trimap_px != other.trimap_px or self.confusion.shape != other.confusion.shape:
            raise ValueError(
                f"scores of {len(self.confusion)} classes and bands {self.trimap_px} cannot be "
                f"added to scores of {len(other.confusion)} classes and bands {other.trimap_px}"
            )
        names = shapes_of_counts(0, 0)
        return Scores(
            **{name: getattr(self, name) + getattr(other, name) for name in names},
            trimap_px=self.trimap_px,
            images=self.images + other.images,
        )

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that occur."""
        return matrix.mean_iou(self.confusion)

    @property
    def per_class_iou(self) -> np.ndarray:
        """IoU of each class, float64 [k]; NaN where it does not occur."""
        return matrix.per_class_iou(self.confusion)

    @property
    def pixel_accuracy(self) -> float:
        """Share of labelled pixels that are right."""
        return matrix.pixel_accuracy(self.confusion)

    @property
    def mean_accuracy(self) -> float:
        """Mean over the true classes of their share of right pixels."""
        return matrix.mean_accuracy(self.confusion)

    @property
    def frequency_weighted_iou(self) -> float:
        """IoU weighted by each class's share of the true pixels."""
        return matrix.frequency_weighted_iou(self.confusion)

    @property
    def mean_dice(self) -> float:
        """Mean over the classes that occur of Dice's coefficient."""
        return matrix.mean(matrix.per_class_dice(self.confusion))

    @property
    def trimap_iou(self) -> tuple[float, ...]:
        """Mean IoU within each band of `trimap_px`."""
        return tuple(matrix.mean_iou(band) for band in self.trimap)

    @property
    def boundary_accuracy(self) -> float:
        """Share of right pixels within 7 px of a boundary (GCN, Table 5); NaN: no such band."""
        return matrix.pixel_accuracy(self._near) if self._near is not None else float("nan")

    @property
    def internal_accuracy(self) -> float:
        """Share of right pixels further from every boundary; NaN: no such band."""
        if self._near is None:
            return float("nan")
        # Below 0 only in a file that contradicts itself, whose metrics then differ.
        return matrix.pixel_accuracy(np.maximum(self.confusion - self._near, 0))

    @property
    def _near(self) -> np.ndarray | None:
        if boundary.GCN_PX not in self.trimap_px or not self.trimap.any():
            return None
        return self.trimap[self.trimap_px.index(boundary.GCN_PX)]

    @property
    def boundary_f1(self) -> float:
        """Boundary F1: mean over classes in each image, then over images (SegNet sec. 4)."""
        return float(sums.means(self.boundary)[-1])

    @property
    def per_class_boundary_f1(self) -> np.ndarray:
        """Boundary F1 of each class, mean over the images that hold it, float64 [k]; or NaN."""
        return sums.means(self.boundary)[:-1]

    @property
    def mean_image_iou(self) -> float:
        """Mean over images of the mean IoU over the classes in truth or prediction of each."""
        return float(sums.means(self.image_iou)[-1])

    @property
    def object_iou(self) -> tuple[float, ...]:
        """IoU of small, medium and large objects: the mean over each class's, then over classes."""
        return tuple(matrix.mean(by_class) for by_class in sums.means(self.objects))

    @property
    def membrane_errors(self) -> tuple[float, ...]:
        """Pixel, Rand and warping error of ISBI 2012, means over images; NaN on other data sets."""
        return tuple(sums.means(self.membranes)[:-1].tolist())


def summary(scores: Scores, classes: Sequence[str]) -> dict[str, Any]:
    """Return what the confusion matrix gives, as shares of 1: numbers by name, and IoU by class,
    None for one that occurs nowhere.
    """
    by_class = {
        name: None if np.isnan(iou) else float(iou)
        for name, iou in zip(classes, scores.per_class_iou, strict=True)
    }
    return {**{name: getattr(scores, name) for name in _SUMMARY}, "per_class_iou": by_class}


def summary_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the numbers in a `summary`; those of IoU are "per_class_iou/CLASS"."""
    return (*_SUMMARY, *(f"per_class_iou/{name}" for name in classes))


def shapes_of_counts(num_classes: int, bands: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array of `Scores` by name."""
    k = num_classes
    return {
        "confusion": (k, k),
        "trimap": (bands, k, k),
        "boundary": (2, k + 1),
        "image_iou": (2, k + 1),
        "objects": (2, len(object_sizes.SIZE_NAMES), k),
        "membranes": (2, 4),
    }


def of_image(
    label: np.ndarray,
    prediction: np.ndarray,
    classes: Sequence[str],
    trimap_px: tuple[int, ...],
) -> Scores:
    """Return the sums over one image.

    Args:
      label: integers [h w], class id or IGNORE.
      prediction: integers [h w], class id.
      classes: names by id. "background" has no objects; ISBI 2012's two classes are also scored by
        the errors of its challenge.
      trimap_px: half-widths of the bands, in pixels, ascending.
    """
    k = len(classes)
    counts = matrix.confusion_on_host(label, prediction, k)
    things = [index for index, name in enumerate(classes) if name != "background"]
    found = Scores.zero(k, trimap_px)
    if tuple(classes) == _MEMBRANES:
        found.membranes[...] = sums.image_sums(isbi2012.errors(label, prediction))
    return dataclasses.replace(
        found,
        confusion=counts,
        trimap=boundary.trimap_confusion(label, prediction, k, trimap_px),
        boundary=sums.image_sums(boundary.boundary_f1(label, prediction, k)),
        image_iou=sums.image_sums(matrix.per_class_iou(counts)),
        objects=object_sizes.object_sums(object_sizes.object_iou(label, prediction, things), k),
        images=1,
    )
