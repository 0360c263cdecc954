"""The confusion matrix of a split, and the metrics computed from it.

One matrix is summed over the whole split at original image size, and metrics are computed once from
it (Long, Shelhamer and Darrell, CVPR 2015, sec. 5): no mean over images or batches.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def confusion(label: Any, prediction: Any, num_classes: int) -> Any:
    """Count the pixels of every pair of true and predicted class.

    Static shapes, so it can be jitted with `num_classes` static.

    Args:
      label: integers [...], class id or IGNORE; a label outside [0, k) is counted nowhere.
      prediction: integers [...], class id in [0, k); another one is a ValueError, or under jit,
        where values are not known, makes all counts -1, which no metric takes.
      num_classes: k.

    Returns:
      int32 [k k]; row: truth, column: prediction. It holds 2^31 - 1 pixels of one kind: sum
      matrices of several calls in int64 on the host.
    """
    if label.shape != prediction.shape:
        raise ValueError(f"label {label.shape} and prediction {prediction.shape} differ in shape")
    if not isinstance(prediction, Tracer):
        _check_prediction(np.asarray(prediction), num_classes)
    truth, predicted = label.astype(jnp.int32), prediction.astype(jnp.int32)
    counted = (truth >= 0) & (truth < num_classes)
    pair = truth * num_classes + predicted
    nowhere = num_classes * num_classes  # an extra bin for pixels that are not counted
    bins = jnp.bincount(jnp.where(counted, pair, nowhere).ravel(), length=nowhere + 1)
    sound = jnp.all((predicted >= 0) & (predicted < num_classes))  # fused with what reads it anyway
    matrix = bins[:nowhere].reshape(num_classes, num_classes).astype(jnp.int32)
    return jnp.where(sound, matrix, -1)


def confusion_on_host(label: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Return `confusion` of one image as int64 [k k], in NumPy: no compilation for its size."""
    _check_prediction(prediction, num_classes)
    counted = label < num_classes
    pair = label[counted].astype(np.int64) * num_classes + prediction[counted]
    return np.bincount(pair, minlength=num_classes**2).reshape(num_classes, num_classes)


def _check_prediction(prediction: np.ndarray, num_classes: int) -> None:
    """Raise ValueError for a predicted id that is no class: its pixel would count as another pair
    of classes.
    """
    if prediction.size and not 0 <= prediction.min() <= prediction.max() < num_classes:
        raise ValueError(
            f"prediction holds {prediction.min()} to {prediction.max()}, but there are "
            f"{num_classes} classes, 0 to {num_classes - 1}"
        )


def per_class_iou(confusion: np.ndarray) -> np.ndarray:
    """Return intersection over union of each class, float64 [k].

    NaN where a class occurs neither in the truth nor in the prediction: no score, not a score of 0.
    """
    matrix, hits = _as_float(confusion)
    return _divide(hits, matrix.sum(0) + matrix.sum(1) - hits)


def mean_iou(confusion: np.ndarray) -> float:
    """Return the mean of `per_class_iou` over the classes that have one; NaN if none has.

    Leaving out the classes that are absent from both truth and prediction is FCN's rule; over a
    whole VOC split all classes occur and the mean is over 21.
    """
    return mean(per_class_iou(confusion))


def per_class_dice(confusion: np.ndarray) -> np.ndarray:
    """Return Dice's coefficient 2 hits / (true + predicted pixels) of each class, float64 [k].

    It is 2 IoU / (1 + IoU); NaN where a class occurs neither in the truth nor in the prediction.
    """
    matrix, hits = _as_float(confusion)
    return _divide(2 * hits, matrix.sum(0) + matrix.sum(1))


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Return the share of labelled pixels that are right; NaN if there are none."""
    matrix, hits = _as_float(confusion)
    return float(_divide(hits.sum(), matrix.sum()))


def per_class_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Return the share of each true class's pixels that are right, float64 [k]; NaN if absent."""
    matrix, hits = _as_float(confusion)
    return _divide(hits, matrix.sum(1))


def mean_accuracy(confusion: np.ndarray) -> float:
    """Return the mean of `per_class_accuracy` over the classes that occur in the truth."""
    return mean(per_class_accuracy(confusion))


def frequency_weighted_iou(confusion: np.ndarray) -> float:
    """Return the mean of `per_class_iou`, each class weighted by its share of the true pixels."""
    matrix, _ = _as_float(confusion)
    pixels = matrix.sum(1)
    present = pixels > 0
    weighted = (pixels * per_class_iou(confusion))[present].sum()
    return float(_divide(weighted, pixels.sum()))


def _as_float(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    matrix = np.asarray(confusion, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"a confusion matrix is square [k k], got shape {matrix.shape}")
    if (matrix < 0).any():
        raise ValueError(
            "the counts are negative: a prediction held an id that is no class (see `confusion`)"
        )
    return matrix, np.diag(matrix)


def _divide(numerator: Any, denominator: Any) -> np.ndarray:
    """Divide; NaN where the denominator is 0."""
    out = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=out, where=np.asarray(denominator) > 0)


def mean(values: np.ndarray) -> float:
    """Return the mean of the values that are no NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
