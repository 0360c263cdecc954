"""Dice, Tversky, Lovász, focal, label smoothing, hardest pixels and their sums: against plain NumPy
definitions in float64 and closed forms, and on four devices against one.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from seg_jax import losses
from seg_jax.losses import LossConfig
from seg_jax.types import IGNORE

K = 4


@pytest.fixture
def case(rng):
    """Logits and labels; class 3 occurs in no label, and the second image is half void."""
    logits = rng.normal(scale=2.0, size=(2, 5, 6, K)).astype(np.float32)
    label = rng.integers(0, K - 1, (2, 5, 6)).astype(np.uint8)
    label[rng.random(label.shape) < np.array([0.1, 0.5])[:, None, None]] = IGNORE
    return logits, label


def value(logits, label, config, **options):
    total, count = losses.loss_sums({"out": jnp.asarray(logits)}, label, config, **options)
    return total / losses.divisor(count, config)


def softmax(logits):
    scores = np.exp(logits.astype(np.float64))
    return scores / scores.sum(-1, keepdims=True)


def tversky(logits, label, alpha, beta, class_weights=(1,) * K):
    """Pixel by pixel: true positives, false positives and false negatives of each class."""
    p, terms, factors = softmax(logits), [], []
    for c in range(K):
        hit = false_positive = false_negative = 0.0
        for at in np.argwhere(label != IGNORE):
            q, y = p[(*at, c)], label[tuple(at)] == c
            hit += q * y
            false_positive += q * (not y)
            false_negative += (1 - q) * y
        if c in label:
            terms.append(1 - hit / (hit + alpha * false_positive + beta * false_negative))
            factors.append(class_weights[c])
    return np.average(terms, weights=factors)


def lovasz(logits, label):
    """The definition: the Jaccard loss's Lovász extension, as a sum over growing sets of errors."""
    found = []
    for q, y in zip(softmax(logits), label, strict=True):
        q, y = q[y != IGNORE], y[y != IGNORE]
        terms = []
        for c in np.unique(y):
            error = np.where(y == c, 1 - q[:, c], q[:, c])
            wrong, last, total = np.zeros(len(y), bool), 0.0, 0.0
            for index in np.argsort(-error):
                wrong[index] = True
                hit = np.sum((y == c) & ~wrong)
                jaccard = 1 - hit / np.sum((y == c) | wrong)
                total, last = total + error[index] * (jaccard - last), jaccard
            terms.append(total)
        found.append(np.mean(terms) if terms else 0.0)
    return np.mean(found)


def cross_entropies(logits, label, smoothing=0.0):
    p, found = softmax(logits), []
    for at in np.argwhere(label != IGNORE):
        target = np.full(K, smoothing / K)
        target[label[tuple(at)]] += 1 - smoothing
        found.append(-np.sum(target * np.log(p[tuple(at)])))
    return np.array(found)


