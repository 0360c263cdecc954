"""ReLU of residual sums against JAX's own."""

import jax
import numpy as np
from jax import numpy as jnp

from seg_jax.nn import lowering, relu

SPECIAL = jnp.array([-2.0, -0.0, 0.0, 1e-45, 3.0, jnp.inf, -jnp.inf, jnp.nan])


def test_values_and_gradients_are_jaxs(rng):
    for x in (jnp.asarray(rng.normal(size=(5, 7)), jnp.float32), SPECIAL):
        weights = jnp.arange(1.0, x.size + 1).reshape(x.shape)
        np.testing.assert_array_equal(relu.of_sum(x), jax.nn.relu(x))
        for found in (jax.grad, jax.jacfwd):
            got, expected = (
                found(lambda x, f=f, w=weights: (f(x) * w).sum())(x)
                for f in (relu.of_sum, jax.nn.relu)
            )
            np.testing.assert_array_equal(got, expected)
    assert jnp.isnan(relu.of_sum(SPECIAL)[-1])


def test_keeps_the_type():
    assert relu.of_sum(SPECIAL.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_a_row_of_units_computes_each_sum_once(rng):
    """XLA:CPU's additions, in all fusions: 2 a unit, bias and shortcut; with `jax.nn.relu` 72."""
    units = 8
    weights = jnp.asarray(rng.normal(size=(units, 64, 64)), jnp.float32)

    def network(x, weights, biases):
        for unit in range(units):
            x = relu.of_sum(x + (x @ weights[unit] + biases[unit]))
        return x

    biases = jnp.ones((units, 1, 64))
    text = jax.jit(network).lower(jnp.ones((32, 64)), weights, biases).compile().as_text()
    assert text.count(" add(") <= 2 * units


def test_other_platforms_have_jaxs():
    for platform, form in (("tpu", "max"), ("gpu", "max"), ("cpu", "select_n")):
        with lowering.for_platform(platform):
            found = str(jax.make_jaxpr(lambda x: relu.of_sum(x))(SPECIAL))
        assert form in found, platform
