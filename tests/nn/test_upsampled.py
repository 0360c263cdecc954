"""Deferred upsampling: the same logits, from the networks that end with it."""

import jax
import numpy as np
import pytest

from seg_jax import experiment
from seg_jax.nn import resize, upsampled

FAMILIES = ("deeplab_v2", "pspnet")
OTHERS = ("fcn8s", "deeplab_v1_largefov", "deeplab_v3", "deeplab_v3plus")


def test_crops_and_repeated_edges_are_those_of_the_logits(rng):
    scores = jax.numpy.asarray(rng.normal(size=(1, 4, 5, 3)), np.float32)

    def logits():
        out = upsampled.upsample(resize.upsample_bilinear_fixed, scores, kernel_size=8, stride=4)
        return upsampled.repeat_first(upsampled.crop(out, 3, 9, 11), 2)

    whole = logits()
    with upsampled.deferring():
        deferred = logits()
        with upsampled.deferring(False):
            assert isinstance(logits(), jax.Array)
    assert deferred.shape == whole.shape == (1, 11, 13, 3)
    np.testing.assert_allclose(deferred.whole(), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "family", (*FAMILIES, *(pytest.param(family, marks=pytest.mark.slow) for family in OTHERS))
)
def test_networks_defer_all_their_heads(family):
    model = experiment.get(f"{family}_resnet14_synthetic").model

    def outputs(key):
        image = jax.numpy.zeros((1, 97, 97, 3))
        (whole, _), (deferred, _) = (
            _init(model, key, image, deferred=deferred) for deferred in (False, True)
        )
        assert deferred.keys() == whole.keys()
        for name, head in deferred.items():
            assert isinstance(head, upsampled.Upsampled), name
            assert head.shape == whole[name].shape and head.scores.shape[1] < 97
        return 0

    jax.eval_shape(outputs, jax.random.key(0))


def _init(model, key, image, *, deferred):
    with upsampled.deferring(deferred):
        return model.init_with_output({"params": key, "dropout": key}, image, train=True)
