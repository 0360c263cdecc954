"""The image bootstrap against all its draws, and against closed forms."""

import itertools

import numpy as np
import pytest

from seg_jax import metrics
from seg_jax.metrics import bootstrap


def _counts(seed, images=5, classes=3):
    rng = np.random.default_rng(seed)
    confusions = rng.integers(0, 50, (images, classes, classes))
    return confusions, np.stack([bootstrap.image_counts(one) for one in confusions])


def _all_draws(score, images):
    """The score of every one of the n^n ordered draws: the bootstrap distribution itself."""
    return np.array([score(list(draw)) for draw in itertools.product(range(images), repeat=images)])


def test_the_value_is_the_metric_of_the_summed_confusion_matrix():
    confusions, counts = _counts(0)
    assert bootstrap.interval([counts], samples=10).value == pytest.approx(
        metrics.mean_iou(confusions.sum(0)), abs=1e-15
    )
    absent = confusions.copy()
    absent[:, 1, :] = absent[:, :, 1] = 0  # a class that occurs nowhere has no part in the mean
    counts = np.stack([bootstrap.image_counts(one) for one in absent])
    assert bootstrap.mean_iou(counts.sum(0)) == pytest.approx(metrics.mean_iou(absent.sum(0)))
    assert np.isnan(bootstrap.mean_iou(np.zeros((3, 4))))


def test_interval_and_difference_are_those_of_all_draws():
    (one, ours), (two, theirs) = _counts(1), _counts(2)
    scores = _all_draws(lambda draw: metrics.mean_iou(one[draw].sum(0)), 5)
    gains = scores - _all_draws(lambda draw: metrics.mean_iou(two[draw].sum(0)), 5)
    found = bootstrap.interval([ours], samples=40_000)
    gain = bootstrap.difference([ours], [theirs], samples=40_000)
    spread = np.ptp(scores)
    for interval, draws in ((found, scores), (gain, gains)):
        low, high = np.quantile(draws, (0.025, 0.975))
        assert abs(interval.low - low) < 0.02 * spread
        assert abs(interval.high - high) < 0.02 * spread
    share = min((gains <= 0).mean(), (gains >= 0).mean())
    assert gain.p_value == pytest.approx(2 * share, abs=0.01)


def test_with_one_class_the_bootstrap_has_the_standard_error_of_a_mean():
    # Every image has the same union, so IoU is a mean over images: its standard error is known.
    both = np.random.default_rng(3).integers(20, 90, 200)
    counts = np.stack([np.full(200, 100), both, both], 1)[:, :, None]
    found = bootstrap.interval([counts], samples=20_000)
    error = both.std() / 100 / np.sqrt(200)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.03)
    assert found.value == pytest.approx(both.mean() / 100)


def test_a_shift_of_every_image_is_found_although_the_intervals_overlap():
    both = np.random.default_rng(4).integers(20, 90, 60)
    better = np.stack([np.full(60, 100), both + 2, both + 2], 1)[:, :, None]
    worse = np.stack([np.full(60, 100), both, both], 1)[:, :, None]
    apart = [bootstrap.interval([runs], samples=2000) for runs in (better, worse)]
    assert apart[0].low < apart[1].high  # alone they cannot be told apart
    gain = bootstrap.difference([better], [worse], samples=2000)
    assert gain.excludes_zero and gain.low == pytest.approx(0.02) == gain.high
    assert gain.p_value == pytest.approx(2 / 2001)
    same = bootstrap.difference([worse], [worse], samples=200)
    assert (same.value, same.p_value, same.excludes_zero) == (0, 1, False)


def test_several_runs_are_averaged_and_other_images_refused():
    (one, ours), (two, theirs) = _counts(5), _counts(6)
    mean = (metrics.mean_iou(one.sum(0)) + metrics.mean_iou(two.sum(0))) / 2
    assert bootstrap.interval([ours, theirs], samples=10).value == pytest.approx(mean)
    with pytest.raises(ValueError, match="5 and 4 images"):
        bootstrap.difference([ours], [theirs[:4]])
    with pytest.raises(ValueError, match="same ones"):
        bootstrap.interval([ours, theirs[:4]])


def test_holm():
    # The example of R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm").
    assert bootstrap.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
