"""Sums over a split: exact under any split of it."""

import dataclasses

import numpy as np
import pytest

from seg_jax import metrics


def image_scores(rng):
    label, prediction = rng.integers(0, 3, (2, 12, 14))
    bands = metrics.trimap_confusion(label, prediction, 3, (1, 2))
    edges = metrics.boundary_sums(metrics.boundary_f1(label, prediction, 3))
    return metrics.Scores(
        np.asarray(metrics.confusion(label, prediction, 3), np.int64), bands, (1, 2), edges, 1
    )


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
        ]
    )


def test_the_same_bits_however_the_images_are_grouped(rng):
    images = [image_scores(rng) for _ in range(7)]
    zero = metrics.Scores.zero(3, (1, 2))
    one_by_one = sum(images, zero)
    in_parts = sum(images[4:], zero) + sum(reversed(images[:4]), zero)
    np.testing.assert_array_equal(values(one_by_one), values(in_parts))
    assert one_by_one.images == 7
    assert not np.isnan(values(one_by_one)).any()


def test_scores_of_other_bands_are_not_added():
    one = metrics.Scores.zero(3, (1, 2))
    with pytest.raises(ValueError, match=r"bands \(1, 2\) cannot.*\(1, 3\)"):
        one + dataclasses.replace(one, trimap_px=(1, 3))


def test_no_image_scores_nan():
    assert np.isnan(values(metrics.Scores.zero(3, (1, 2)))).all()
