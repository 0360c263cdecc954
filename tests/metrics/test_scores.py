"""Sums over a split: exact under any split of it."""

import dataclasses

import numpy as np
import pytest

from seg_jax import metrics


def image_scores(rng):
    """A label of touching blocks, one of them of more than 32 x 32 px, and a prediction near it."""
    label = np.zeros((44, 90), np.int64)
    label[2:37, 3:40], label[10:20, 50:60] = 1, 2
    label[25:, 60:] = rng.integers(0, 3)
    prediction = np.where(rng.random(label.shape) < 0.2, rng.integers(0, 3), np.roll(label, 2))
    return metrics.of_image(label, prediction, CLASSES, BANDS)


CLASSES, BANDS = ("background", "a", "b"), (1, 2, 7)


def values(scores):
    return np.hstack(
        [
            scores.mean_iou,
            scores.per_class_iou,
            scores.pixel_accuracy,
            scores.mean_accuracy,
            scores.frequency_weighted_iou,
            scores.trimap_iou,
            scores.boundary_f1,
            scores.per_class_boundary_f1,
            scores.mean_dice,
            scores.mean_image_iou,
            scores.boundary_accuracy,
            scores.internal_accuracy,
            scores.object_iou[:2],
        ]
    )


def test_the_same_bits_however_the_images_are_grouped(rng):
    images = [image_scores(rng) for _ in range(7)]
    zero = metrics.Scores.zero(3, BANDS)
    one_by_one = sum(images, zero)
    in_parts = sum(images[4:], zero) + sum(reversed(images[:4]), zero)
    np.testing.assert_array_equal(values(one_by_one), values(in_parts))
    assert one_by_one.images == 7
    assert not np.isnan(values(one_by_one)).any()


def test_scores_of_other_bands_are_not_added():
    one = metrics.Scores.zero(3, BANDS)
    with pytest.raises(ValueError, match=r"bands \(1, 2, 7\) cannot.*\(1, 3\)"):
        one + dataclasses.replace(one, trimap_px=(1, 3))


def test_no_image_scores_nan():
    assert np.isnan(values(metrics.Scores.zero(3, BANDS))).all()
