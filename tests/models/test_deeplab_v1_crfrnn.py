"""DeepLab v1 with its CRF inside: what the layer computes, that all of it learns, and the loss."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.sharding import PartitionSpec

from seg_jax import analysis, experiment, optim, parallel, train_state
from seg_jax.kernels.crf import mean_field
from seg_jax.models import deeplab_v1_crfrnn
from seg_jax.models.deeplab_v1_crfrnn import CrfRnn
from seg_jax.train import step
from seg_jax.types import DATA_AXIS

RNN = CrfRnn(
    stride=2,
    train_iterations=2,
    iterations=3,
    bilateral_px=8.0,
    bilateral_rgb=40.0,
    spatial_px=3.0,
    bilateral_weight=1.5,
    spatial_weight=0.5,
    grey_levels=(100.0, 120.0),
)


@pytest.fixture
def inputs(rng):
    logits = rng.normal(size=(2, 9, 13, 3)).astype(np.float32)
    return logits, rng.uniform(-1, 1, (2, 9, 13, 3)).astype(np.float32)


def slow_rnn(logits, image, params, iterations):
    """The marginals at every second pixel, as logits, by loops over pairs of pixels."""
    logits, rgb = logits[::2, ::2].astype(np.float64), image[::2, ::2] * 100.0 + 120.0
    height, width, classes = logits.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    kernels = np.zeros((2, len(places), len(places)))
    for i, (y, x) in enumerate(places):
        for j, (v, u) in enumerate(places):
            moved = (2 * (y - v)) ** 2 + (2 * (x - u)) ** 2  # in pixels of the image
            recoloured = ((rgb[y, x] - rgb[v, u]) ** 2).sum()
            kernels[0, i, j] = np.exp(-moved / (2 * 8.0**2) - recoloured / (2 * 40.0**2))
            kernels[1, i, j] = np.exp(-moved / (2 * 3.0**2))
    kernels /= kernels.sum(-1, keepdims=True)
    weights = (params["bilateral_weight"], params["spatial_weight"])
    kernel = sum(float(w) * k for w, k in zip(weights, kernels, strict=True))
    start = logits.reshape(-1, classes)
    q = np.exp(start) / np.exp(start).sum(-1, keepdims=True)
    for _ in range(iterations):
        q = np.exp(start - kernel @ q @ np.asarray(params["compatibility"]).T)
        q /= q.sum(-1, keepdims=True)
    return np.log(q).reshape(height, width, classes)


@pytest.mark.parametrize("train", [False, True])
def test_layer_against_loops_over_pairs(inputs, rng, train):
    """With a compatibility that is neither Potts nor symmetric; the other pixels lie between."""
    variables = RNN.init(jax.random.key(0), *inputs, train=False)
    start = variables["params"]["compatibility"]
    np.testing.assert_array_equal(start, 1 - np.eye(3))
    params = {**variables["params"], "compatibility": start + rng.normal(size=(3, 3)) * 0.5}
    params = jax.tree.map(jnp.float32, params)
    found = np.asarray(RNN.apply({"params": params}, *inputs, train=train))
    assert found.shape == inputs[0].shape
    for index in range(2):
        expected = slow_rnn(inputs[0][index], inputs[1][index], params, 2 if train else 3)
        np.testing.assert_allclose(found[index, ::2, ::2], expected, atol=1e-4)
    between = (found[:, :, 0:-2:2] + found[:, :, 2::2]) / 2
    np.testing.assert_allclose(found[:, :, 1::2], between, atol=1e-5)


def test_a_side_that_the_stride_does_not_divide_is_named(inputs):
    with pytest.raises(ValueError, match=r"stride 3 does not divide the sides \(9, 13\) minus 1"):
        RNN.clone(stride=3).init(jax.random.key(0), *inputs, train=False)


def test_gradient_by_finite_differences(inputs, rng):
    """Of the logits, both weights and the compatibility, in one random direction each."""
    logits, image = inputs
    params = RNN.init(jax.random.key(0), *inputs, train=False)["params"]
    aim = rng.normal(size=logits.shape).astype(np.float32)

    @jax.jit
    def loss(leaves):
        params, logits = leaves
        return jnp.sum(aim * RNN.apply({"params": params}, logits, image, train=True))

    at = (params, jnp.asarray(logits))
    gradient = jax.grad(loss)(at)
    leaves, tree = jax.tree.flatten(at)
    for index, leaf in enumerate(leaves):
        way = rng.normal(size=leaf.shape).astype(np.float32)
        moved = []
        for sign in (1, -1):
            changed = [*leaves]
            changed[index] = leaf + sign * 1e-2 * way
            moved.append(float(loss(jax.tree.unflatten(tree, changed))))
        slope = (moved[0] - moved[1]) / 2e-2
        found = float(np.sum(np.asarray(jax.tree.leaves(gradient)[index]) * way))
        assert abs(slope) > 0.05
        assert found == pytest.approx(slope, rel=2e-2)


@pytest.mark.parametrize("all_pairs_px", [0, 35])  # the CRF sees 5 x 7
def test_has_a_gradient_under_the_train_step_s_checked_shard_map(inputs, all_pairs_px, monkeypatch):
    """By shapes alone: what varies over the devices is checked while tracing."""
    used = []

    def noted(*arguments, implementation):
        used.append(implementation)
        return mean_field(*arguments, implementation=implementation)

    monkeypatch.setattr(deeplab_v1_crfrnn, "mean_field", noted)
    layer = RNN.clone(all_pairs_px=all_pairs_px)
    params = RNN.init(jax.random.key(0), *inputs, train=False)["params"]

    def gradient(params, logits, image):
        params = jax.lax.pcast(params, DATA_AXIS, to="varying")
        loss = lambda params: jnp.sum(  # noqa: E731
            layer.apply({"params": params}, logits, image, train=True)
        )
        return jax.lax.psum(jax.grad(loss)(params), DATA_AXIS)

    one, batch = PartitionSpec(), PartitionSpec(DATA_AXIS)
    mapped = jax.shard_map(
        gradient,
        mesh=parallel.make_mesh(jax.devices()[:2]),
        in_specs=(one, batch, batch),
        out_specs=one,
        check_vma=True,
    )
    found = jax.eval_shape(mapped, params, *inputs)
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, params)
    assert used[-1] == ("reference" if all_pairs_px else "lattice")


@pytest.mark.slow
def test_training_lowers_the_loss_and_moves_network_and_crf(rng):
    """The registered recipe with fewer channels, by the train step."""
    chosen = experiment.get("deeplab_v1_crfrnn")
    model = experiment.shrink(chosen.model, width=1 / 16)
    # Plain SGD: optax's AdamW promotes dtypes, which the tests forbid.
    recipe = dataclasses.replace(
        chosen.optim, base_lr=0.003, optimizer="sgd", schedule=optim.Schedule("fixed")
    )
    blocks = rng.integers(0, 256, (4, 4, 4, 3))
    image = np.kron(blocks, np.ones((1, 9, 9, 1)))[:, :33, :33].astype(np.uint8)
    batch = {"image": image, "label": image[..., 0] // 86}
    variables = train_state.init_variables(model, input_shape=(1, 33, 33, 3), seed=0)
    optimizer = optim.make_optimizer(recipe, variables["params"], steps=40)
    update = functools.partial(
        step.train_step,
        model=model,
        optimizer=optimizer,
        loss=chosen.loss,
        preprocessing=chosen.data.preprocessing,
        learning_rate=functools.partial(optim.learning_rate, recipe, 40),
    )
    state = train_state.init_state(variables, optimizer)
    new, metrics = tiny.run(state, update, [batch] * 40)
    lost = [float(values["loss"]) for values in metrics]
    assert np.mean(lost[-3:]) < 0.7 * lost[0]
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), new.params, variables["params"])
    assert min(moved["crf"].values()) > 0.01
    assert min(min(layer.values()) for layer in (moved["fc6"], moved["fc8"])) > 0.001


def test_every_logit_depends_on_the_whole_image():
    """Also at a size where not all pairs fit into memory: the lattice takes over."""
    chosen = experiment.get("deeplab_v1_crfrnn")
    model = experiment.shrink(chosen.model, width=1 / 16)
    found = analysis.analyse(model, (97, 97, 3))
    fields = {layer.path: layer.receptive_field for layer in found.layers}
    assert fields["fc8"] != (None, None)
    assert found.receptive_field == (None, None)