WEIGHTS = (1.0, 3.0, 0.5, 2.0)
DEFINITIONS = {
    "dice": (LossConfig(name="dice"), lambda x, y: tversky(x, y, 0.5, 0.5)),
    "tversky": (
        LossConfig(name="tversky", tversky=(0.3, 0.9), class_weights=WEIGHTS),
        lambda x, y: tversky(x, y, 0.3, 0.9, WEIGHTS),
    ),
    "lovasz": (LossConfig(name="lovasz"), lovasz),
    "focal": (
        LossConfig(name="focal", focal_gamma=1.5),
        lambda x, y: np.mean([(1 - np.exp(-ce)) ** 1.5 * ce for ce in cross_entropies(x, y)]),
    ),
    "smoothed": (
        LossConfig(label_smoothing=0.2), lambda x, y: np.mean(cross_entropies(x, y, 0.2))
    ),
    "top_k": (
        LossConfig(top_k=0.25),
        lambda x, y: np.mean(np.sort(cross_entropies(x, y))[::-1][: int((y != IGNORE).sum() / 4)]),
    ),
    "sum": (
        LossConfig(terms=(("cross_entropy", 1.0), ("dice", 2.0), ("lovasz", 0.5))),
        lambda x, y: np.mean(cross_entropies(x, y)) + 2 * tversky(x, y, 0.5, 0.5)
        + 0.5 * lovasz(x, y),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFINITIONS)
def test_equals_its_definition_and_void_has_no_gradient(case, name):
    config, definition = DEFINITIONS[name]
    logits, label = case
    found, gradient = jax.value_and_grad(value)(jnp.asarray(logits), label, config)
    np.testing.assert_allclose(found, definition(logits, label), rtol=2e-6)
    gradient = np.asarray(gradient)
    assert not gradient[label == IGNORE].any()
    # Central differences of the definition, in float64, where the loss is smooth.
    direction = np.random.default_rng(1).normal(size=logits.shape)
    above, below = (definition(logits + e * direction, label) for e in (1e-6, -1e-6))
    np.testing.assert_allclose(np.sum(gradient * direction), (above - below) / 2e-6, rtol=2e-3)
    spoiled = label.copy()
    spoiled[0, 0, 0] = K
    assert np.isnan(value(logits, spoiled, config))
    void = np.full_like(label, IGNORE)
    nothing, gradient = jax.value_and_grad(value)(jnp.asarray(logits), void, config)
    assert nothing == 0 and not np.asarray(gradient).any()


def test_closed_forms():
    """A prediction that is certain, and one that knows nothing."""
    label = np.array([[[0, 0, 0, 1]]], np.uint8)
    sure = 60.0 * np.eye(2, dtype=np.float32)[[[[0, 0, 1, 1]]]]
    even = np.zeros((1, 1, 4, 2), np.float32)
    # Class 0: 2 hits of 2 predicted and 3 true; class 1: 1 hit of 2 predicted and 1 true.
    dice = 1 - (4 / 5 + 2 / 3) / 2
    np.testing.assert_allclose(value(sure, label, LossConfig(name="dice")), dice, rtol=1e-6)
    # On certain predictions the Lovász extension is the Jaccard loss itself.
    jaccard = 1 - (2 / 3 + 1 / 2) / 2
    np.testing.assert_allclose(value(sure, label, LossConfig(name="lovasz")), jaccard, rtol=1e-6)
    focal = value(even, label, LossConfig(name="focal", focal_gamma=2.0))
    np.testing.assert_allclose(focal, np.log(2) / 4, rtol=1e-6)
    np.testing.assert_allclose(value(even, label, LossConfig(label_smoothing=0.3)), np.log(2))


def test_ties_at_the_kth_pixel_count_by_the_part_that_is_wanted(case):
    """A constant prediction: every pixel ties, and the mean is that of any of them."""
    _, label = case
    config = LossConfig(top_k=0.4)
    even = jnp.zeros((*label.shape, K))
    total, count = losses.loss_sums({"out": even}, label, config)
    assert count == int(0.4 * np.sum(label != IGNORE))
    np.testing.assert_allclose(float(total) / int(count), np.log(K), rtol=1e-6)
    ramped = LossConfig(top_k=0.4, top_k_ramp=10)
    shares = [
        int(losses.loss_sums({"out": even}, label, ramped, step=step)[1]) for step in (0, 5, 10, 99)
    ]
    valid = np.sum(label != IGNORE)
    assert shares == [valid, int(0.7 * valid), int(0.4 * valid), int(0.4 * valid)]


@pytest.mark.parametrize(
    ("reduction", "devices", "implementation"),
    [("mean", 4, "shard_map"), ("image_mean", 2, "pmap")],
)
def test_several_devices_take_the_step_of_one(reduction, devices, implementation):
    """Every kind at once; the devices' shares of void, and of the hardest pixels, differ widely."""
    terms = (("cross_entropy", 0.5), ("focal", 1.0), ("tversky", 0.7), ("lovasz", 0.3))
    top_k = {} if reduction == "image_mean" else {"top_k": 0.3, "top_k_ramp": 4}
    loss = LossConfig(reduction=reduction, terms=terms, label_smoothing=0.1, **top_k)
    state, step = tiny.setup(tiny.Tiny(norm=None), loss=loss)
    rng = np.random.default_rng(4)
    batches = [tiny.make_batch(rng) for _ in range(2)]
    expected, theirs = tiny.run(state, step, batches)
    ours, metrics = tiny.run(state, step, batches, devices=devices, implementation=implementation)
    assert tiny.largest_difference(ours.params, expected.params) < 2e-6
    for a, b in zip(metrics, theirs, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)
        np.testing.assert_allclose(a["grad_norm"], b["grad_norm"], rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"terms": (("dise", 1.0),)}, "did you mean dice"),
        ({"terms": (("dice", -1.0),)}, "dice has weight -1.0"),
        ({"name": "dice", "top_k": 0.5}, "it needs one of them"),
        ({"reduction": "image_mean", "top_k": 0.5}, 'reduction="mean" or "sum"'),
        ({"focal_gamma": 0.5}, "focal_gamma must be 1 or more"),
        ({"tversky": (0.0, 0.0)}, "not both 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields, message):
    with pytest.raises(Exception, match=message):
        LossConfig(**fields)
