"""Everything that is counted over a split, as integers; every metric is divided from them once."""

import dataclasses

import numpy as np

from seg_jax.metrics import boundary, matrix


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Sums over images. `a + b` are the sums over both; no metric depends on how they were split.

    Attributes:
      confusion: int64 [k k], pixels; row: truth, column: prediction.
      trimap: int64 [r k k], the same within each band around the labelled boundaries.
      trimap_px: half-widths of the r bands, in pixels.
      boundary: int64 [2 k+1], see `metrics.boundary_sums`.
      images: how many were counted.
    """

    confusion: np.ndarray
    trimap: np.ndarray
    trimap_px: tuple[int, ...]
    boundary: np.ndarray
    images: int

    @classmethod
    def zero(cls, num_classes: int, trimap_px: tuple[int, ...]) -> "Scores":
        """Return the sums over no image."""
        return cls(
            confusion=np.zeros((num_classes, num_classes), np.int64),
            trimap=np.zeros((len(trimap_px), num_classes, num_classes), np.int64),
            trimap_px=tuple(trimap_px),
            boundary=np.zeros((2, num_classes + 1), np.int64),
            images=0,
        )

    def __add__(self, other: "Scores") -> "Scores":
        if self.trimap_px != other.trimap_px or self.confusion.shape != other.confusion.shape:
            raise ValueError(
                f"scores of {len(self.confusion)} classes and bands {self.trimap_px} cannot be "
                f"added to scores of {len(other.confusion)} classes and bands {other.trimap_px}"
            )
        return Scores(
            self.confusion + other.confusion,
            self.trimap + other.trimap,
            self.trimap_px,
            self.boundary + other.boundary,
            self.images + other.images,
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
    def trimap_iou(self) -> tuple[float, ...]:
        """Mean IoU within each band of `trimap_px`."""
        return tuple(matrix.mean_iou(band) for band in self.trimap)

    @property
    def boundary_f1(self) -> float:
        """Boundary F1: mean over classes in each image, then over images (SegNet sec. 4)."""
        return float(self._boundary_means[-1])

    @property
    def per_class_boundary_f1(self) -> np.ndarray:
        """Boundary F1 of each class, mean over the images that hold it, float64 [k]; or NaN."""
        return self._boundary_means[:-1]

    @property
    def _boundary_means(self) -> np.ndarray:
        total, count = self.boundary
        means = np.full(count.shape, np.nan)
        return np.divide(total, count * float(boundary.UNIT), out=means, where=count > 0)
