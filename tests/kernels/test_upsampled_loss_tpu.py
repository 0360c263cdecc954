"""The TPU kernel in Pallas' interpreter. None of this has run on a TPU."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from seg_jax.kernels import upsampled_logits, upsampled_loss_tpu
from seg_jax.nn import resize
from seg_jax.types import IGNORE

INTERPRETED = pltpu.InterpretParams()


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
def test_value_and_gradient_are_those_of_plain_jax(rng, weighted):
    k, vertical, horizontal = (
        21,
        resize.half_pixel_matrix(3, 14),
        resize.align_corners_matrix(5, 133),
    )
    scores = jnp.asarray(rng.normal(scale=4.0, size=(2, 3, 5, k)), jnp.float32)
    label = rng.integers(0, k, (2, 14, 133)).astype(np.uint8)
    label[rng.random(label.shape) < 0.2] = IGNORE
    given = {}
    if weighted:
        given = {
            "class_weights": tuple(rng.uniform(0.1, 3.0, k).astype(np.float32)),
            "pixel_weights": jnp.asarray(rng.uniform(0, 4, label.shape), jnp.float32),
            "label_smoothing": 0.1,
        }

    def of(function, **options):
        def loss(scores):
            sums = function(scores, vertical, horizontal, label, **given, **options)
            return jnp.sum(sums.loss / jnp.asarray([3.0, 700.0])), sums

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(scores)

    (_, found), slope = of(upsampled_loss_tpu.cross_entropy, interpret=INTERPRETED)
    (_, expected), wanted = of(upsampled_logits.cross_entropy)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-6)
    np.testing.assert_array_equal(found[1:], expected[1:])
    np.testing.assert_allclose(slope, wanted, atol=1e-6 * np.abs(wanted).max())
    if not weighted:
        label[1, 3, 130] = k
        options: Any = {"interpret": INTERPRETED}
        wrong = upsampled_loss_tpu.cross_entropy(scores, vertical, horizontal, label, **options)
        assert np.isnan(wrong.loss[1]) and np.isfinite(wrong.loss[0])


def test_it_says_that_it_is_for_tpus():
    rows = resize.half_pixel_matrix(2, 8)
    scores, label = jnp.zeros((1, 2, 2, 3)), np.zeros((1, 8, 8), np.uint8)
    with pytest.raises(NotImplementedError, match=r"upsampled_logits\.cross_entropy has the same"):
        upsampled_loss_tpu.cross_entropy(scores, rows, rows, label)
