"""Losses against plain NumPy loops in float64, and against optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seg_jax import losses
from seg_jax.losses import LossConfig
from seg_jax.types import IGNORE

K = 5


@pytest.fixture
def case(rng):
    logits = rng.normal(scale=3.0, size=(2, 4, 6, K)).astype(np.float32)
    label = rng.integers(0, K, (2, 4, 6)).astype(np.uint8)
    label[rng.random(label.shape) < 0.3] = IGNORE
    return logits, label


def loop(logits, label, class_weights=None, pixel_weights=None):
    """The definition, pixel by pixel."""
    total, count = 0.0, 0
    for index in np.ndindex(label.shape):
        if label[index] == IGNORE:
            continue
        scores = logits[index].astype(np.float64)
        loss = np.log(np.sum(np.exp(scores))) - scores[label[index]]
        if class_weights is not None:
            loss *= class_weights[label[index]]
        if pixel_weights is not None:
            loss *= pixel_weights[index]
        total, count = total + loss, count + 1
    return total, count


@pytest.mark.parametrize("weighted_classes", [False, True])
@pytest.mark.parametrize("weighted_pixels", [False, True])
def test_sum_and_count_equal_the_loop(case, rng, weighted_classes, weighted_pixels):
    logits, label = case
    class_weights = tuple(rng.uniform(0.1, 9.0, K)) if weighted_classes else ()
    pixel_weights = None
    if weighted_pixels:
        pixel_weights = rng.uniform(0, 10, label.shape).astype(np.float32)
    total, count = losses.cross_entropy_sums(
        jnp.asarray(logits), label, class_weights=class_weights, pixel_weights=pixel_weights
    )
    expected, expected_count = loop(logits, label, class_weights or None, pixel_weights)
    assert total.dtype == jnp.float32 and count == expected_count
    np.testing.assert_allclose(total, expected, rtol=1e-6)


def test_equals_optax(case):
    logits, label = case
    valid = label != IGNORE
    twin = optax.softmax_cross_entropy_with_integer_labels(logits[valid], label[valid].astype(int))
    total, _ = losses.cross_entropy_sums(jnp.asarray(logits), label)
    np.testing.assert_allclose(total, twin.sum(), rtol=1e-6)


def test_gradient_is_softmax_minus_truth_and_exactly_zero_where_ignored(case):
    logits, label = case
    gradient = jax.grad(lambda x: losses.cross_entropy_sums(x, label)[0])(jnp.asarray(logits))
    scores = np.exp(logits.astype(np.float64))
    expected = scores / scores.sum(-1, keepdims=True) - np.eye(256)[label][..., :K]
    ignored = label == IGNORE
    assert ignored.any() and not np.asarray(gradient)[ignored].any()
    np.testing.assert_allclose(np.asarray(gradient)[~ignored], expected[~ignored], atol=1e-6)


def test_extreme_logits_stay_finite():
    logits = jnp.asarray([[[[1e4, -1e4], [-1e4, 1e4]]]], jnp.float32)
    label = np.zeros((1, 1, 2), np.uint8)
    (total, _), gradient = jax.value_and_grad(
        lambda x: losses.cross_entropy_sums(x, label), has_aux=True
    )(logits)
    assert total == 2e4 and np.isfinite(gradient).all()


def test_batch_of_void_has_no_loss_and_no_gradient(case):
    logits, label = case
    void = np.full_like(label, IGNORE)

    def mean(x):
        total, count = losses.loss_sums({"out": x}, void, LossConfig())
        return total / losses.divisor(count, LossConfig()), count

    (value, count), gradient = jax.value_and_grad(mean, has_aux=True)(jnp.asarray(logits))
    assert value == 0 and count == 0 and not np.asarray(gradient).any()


@pytest.mark.parametrize("wrong", [K, 254, -1])
def test_label_that_is_no_class_makes_the_loss_nan(case, wrong):
    logits, label = case
    label = label.astype(np.int32)
    assert np.isfinite(losses.cross_entropy_sums(jnp.asarray(logits), label)[0])
    label[0, 0, 0] = wrong
    assert np.isnan(losses.cross_entropy_sums(jnp.asarray(logits), label)[0])


def test_heads_are_weighted_and_share_one_count(case, rng):
    logits, label = case
    aux = rng.normal(size=logits.shape).astype(np.float32)
    config = LossConfig(heads=(("out", 1.0), ("aux", 0.4)))
    total, count = losses.loss_sums(
        {"out": jnp.asarray(logits), "aux": jnp.asarray(aux), "unused": None}, label, config
    )
    out_sum, valid = loop(logits, label)
    np.testing.assert_allclose(total, out_sum + 0.4 * loop(aux, label)[0], rtol=1e-6)
    assert count == valid
    assert losses.divisor(count, config) == valid
    assert losses.divisor(count, LossConfig(reduction="sum")) == 1


def test_label_grid_looks_at_every_nth_pixel_from_the_first(rng):
    """DeepLab v1's 306 px networks: the label loses its first row and column, then shrinks by 8."""
    logits = rng.normal(size=(2, 18, 26, K)).astype(np.float32)
    label = np.where(rng.random((2, 18, 26)) < 0.3, IGNORE, rng.integers(0, K, (2, 18, 26)))
    weights = rng.uniform(size=label.shape).astype(np.float32)
    config = LossConfig(label_grids=((1, 8),))
    total, count = losses.loss_sums(
        {"out": jnp.asarray(logits)}, label, config, pixel_weights=weights
    )
    assert label[:, 1::8, 1::8].shape == (2, 3, 4)
    expected, valid = loop(
        logits[:, 1::8, 1::8], label[:, 1::8, 1::8], pixel_weights=weights[:, 1::8, 1::8]
    )
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert count == valid < 24


