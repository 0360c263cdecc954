"""Batch and group normalisation against NumPy, on one device and on four."""

import functools

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from seg_jax.nn import lowering
from seg_jax.nn import norm as norms
from seg_jax.nn.norm import BatchNorm, Norm, batch_statistics
from seg_jax.types import DATA_AXIS


def variables(rng, channels):
    def draw(low, high):
        return jnp.asarray(rng.uniform(low, high, channels), jnp.float32)

    return {
        "params": {"scale": draw(0.5, 2), "bias": draw(-1, 1)},
        "batch_stats": {"mean": draw(-1, 1), "var": draw(0.5, 2)},
    }


def image(rng, *shape):
    return jnp.asarray(rng.normal(1, 3, shape), jnp.float32)


def expected(x, state, mean, var, epsilon):
    scale, bias = (np.float64(state["params"][name]) for name in ("scale", "bias"))
    mean, var = np.float64(mean), np.float64(var)
    return (np.float64(x) - mean) / np.sqrt(var + epsilon) * scale + bias


def test_training_normalises_by_the_batch_and_moves_the_averages(rng):
    x, state = image(rng, 3, 5, 4, 6), variables(rng, 6)
    module = BatchNorm(Norm(momentum=0.9, epsilon=1e-3))
    y, update = module.apply(state, x, train=True, mutable=["batch_stats"])

    mean, var = np.float64(x).mean((0, 1, 2)), np.float64(x).var((0, 1, 2))
    np.testing.assert_allclose(y, expected(x, state, mean, var, 1e-3), rtol=1e-5, atol=1e-5)
    old, new = state["batch_stats"], update["batch_stats"]
    np.testing.assert_allclose(new["mean"], 0.9 * old["mean"] + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(new["var"], 0.9 * old["var"] + 0.1 * var, rtol=1e-5)


@pytest.mark.parametrize("statistics", ["sync", "per_device", "frozen"])
def test_evaluation_uses_the_running_averages(rng, statistics):
    x, state = image(rng, 2, 3, 4, 6), variables(rng, 6)
    y = BatchNorm(Norm(statistics=statistics)).apply(state, x, train=False)
    stats = state["batch_stats"]
    np.testing.assert_allclose(
        y, expected(x, state, stats["mean"], stats["var"], 1e-5), rtol=1e-5, atol=1e-5
    )


def test_frozen_norm_is_a_constant_of_training(rng):
    x, state = image(rng, 2, 3, 4, 6), variables(rng, 6)
    module = BatchNorm(Norm(statistics="frozen"))

    def loss(params):
        y, update = module.apply(state | {"params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.sum(y**2), (y, update)

    gradient, (y, update) = jax.grad(loss, has_aux=True)(state["params"])
    np.testing.assert_array_equal(y, module.apply(state, x, train=False))
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient))
    for name, value in state["batch_stats"].items():
        np.testing.assert_array_equal(update.get("batch_stats", state["batch_stats"])[name], value)


def test_frozen_statistics_leave_scale_and_bias_learning(rng):
    x, state = image(rng, 2, 3, 4, 6), variables(rng, 6)
    stats = state["batch_stats"]

    def loss(params, norm):
        y, update = BatchNorm(norm).apply(
            state | {"params": params}, x, train=True, mutable=["batch_stats"]
        )
        return jnp.sum(y**2), (y, update)

    norm = Norm(statistics="frozen_statistics")
    gradient, (y, update) = jax.grad(loss, has_aux=True)(state["params"], norm)
    np.testing.assert_array_equal(y, BatchNorm(norm).apply(state, x, train=False))
    assert not update.get("batch_stats") or all(
        np.array_equal(update["batch_stats"][name], stats[name]) for name in stats
    )
    # d/dbias of the sum of squares is twice the sum; of scale, weighted by the normalised input.
    x, mean, var = np.asarray(x), np.asarray(stats["mean"]), np.asarray(stats["var"])
    z = (x - mean) / np.sqrt(var + norm.epsilon)
    np.testing.assert_allclose(gradient["bias"], 2 * y.sum((0, 1, 2)), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(gradient["scale"], 2 * (y * z).sum((0, 1, 2)), rtol=1e-4, atol=1e-3)


def test_init_starts_as_the_identity():
    x = jnp.full((2, 3, 3, 4), 7.0)
    state = BatchNorm().init(jax.random.key(0), x, train=True)
    for name, value in {"mean": 0, "var": 1}.items():  # not moved by the example
        np.testing.assert_array_equal(state["batch_stats"][name], np.full(4, value))
    y = BatchNorm(Norm(epsilon=1e-12)).apply(state, x, train=False)
    np.testing.assert_allclose(y, x, rtol=1e-6)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_variance_survives_a_large_mean(rng, platform):
    """Mean 1000, deviation 0.01: E[x^2] - E[x]^2 has no correct digit in float32."""
    x = np.float32(1000 + 0.01 * rng.normal(size=(4, 8, 8, 2)))
    with lowering.for_platform(platform):
        mean, var = batch_statistics(jnp.asarray(x), near=jnp.full(2, 1000.1))
    np.testing.assert_allclose(mean, np.float64(x).mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(var, np.float64(x).var((0, 1, 2)), rtol=1e-2)
    naive = np.mean(x**2, axis=(0, 1, 2)) - np.mean(x, axis=(0, 1, 2)) ** 2
    assert (abs(naive - var) > 0.5 * var).any()


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_derivatives_of_the_variance_are_those_of_its_definition(rng, platform):
    """First and second, although the centre counts as a constant on the way back."""
    x, direction = image(rng, 2, 2, 3, 2), image(rng, 2, 2, 3, 2)

    def ours(x):
        mean, var = batch_statistics(x, near=jnp.asarray([0.5, -2.0]))
        return jnp.sum(jnp.sin(mean) + var**2)

    def definition(x):
        return jnp.sum(jnp.sin(jnp.mean(x, (0, 1, 2))) + jnp.var(x, (0, 1, 2)) ** 2)

    for order in (jax.grad, lambda f: jax.grad(lambda x: jnp.vdot(jax.grad(f)(x), direction))):
        with lowering.for_platform(platform):
            got, wanted = jax.jit(order(ours))(x), jax.jit(order(definition))(x)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_the_layer_and_its_gradient_are_the_same_on_every_kind_of_device(rng):
    """On v6e the sums are kept apart by barriers, also those of the gradient."""
    x, weight, state = image(rng, 2, 5, 4, 3), image(rng, 2, 5, 4, 3), variables(rng, 3)

    def loss(params, x):
        y, update = BatchNorm().apply(
            state | {"params": params}, x, train=True, mutable=["batch_stats"]
        )
        return jnp.vdot(jnp.sin(y), weight), update

    def on(platform, kind):
        with lowering.for_platform(platform, kind):
            return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(state["params"], x)

    wanted = on("cpu", "")
    for kind in ("TPU v5 lite", "TPU v6 lite"):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
            on("tpu", kind),
            wanted,
        )


def test_bfloat16_in_and_out_with_float32_statistics(rng):
    x = image(rng, 4, 16, 16, 3).astype(jnp.bfloat16)
    state = variables(rng, 3)
    state["params"] = jax.tree.map(lambda p: p.astype(jnp.bfloat16), state["params"])
    y, update = BatchNorm().apply(state, x, train=True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(update)} == {np.dtype(np.float32)}
    mean, var = np.float64(x).mean((0, 1, 2)), np.float64(x).var((0, 1, 2))
    old = np.float64(state["batch_stats"]["var"])
    np.testing.assert_allclose(update["batch_stats"]["var"], 0.9 * old + 0.1 * var, rtol=1e-5)
    exact = expected(x, state, mean, var, 1e-5)
    np.testing.assert_allclose(np.float64(y), exact, rtol=2**-8, atol=1e-2)


def local_step(statistics, state, x, weight):
    """One device's part: (output, new averages, gradient of the parameters and of x)."""
    module = BatchNorm(Norm(statistics=statistics))

    def loss(params, x):
        y, update = module.apply(state | {"params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.sum(y * weight + y**3), (y, update["batch_stats"])

    params = lax.pcast(state["params"], DATA_AXIS, to="varying")
    gradients, (y, stats) = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x)
    if statistics == "per_device":
        stats = lax.pmean(stats, DATA_AXIS)
    return y, stats, lax.psum(gradients[0], DATA_AXIS), gradients[1]


def on_four_devices(runner, statistics):
    """local_step over a batch [n h w c] as shard_map or pmap runs it."""
    step = functools.partial(local_step, statistics)
    if runner == "shard_map":
        mesh = jax.make_mesh((4,), (DATA_AXIS,), axis_types=(AxisType.Auto,))
        whole, split = PartitionSpec(), PartitionSpec(DATA_AXIS)
        return jax.jit(
            jax.shard_map(
                step,
                mesh=mesh,
                in_specs=(whole, split, split),
                out_specs=(split, whole, whole, split),
                check_vma=True,
            )
        )

    mapped = jax.pmap(
        step,
        DATA_AXIS,
        in_axes=(None, 0, 0),
        out_axes=(0, None, None, 0),
        devices=jax.devices()[:4],
    )

    def run(state, x, weight):
        parts = [value.reshape(4, -1, *value.shape[1:]) for value in (x, weight)]
        y, stats, params, image = mapped(state, *parts)
        return y.reshape(x.shape), stats, params, image.reshape(x.shape)

    return run


def assert_trees_close(got, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), got, wanted)


@pytest.mark.parametrize("runner", ["shard_map", "pmap"])
def test_sync_on_four_devices_is_one_device_with_the_whole_batch(rng, runner):
    # The parts differ in mean and deviation, so that per-device statistics would show.
    x = image(rng, 8, 3, 3, 4) * jnp.arange(1.0, 9.0).reshape(8, 1, 1, 1)
    weight, state = image(rng, *x.shape), variables(rng, 4)

    def whole_batch(state, x, weight):
        def loss(params, x):
            y, update = BatchNorm(Norm()).apply(
                state | {"params": params}, x, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(y * weight + y**3), (y, update["batch_stats"])

        gradients, (y, stats) = jax.grad(loss, argnums=(0, 1), has_aux=True)(state["params"], x)
        return y, stats, *gradients

    got = on_four_devices(runner, "sync")(state, x, weight)
    assert_trees_close(got, jax.jit(whole_batch)(state, x, weight))


def test_per_device_statistics_are_each_parts_own(rng):
    x = image(rng, 8, 3, 3, 4) * jnp.arange(1.0, 9.0).reshape(8, 1, 1, 1)
    weight, state = image(rng, *x.shape), variables(rng, 4)
    y, stats, _, _ = on_four_devices("shard_map", "per_device")(state, x, weight)
    means = []
    for part in np.split(np.arange(8), 4):
        mean, var = np.float64(x[part]).mean((0, 1, 2)), np.float64(x[part]).var((0, 1, 2))
        wanted = expected(x[part], state, mean, var, 1e-5)
        np.testing.assert_allclose(y[part], wanted, rtol=1e-4, atol=1e-4)
        means.append(mean)
    moved = 0.9 * np.float64(state["batch_stats"]["mean"]) + 0.1 * np.mean(means, axis=0)
    np.testing.assert_allclose(stats["mean"], moved, rtol=1e-5)


@pytest.mark.parametrize(
    "field, message",
    [
        ({"momentum": 1.5}, "momentum must lie in .0, 1., got 1.5"),
        ({"epsilon": 0.0}, "epsilon must be positive"),
        ({"statistics": "synced"}, "did you mean sync"),
    ],
)
def test_errors_name_the_value(field, message):
    with pytest.raises(ValueError, match=message):
        Norm(**field)


def group_norm(x, scale, bias, groups, epsilon):
    """Wu and He (2018), equations 1, 2 and 7, channel by channel: S_i is all of one image's values
    of the channels j with floor(j / (C / G)) = floor(i / (C / G)).
    """
    x = np.float64(x)
    y, size = np.empty_like(x), x.shape[-1] // groups
    for image in range(len(x)):
        for channel in range(x.shape[-1]):
            same = [j for j in range(x.shape[-1]) if j // size == channel // size]
            values = np.concatenate([x[image, ..., j].ravel() for j in same])
            mean = values.sum() / values.size
            deviation = np.sqrt(((values - mean) ** 2).sum() / values.size + epsilon)
            y[image, ..., channel] = (x[image, ..., channel] - mean) / deviation
    return y * np.float64(scale) + np.float64(bias)


@pytest.mark.parametrize(("channels", "asked", "groups"), [(12, 4, 4), (24, 32, 8)])
def test_group_norm_is_the_papers_formula(rng, channels, asked, groups):
    x = (
        image(rng, 2, 3, 5, channels)
        * np.arange(1, channels + 1, dtype=np.float32)[None, None, None]
    )
    params = variables(rng, channels)["params"]
    module = norms.layer(Norm(statistics="group", groups=asked, epsilon=1e-2), name="bn")
    wanted = group_norm(x, params["scale"], params["bias"], groups, 1e-2)
    for train in (True, False):
        y, update = module.apply({"params": params}, x, train=train, mutable=["batch_stats"])
        np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)
        assert not update
    single = module.apply({"params": params}, x[1:], train=True)
    np.testing.assert_allclose(single, wanted[1:], rtol=1e-5, atol=1e-5)

    half = x.astype(jnp.bfloat16)
    y = module.apply({"params": params}, half, train=True)
    exact = group_norm(half.astype(np.float32), params["scale"], params["bias"], groups, 1e-2)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float64(y), exact, rtol=2**-8, atol=1e-2)


def test_the_gradient_of_group_norm_is_that_of_differences(rng):
    x, weight = np.float64(image(rng, 1, 2, 2, 4)), np.float64(image(rng, 1, 2, 2, 4))
    params = {"scale": jnp.ones(4), "bias": jnp.zeros(4)}
    module = norms.layer(Norm(statistics="group", groups=2), name="bn")
    gradient = jax.grad(
        lambda x: jnp.vdot(module.apply({"params": params}, x, train=True), np.float32(weight))
    )(jnp.float32(x))
    expected, h = np.empty_like(x), 1e-5
    for at in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[at] = h
        ends = [np.vdot(group_norm(x + s, 1.0, 0.0, 2, 1e-5), weight) for s in (step, -step)]
        expected[at] = (ends[0] - ends[1]) / (2 * h)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


def test_what_group_norm_cannot_be(rng):
    with pytest.raises(ValueError, match="groups must be positive"):
        Norm(groups=0)
    with pytest.raises(ValueError, match="make the layer by"):
        BatchNorm(Norm(statistics="group")).init(
            jax.random.key(0), jnp.ones((1, 2, 2, 4)), train=True
        )
    module = norms.layer(Norm(statistics="group", groups=32), name="bn")
    with pytest.raises(ValueError, match="bn: 16 groups of one number, 16 channels of one pixel"):
        module.init(jax.random.key(0), jnp.ones((2, 1, 1, 16)), train=True)
