"""The measures of the table: of regions (IoU), of boundaries (trimap mIoU, boundary F1)."""

from seg_jax.metrics.boundary import (
    boundary_f1,
    boundary_sums,
    distance_to_boundary,
    trimap_confusion,
)
from seg_jax.metrics.matrix import (
    confusion,
    confusion_on_host,
    frequency_weighted_iou,
    mean_accuracy,
    mean_iou,
    per_class_accuracy,
    per_class_iou,
    pixel_accuracy,
)
from seg_jax.metrics.scores import Scores

__all__ = [
    "Scores",
    "boundary_f1",
    "boundary_sums",
    "confusion",
    "confusion_on_host",
    "distance_to_boundary",
    "frequency_weighted_iou",
    "mean_accuracy",
    "mean_iou",
    "per_class_accuracy",
    "per_class_iou",
    "pixel_accuracy",
    "trimap_confusion",
]
