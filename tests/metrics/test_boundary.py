"""Boundary metrics against definitions written as loops over pairs of pixels."""

import numpy as np
import pytest

from seg_jax import metrics
from seg_jax.metrics import boundary
from seg_jax.types import IGNORE


def slow_distance(label):
    """Distance of each labelled pixel to every pixel of another label, the least."""
    height, width = label.shape
    every = [(y, x) for y in range(height) for x in range(width)]
    out = np.full(label.shape, np.inf)
    for y, x in every:
        if label[y, x] != IGNORE:
            others = [q for q in every if label[q] != label[y, x]]
            out[y, x] = min((np.hypot(y - q[0], x - q[1]) for q in others), default=np.inf)
    return out


def slow_edge(label, value):
    """Pixels of a class with a 4-neighbour of another label."""
    height, width = label.shape
    found = set()
    for y, x in np.argwhere(label == value).tolist():
        for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= near[0] < height and 0 <= near[1] < width and label[near] != value:
                found.add((y, x))
    return found


def slow_f1(label, prediction, num_classes, tolerance):
    def hits(points, others):
        return {
            p
            for p in points
            if any(np.hypot(p[0] - q[0], p[1] - q[1]) <= tolerance for q in others)
        }

    scores = np.full(num_classes, np.nan)
    for value in range(num_classes):
        truth, found = slow_edge(label, value), slow_edge(prediction, value)
        if truth:
            right = hits(found, truth)
            wrong = {p for p in found - right if label[p] != IGNORE}
            precision = len(right) / max(len(right) + len(wrong), 1)
            recall = len(hits(truth, found)) / len(truth)
            scores[value] = 2 * precision * recall / max(precision + recall, 1e-30)
    return scores


@pytest.fixture
def blobs(rng):
    """Pairs of label and prediction with blobs of 4 classes; in the label, void around one."""

    def draw():
        label = np.zeros((21, 26), np.uint8)
        for value in rng.integers(1, 4, 4):
            top, left = rng.integers(0, 18, 2)
            label[top : top + 7, left : left + 6] = value
        label[5:9, 3:20] = np.where(rng.random((4, 17)) < 0.3, IGNORE, label[5:9, 3:20])
        prediction = np.roll(label, rng.integers(-1, 2, 2), axis=(0, 1))
        return label, np.where(prediction == IGNORE, 0, prediction).astype(np.uint8)

    return [draw() for _ in range(6)]


def test_distance_equals_the_loop_over_all_pairs_of_pixels(blobs):
    for label, _ in blobs[:3]:
        np.testing.assert_allclose(metrics.distance_to_boundary(label), slow_distance(label))


def test_the_image_border_is_no_boundary():
    assert np.isinf(metrics.distance_to_boundary(np.zeros((5, 5), np.uint8))).all()


def test_a_step_has_r_pixels_of_the_band_on_each_side():
    label = np.zeros((4, 20), np.uint8)
    label[:, 10:] = 1
    bands = metrics.trimap_confusion(label, label, 2, (1, 3))
    np.testing.assert_array_equal(bands[0], [[4, 0], [0, 4]])
    np.testing.assert_array_equal(bands[1], [[12, 0], [0, 12]])


def test_trimap_equals_the_confusion_within_the_slow_band(blobs):
    radii = (1, 2, 4, 40)
    for label, prediction in blobs[:3]:
        distance = slow_distance(label)
        bands = metrics.trimap_confusion(label, prediction, 4, radii)
        for radius, band in zip(radii, bands, strict=True):
            inside = np.where(distance <= radius, label, IGNORE).astype(np.uint8)
            np.testing.assert_array_equal(band, metrics.confusion(inside, prediction, 4))


def test_void_bounds_but_is_not_scored():
    label = np.zeros((3, 9), np.uint8)
    label[:, 4] = IGNORE
    band = metrics.trimap_confusion(label, label % IGNORE, 1, (1,))[0]
    assert band.sum() == 6  # the column on each side of the void, not the void


def test_half_widths_must_ascend():
    with pytest.raises(ValueError, match="ascend"):
        metrics.trimap_confusion(np.zeros((2, 2), int), np.zeros((2, 2), int), 2, (3, 1))


@pytest.mark.parametrize("share", [0.0075, 0.05])
def test_boundary_f1_equals_the_loop_over_boundary_pixels(blobs, monkeypatch, share):
    monkeypatch.setattr(boundary, "TOLERANCE", share)
    seen = set()
    for label, prediction in blobs:
        scores = metrics.boundary_f1(label, prediction, 4)
        truth = slow_f1(label, prediction, 4, share * np.hypot(21, 26))
        np.testing.assert_allclose(scores, truth, rtol=1e-12)
        seen |= set(np.round(scores[~np.isnan(scores)], 3))
    assert len(seen) > 6  # the cases are not all perfect or all missed


def test_boundary_f1_tolerance_is_the_published_share_of_the_diagonal():
    """240 x 320 pixels: the diagonal is 400, so a boundary 3 px off is met and one 4 px off not."""
    label, near, far = (np.zeros((240, 320), np.uint8) for _ in range(3))
    label[:, 100:] = near[:, 103:] = far[:, 104:] = 1
    assert metrics.boundary_f1(label, near, 2) == pytest.approx([1, 1])
    assert metrics.boundary_f1(label, far, 2) == pytest.approx([0, 0])


def test_a_class_that_is_not_predicted_scores_zero_and_an_absent_one_nothing():
    label = np.zeros((20, 20), np.uint8)
    label[5:9, 5:9] = 2
    scores = metrics.boundary_f1(label, np.zeros_like(label), 3)
    np.testing.assert_array_equal(scores, [0, np.nan, 0])


def test_a_predicted_boundary_inside_void_counts_only_where_it_matches():
    label = np.zeros((40, 40), np.uint8)
    label[:, 20:] = 1
    label[10:, 10:18] = IGNORE
    right = np.zeros_like(label)
    right[:, 20:] = 1
    stray = right.copy()
    stray[20:30, 12:15] = 1  # an island of class 1, inside the void
    np.testing.assert_array_equal(
        metrics.boundary_f1(label, stray, 2), metrics.boundary_f1(label, right, 2)
    )


def test_sums_do_not_depend_on_the_order_of_images(rng):
    scores = np.where(rng.random((50, 4)) < 0.3, np.nan, rng.random((50, 4)))
    sums = [metrics.image_sums(image) for image in scores]
    forward, backward = sum(sums), sum(reversed(sums))
    np.testing.assert_array_equal(forward, backward)
    total, count = forward
    np.testing.assert_allclose(total[:4] / count[:4] / 2**32, np.nanmean(scores, 0), atol=1e-9)
    images = [row[~np.isnan(row)].mean() for row in scores if not np.isnan(row).all()]
    assert total[4] / count[4] / 2**32 == pytest.approx(np.mean(images), abs=1e-9)


def test_an_image_without_boundaries_is_not_counted():
    assert not metrics.image_sums(np.full(3, np.nan)).any()