def test_image_mean_averages_each_image_and_head_by_itself(rng):
    """DeepLab v2's four losses: heads on different grids, of images with different shares of void;
    an image without a valid pixel adds nothing, but counts.
    """
    heads = {name: rng.normal(size=(3, 17, 17, K)).astype(np.float32) for name in ("out", "half")}
    label = rng.integers(0, K, (3, 17, 17))
    label[rng.random(label.shape) < np.array([0.1, 0.7, 1.0])[:, None, None]] = IGNORE
    config = LossConfig(
        reduction="image_mean",
        heads=(("out", 1.0), ("half", 0.5)),
        label_grids=((0, 2), (0, 4)),
        class_weights=(1.0, 2.0, 0.5, 3.0, 0.1),
    )
    outputs = jax.tree.map(jnp.asarray, heads)
    total, count = jax.jit(lambda o, y: losses.loss_sums(o, y, config))(outputs, label)
    expected = 0.0
    for image in range(3):
        for name, weight, step in (("out", 1.0, 2), ("half", 0.5, 4)):
            at = np.s_[image : image + 1, ::step, ::step]
            one, valid = loop(heads[name][at], label[at], config.class_weights)
            expected += weight * one / max(valid, 1)
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert count == 3
    assert losses.divisor(count, config) == 3


def test_margin_crops_label_and_weights_about_the_centre(rng):
    logits = rng.normal(size=(1, 3, 4, K)).astype(np.float32)
    label = rng.integers(0, K, (1, 7, 8)).astype(np.uint8)
    weights = rng.uniform(size=label.shape).astype(np.float32)
    total, count = losses.loss_sums(
        {"out": jnp.asarray(logits)}, label, LossConfig(), pixel_weights=weights, margin=2
    )
    inner = (slice(None), slice(2, 5), slice(2, 6))
    np.testing.assert_allclose(
        total, loop(logits, label[inner], pixel_weights=weights[inner])[0], rtol=1e-6
    )
    assert count == 12
    correct, valid = losses.correct_pixels({"out": jnp.asarray(logits)}, label, margin=2)
    assert correct == np.sum(logits.argmax(-1) == label[inner]) and valid == 12


def test_correct_pixels_leaves_void_out(case):
    logits, label = case
    expected = np.sum((logits.argmax(-1) == label) & (label != IGNORE))
    correct, valid = losses.correct_pixels({"out": jnp.asarray(logits)}, label)
    assert correct == expected and valid == np.sum(label != IGNORE)


def test_mistakes_are_named(case):
    logits, label = case
    with pytest.raises(ValueError, match="do not fit"):
        losses.cross_entropy_sums(jnp.asarray(logits), label[:, :-1])
    with pytest.raises(ValueError, match="3 entries, the logits 5 classes"):
        losses.cross_entropy_sums(jnp.asarray(logits), label, class_weights=(1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="must be float32, got bfloat16"):
        losses.cross_entropy_sums(jnp.asarray(logits, jnp.bfloat16), label)
    with pytest.raises(ValueError, match="unknown name 'aux'"):
        losses.loss_sums({"out": jnp.asarray(logits)}, label, LossConfig(heads=(("aux", 1.0),)))
    with pytest.raises(ValueError, match="margin 2 px does not fit into a label of 4 x 6"):
        losses.crop_border(label, 2)
    with pytest.raises(ValueError, match="reduction: unknown name 'avg'"):
        LossConfig(reduction="avg")
    with pytest.raises(ValueError, match="must have an entry per head"):
        LossConfig(label_grids=((0, 8), (0, 16)))
    with pytest.raises(ValueError, match="label_grids_step must be positive, got 0"):
        LossConfig(label_grids=((0, 0),))
    with pytest.raises(ValueError, match='differ, .* use reduction="image_mean"'):
        LossConfig(heads=(("a", 1.0), ("b", 1.0)), label_grids=((0, 8), (0, 16)))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1.0, -0.5), "class_weights has -0.5: weights are finite, and 0 or more"),
        ((1.0, float("nan")), "class_weights has nan"),
        ((float("inf"), 1.0), "class_weights has inf"),
        ((0.0, 0.0), "class_weights are all 0"),
    ],
)
def test_class_weights_that_mean_nothing_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        losses.LossConfig(class_weights=weights)
    assert losses.LossConfig(class_weights=(0.0, 1.0)).class_weights == (0.0, 1.0)
