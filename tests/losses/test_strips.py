"""Deferred logits: loss, gradient and accuracy are those of whole ones, also on two devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from seg_jax import losses, parallel
from seg_jax.losses import LossConfig
from seg_jax.nn import resize
from seg_jax.nn.upsampled import Upsampled
from seg_jax.types import DATA_AXIS, IGNORE

K = 3
CONFIGS = {
    "two heads, image means": LossConfig(
        heads=(("out", 1.0), ("aux", 0.4)),
        terms=(("cross_entropy", 1.0), ("focal", 0.5)),
        reduction="image_mean",
    ),
    "class weights on a grid": LossConfig(class_weights=(1.0, 0.0, 2.5), label_grids=((1, 4),)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_loss_gradient_and_accuracy_on_two_devices_are_those_of_whole_logits(rng, name):
    config = CONFIGS[name]
    rows, columns = resize.align_corners_matrix(5, 17), resize.half_pixel_matrix(4, 19)
    scores = jnp.asarray(rng.normal(scale=3, size=(4, 5, 4, K)), jnp.float32)
    label = rng.integers(0, K, (4, 17, 19)).astype(np.uint8)
    label[rng.random(label.shape) < np.linspace(0, 0.9, 4)[:, None, None]] = IGNORE
    weights = rng.uniform(0.5, 3, label.shape).astype(np.float32)

    def sums(scores, label, weights, *, whole):
        def loss(scores):
            head = Upsampled(scores, rows, columns)
            outputs = {"out": head, "aux": Upsampled(scores[..., ::-1], rows, columns)}
            if whole:
                outputs = {name: head.whole() for name, head in outputs.items()}
            total, *counts = losses.loss_and_correct(outputs, label, config, pixel_weights=weights)
            return total, (total, *counts)

        slope, (total, count, pixels) = jax.grad(loss, has_aux=True)(scores)
        return slope, [x[None] for x in (total, count, *pixels)]

    def of(devices, *, whole):
        mesh = parallel.make_mesh(jax.devices()[:devices])
        part = P(DATA_AXIS)
        run = jax.shard_map(
            lambda *args: sums(*args, whole=whole), mesh=mesh, in_specs=part, out_specs=part
        )
        slope, parts = jax.jit(run)(scores, label, weights)
        return np.asarray(slope), [np.sum(x) for x in parts]

    slope, found = of(2, whole=False)
    wanted, expected = of(1, whole=True)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(slope, wanted, atol=1e-6 * np.abs(wanted).max())
