"""The confusion matrix against a loop over pixels, its metrics against hand-made figures."""

import jax
import numpy as np
import pytest

from seg_jax import metrics
from seg_jax.types import IGNORE


def slow_confusion(label, prediction, num_classes):
    matrix = np.zeros((num_classes, num_classes), int)
    for truth, found in zip(label.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if truth != IGNORE:
            matrix[truth, found] += 1
    return matrix


@pytest.fixture
def pair(rng):
    label = rng.integers(0, 5, (3, 13, 17)).astype(np.uint8)
    label[rng.random(label.shape) < 0.2] = IGNORE
    return label, rng.integers(0, 5, label.shape).astype(np.uint8)


def test_confusion_equals_a_loop_over_pixels(pair):
    counts = jax.jit(metrics.confusion, static_argnums=2)(*pair, 5)
    assert counts.dtype == np.int32
    np.testing.assert_array_equal(counts, slow_confusion(*pair, 5))


def test_confusion_does_not_see_void(pair):
    label, prediction = pair
    other = np.where(label == IGNORE, (prediction + 1) % 5, prediction).astype(np.uint8)
    np.testing.assert_array_equal(
        metrics.confusion(label, other, 5), metrics.confusion(label, prediction, 5)
    )
    assert int(metrics.confusion(np.full_like(label, IGNORE), prediction, 5).sum()) == 0


def test_confusion_with_255_classes_keeps_the_last_apart_from_void():
    label = np.array([[254, IGNORE, 0]], np.uint8)
    counts = np.asarray(metrics.confusion(label, np.full_like(label, 254), 255))
    assert counts[254, 254] == 1
    assert counts[0, 254] == 1
    assert counts.sum() == 2


def test_confusion_refuses_shapes_that_differ():
    with pytest.raises(ValueError, match=r"\(2, 3\) and prediction \(3, 2\)"):
        metrics.confusion(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)


# Truth: 6 of class 0, 3 of class 1, 1 of class 2; nothing is, or is called, class 3.
COUNTS = np.array([[4, 2, 0, 0], [1, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])


def test_metrics_of_a_matrix_divided_by_hand():
    np.testing.assert_allclose(metrics.per_class_iou(COUNTS), [4 / 7, 2 / 6, 0, np.nan])
    np.testing.assert_allclose(metrics.per_class_precision(COUNTS), [4 / 5, 2 / 5, np.nan, np.nan])
    assert metrics.mean_iou(COUNTS) == pytest.approx((4 / 7 + 2 / 6 + 0) / 3)
    np.testing.assert_allclose(metrics.per_class_accuracy(COUNTS), [4 / 6, 2 / 3, 0, np.nan])
    assert metrics.mean_accuracy(COUNTS) == pytest.approx((4 / 6 + 2 / 3 + 0) / 3)
    assert metrics.pixel_accuracy(COUNTS) == pytest.approx(6 / 10)
    assert metrics.frequency_weighted_iou(COUNTS) == pytest.approx(0.6 * 4 / 7 + 0.3 * 2 / 6)


def test_a_class_that_is_only_predicted_scores_zero_in_iou_and_nothing_in_accuracy():
    counts = np.array([[5, 5], [0, 0]])
    assert metrics.mean_iou(counts) == pytest.approx((0.5 + 0) / 2)
    assert metrics.mean_accuracy(counts) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "metric",
    [
        metrics.mean_iou,
        metrics.pixel_accuracy,
        metrics.mean_accuracy,
        metrics.frequency_weighted_iou,
    ],
)
def test_nothing_counted_is_nan_and_no_warning(metric):
    assert np.isnan(metric(np.zeros((3, 3), np.int64)))


def test_metrics_of_more_pixels_than_int32_holds():
    counts = np.array([[3 * 2**31, 2**31], [0, 4 * 2**31]], np.int64)
    assert metrics.mean_iou(counts) == pytest.approx((3 / 4 + 4 / 5) / 2)


def test_a_matrix_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match=r"square.*\(2, 3\)"):
        metrics.mean_iou(np.zeros((2, 3)))
