"""Metrics of the table: of regions (IoU), boundaries (trimap, boundary F1) and objects."""

from seg_jax.metrics.boundary import boundary_f1, distance_to_boundary, trimap_confusion
from seg_jax.metrics.confusion_matrix import (
    confusion,
    confusion_on_host,
    frequency_weighted_iou,
    mean_accuracy,
    mean_iou,
    per_class_accuracy,
    per_class_dice,
    per_class_iou,
    per_class_precision,
    pixel_accuracy,
)
from seg_jax.metrics.object_sizes import SIZE_NAMES, object_iou
from seg_jax.metrics.scores import Scores, of_image, shapes_of_counts, summary, summary_names
from seg_jax.metrics.sums import image_sums

__all__ = [
    "SIZE_NAMES",
    "Scores",
    "boundary_f1",
    "confusion",
    "confusion_on_host",
    "distance_to_boundary",
    "frequency_weighted_iou",
    "image_sums",
    "mean_accuracy",
    "mean_iou",
    "object_iou",
    "of_image",
    "per_class_accuracy",
    "per_class_dice",
    "per_class_iou",
    "per_class_precision",
    "pixel_accuracy",
    "shapes_of_counts",
    "summary",
    "summary_names",
    "trimap_confusion",
]
