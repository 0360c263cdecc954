"""The blocks against their parts, called one by one."""

import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from seg_jax.nn.blocks import ConvNorm, DepthwiseConvNorm, SeparableConv, activate
from seg_jax.nn.conv import conv, depthwise_conv
from seg_jax.nn.norm import Norm

NORM = Norm(epsilon=1e-3)


def shapes(module, x):
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=True))
    return jax.tree.map(lambda leaf: leaf.shape, variables["params"])


def norm_shapes(channels):
    return {"scale": (channels,), "bias": (channels,)}


def test_names_and_shapes_of_parameters():
    x = jnp.ones((1, 5, 5, 4))
    assert shapes(ConvNorm(6, norm=NORM), x) == {
        "conv": {"kernel": (3, 3, 4, 6)},
        "bn": norm_shapes(6),
    }
    assert shapes(SeparableConv(6, norm=NORM), x) == {
        "depthwise": {"conv": {"kernel": (3, 3, 1, 4)}, "bn": norm_shapes(4)},
        "pointwise": {"conv": {"kernel": (1, 1, 4, 6)}, "bn": norm_shapes(6)},
    }


def test_activations():
    x = jnp.asarray([-1.0, 0.5, 7.0])
    np.testing.assert_array_equal(activate(x, "relu"), [0, 0.5, 7])
    np.testing.assert_array_equal(activate(x, "relu6"), [0, 0.5, 6])
    np.testing.assert_array_equal(activate(x, "none"), x)
    with pytest.raises(ValueError, match="did you mean relu"):
        activate(x, "relu8")


def normalised(x, stats):
    """Scale 1, bias 0, by the running averages."""
    mean, var = np.float64(stats["mean"]), np.float64(stats["var"])
    return (np.float64(x) - mean) / np.sqrt(var + 1e-3)


def init(module, x):
    return jax.jit(lambda x: module.init(jax.random.key(0), x, train=True))(x)


def evaluated(rng, module, x):
    """Variables with random running averages, and the module's output in evaluation."""
    variables = init(module, x)
    stats = jax.tree.map(
        lambda leaf: np.float32(rng.uniform(0.5, 2, leaf.shape)), variables["batch_stats"]
    )
    variables |= {"batch_stats": stats}
    return variables, jax.jit(lambda v, x: module.apply(v, x, train=False))(variables, x)


@pytest.mark.parametrize("activation, limit", [("relu", np.inf), ("relu6", 6.0)])
def test_separable_conv_is_its_parts(rng, activation, limit):
    x = jnp.asarray(3 * rng.normal(size=(2, 7, 6, 4)), jnp.float32)
    module = SeparableConv(6, 3, stride=2, rate=2, norm=NORM, activation=activation)
    variables, y = evaluated(rng, module, x)
    params, stats = variables["params"], variables["batch_stats"]

    kernel = params["depthwise"]["conv"]["kernel"]
    z = depthwise_conv(x, kernel, stride=2, rate=2, padding="same")
    z = np.clip(normalised(z, stats["depthwise"]["bn"]), 0, limit)
    z = conv(jnp.asarray(z, jnp.float32), params["pointwise"]["conv"]["kernel"])
    z = np.clip(normalised(z, stats["pointwise"]["bn"]), 0, limit)
    np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-5)


def test_conv_norm_is_its_parts(rng):
    x = jnp.asarray(rng.normal(size=(2, 7, 6, 4)), jnp.float32)
    module = ConvNorm(5, 3, rate=2, norm=NORM, activation="none", padding=1)
    variables, y = evaluated(rng, module, x)
    z = conv(x, variables["params"]["conv"]["kernel"], rate=2, padding=1)
    wanted = normalised(z, variables["batch_stats"]["bn"])
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5)


def test_training_mode_reaches_every_norm(rng):
    x = jnp.asarray(rng.normal(size=(2, 7, 6, 4)), jnp.float32)
    for module in (SeparableConv(6, norm=NORM), DepthwiseConvNorm(norm=NORM)):
        variables = init(module, x)
        train = functools.partial(module.apply, train=True, mutable=["batch_stats"])
        _, update = jax.jit(train)(variables, x)
        moved = jax.tree.map(
            lambda old, new: bool((old != new).all()),
            variables["batch_stats"],
            update["batch_stats"],
        )
        assert all(jax.tree.leaves(moved))
