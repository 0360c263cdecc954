"""The update itself: precision, accumulation, randomness, bad numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from seg_jax import train_state
from seg_jax.losses import LossConfig
from seg_jax.nn.norm import Norm
from seg_jax.types import IGNORE


def batches(count, **options):
    rng = np.random.default_rng(2)
    return [tiny.make_batch(rng, **options) for _ in range(count)]


def assert_identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    ("norm", "reduction"), [(None, "mean"), (Norm(statistics="group", groups=2), "image_mean")]
)
def test_parts_on_devices_equal_the_large_batch_without_norm_and_with_group_norm(norm, reduction):
    model, loss = tiny.Tiny(norm=norm), LossConfig(reduction=reduction)
    state, large = tiny.setup(model, loss=loss)
    _, small = tiny.setup(model, loss=loss, accumulate=2)
    data = batches(3)
    expected, expected_metrics = tiny.run(state, large, data)
    ours, metrics = tiny.run(state, small, data, devices=2)
    assert ours.batch_stats == {}
    assert tiny.largest_difference(ours.params, expected.params) < 1e-6
    for a, b in zip(metrics, expected_metrics, strict=True):
        assert a["pixels"] == b["pixels"] and a["accuracy"] == b["accuracy"]
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)


def test_a_step_with_rematerialisation_is_the_step_without():
    """Dropout drops the same pixels, and the running averages move once."""
    state, plain = tiny.setup(tiny.Tiny(dropout=0.5))
    _, again = tiny.setup(tiny.Tiny(dropout=0.5), remat_kind="blocks")
    data = batches(2)
    expected, wanted = tiny.run(state, plain, data, devices=2)
    ours, metrics = tiny.run(state, again, data, devices=2)
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    for name in ("params", "batch_stats", "opt_state"):
        assert tiny.largest_difference(getattr(ours, name), getattr(expected, name)) < 1e-6, name
    np.testing.assert_allclose(
        *([m["loss"] for m in each] for each in (metrics, wanted)), rtol=1e-6
    )
    _, none = tiny.setup(tiny.Tiny(), remat_kind="stages")
    with pytest.raises(ValueError, match="remat stages: the network has none"):
        tiny.run(state, none, data[:1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    [
        LossConfig(class_weights=(1.0, 0.5, 2.0), label_smoothing=0.1),
        LossConfig(terms=(("cross_entropy", 1.0), ("focal", 0.5)), reduction="image_mean"),
    ],
    ids=["mean", "image_mean"],
)
def test_a_step_with_logits_in_strips_is_the_step_without(loss):
    model = tiny.Tiny(dropout=0.5, stride=2)
    state, whole = tiny.setup(model, loss=loss)
    _, strips = tiny.setup(model, loss=loss, logits="strips")
    (data,) = batches(1, weight=not loss.terms)
    expected, (wanted,) = tiny.run(state, whole, [data], devices=2)
    ours, (metrics,) = tiny.run(state, strips, [data], devices=2)
    assert metrics["pixels"] == wanted["pixels"] and metrics["accuracy"] == wanted["accuracy"]
    np.testing.assert_allclose(metrics["loss"], wanted["loss"], rtol=1e-6)
    for name in ("params", "opt_state"):
        assert tiny.largest_difference(getattr(ours, name), getattr(expected, name)) < 1e-6, name


@pytest.mark.parametrize(
    ("stride", "loss", "message"),
    [
        (1, LossConfig(), "end with other layers than a fixed bilinear upsampling"),
        (2, LossConfig(name="dice"), "loss dice needs the whole logits"),
        (2, LossConfig(top_k=0.5), "top_k 0.5 compares the pixels of the whole batch"),
    ],
)
def test_what_strips_do_not_know_is_said(stride, loss, message):
    state, step = tiny.setup(tiny.Tiny(stride=stride), loss=loss, logits="strips")
    with pytest.raises(ValueError, match=message):
        tiny.run(state, step, batches(1))


def test_running_averages_pass_through_every_micro_batch():
    model = tiny.Tiny()
    state, per_device = tiny.setup(model, accumulate=2)
    (batch,) = batches(1)
    ours, _ = tiny.run(state, per_device, [batch])
    x = jax.lax.conv_general_dilated(
        tiny.preprocessing(batch["image"]), state.params["conv"]["kernel"], (1, 1), "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    mean = np.zeros(4)
    for part in (x[:4], x[4:]):
        mean = 0.9 * mean + 0.1 * np.mean(np.asarray(part, np.float64), axis=(0, 1, 2))
    np.testing.assert_allclose(ours.batch_stats["norm"]["mean"], mean, atol=1e-6)


def test_bfloat16_keeps_master_copies_in_float32_and_the_loss_close():
    state, exact = tiny.setup(tiny.Tiny())
    _, half = tiny.setup(tiny.Tiny(), precision="bfloat16")
    data = batches(4)
    _, expected = tiny.run(state, exact, data)
    ours, metrics = tiny.run(state, half, data, devices=4)
    assert {leaf.dtype for leaf in jax.tree.leaves(ours.params)} == {np.dtype(np.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(ours.batch_stats)} == {np.dtype(np.float32)}
    losses = np.array([[a["loss"], b["loss"]] for a, b in zip(metrics, expected, strict=True)])
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=0.02)
    assert (losses[:, 0] != losses[:, 1]).all()  # it did compute in bfloat16


def test_in_bfloat16_norms_alone_keep_their_parameters_in_float32():
    """Their bias's gradient is a sum over all pixels, which bfloat16 would round at every step."""
    seen = {}

    class Model(tiny.Tiny):
        def apply(self, variables, *args, **kwargs):
            seen.update(variables["params"])
            return super().apply(variables, *args, **kwargs)

    state, half = tiny.setup(Model(), precision="bfloat16")
    tiny.run(state, half, batches(1))
    norms = set(state.batch_stats)  # only norms have running averages
    assert norms < set(seen)
    for name, params in seen.items():
        wanted = np.float32 if name in norms else jnp.bfloat16
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(wanted)}, name


class Seen:
    """Stands for a model: its loss depends on nothing but the dropout key it is given."""

    def apply(self, variables, image, *, train, mutable, rngs):
        n, h, w, _ = image.shape
        noise = jax.random.normal(rngs["dropout"], (n, h, w, tiny.CLASSES))
        return {"out": noise + 0.0 * variables["params"]["w"]}, {}


def seen_losses(per_device, state, **options):
    """The loss of two steps over images that are all alike."""
    batch = {"image": np.zeros((4, 2, 2, 3), np.uint8), "label": np.zeros((4, 2, 2), np.uint8)}
    _, metrics = tiny.run(state, per_device, [batch, batch], **options)
    return [float(m["loss"]) for m in metrics]


def test_dropout_differs_by_step_device_and_micro_batch_and_repeats_by_seed():
    state, plain = tiny.setup_scalar(Seen())
    _, accumulated = tiny.setup_scalar(Seen(), accumulate=2)
    two_devices = seen_losses(plain, state, devices=2)
    assert two_devices[0] != two_devices[1]
    assert seen_losses(plain, state, devices=2) == two_devices
    assert seen_losses(plain, state, devices=2, seed=1) != two_devices
    # With one key for both halves of the batch, each half would have the loss of this half batch.
    half = {"image": np.zeros((2, 2, 2, 3), np.uint8), "label": np.zeros((2, 2, 2), np.uint8)}
    _, (metrics,) = tiny.run(state, plain, [half])
    assert metrics["loss"] not in (two_devices[0], seen_losses(accumulated, state)[0])


def test_same_inputs_give_identical_bits():
    state, per_device = tiny.setup(tiny.Tiny(dropout=0.5))
    data = batches(2)
    first, _ = tiny.run(state, per_device, data, devices=4)
    second, _ = tiny.run(state, per_device, data, devices=4)
    assert_identical(first, second)


def test_after_a_loss_that_is_not_finite_nothing_changes_any_more():
    state, per_device = tiny.setup(tiny.Tiny())
    good, bad, later = batches(3)
    bad["label"][0, 0, 0] = tiny.CLASSES  # no class, not void: the loss is NaN by definition
    before, _ = tiny.run(state, per_device, [good], devices=2)
    after, metrics = tiny.run(state, per_device, [good, bad, later], devices=2)
    assert [bool(m["finite"]) for m in metrics] == [True, False, False]
    assert np.isnan(metrics[1]["loss"]) and not after.finite and after.step == 1
    assert_identical((before.params, before.opt_state), (after.params, after.opt_state))
    assert_identical(before.batch_stats, after.batch_stats)


@pytest.mark.parametrize("what", ["parameters", "running averages"])
def test_a_step_whose_loss_is_finite_but_whose_new_state_is_not_is_not_taken(what):
    config, data = tiny.OPTIM, batches(2)
    if what == "parameters":  # rate x gradient overflows
        config = dataclasses.replace(config, base_lr=3e38)
    state, per_device = tiny.setup(tiny.Tiny(), config=config)
    if what == "running averages":  # the variance of activations of 1e20 and more does
        conv = state.params["conv"]
        conv = {**conv, "kernel": conv["kernel"] * 1e22}
        state = dataclasses.replace(state, params=state.params | {"conv": conv})
    after, metrics = tiny.run(state, per_device, data, devices=2)
    assert all(np.isfinite(m["loss"]) and np.isfinite(m["grad_norm"]) for m in metrics)
    assert [bool(m["finite"]) for m in metrics] == [False, False] and after.step == 0
    assert_identical((state.params, state.batch_stats), (after.params, after.batch_stats))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.opt_state))


def test_a_batch_of_void_gives_zero_loss_and_no_nan():
    state, per_device = tiny.setup(tiny.Tiny())
    (batch,) = batches(1)
    batch["label"][:] = IGNORE
    after, (metrics,) = tiny.run(state, per_device, [batch], devices=4)
    assert metrics["loss"] == metrics["grad_norm"] == metrics["pixels"] == 0
    assert metrics["finite"] and metrics["accuracy"] == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))


def test_margin_of_the_model_crops_the_label():
    class Valid:
        """A network without padding that predicts two pixels less on every side."""

        margin = 2

        def apply(self, variables, image, *, train, mutable, rngs):
            return {"out": image[:, 2:-2, 2:-2] * variables["params"]["w"]}, {}

    state, per_device = tiny.setup_scalar(Valid())
    (batch,) = batches(1)
    _, (metrics,) = tiny.run(state, per_device, [batch])
    assert metrics["pixels"] == np.sum(batch["label"][:, 2:-2, 2:-2] != IGNORE)


def test_initialisation_depends_on_the_seed_alone():
    first, second, other = (
        train_state.init_variables(tiny.Tiny(), input_shape=(1, size, size, 3), seed=seed)
        for size, seed in [(6, 0), (8, 0), (6, 1)]
    )
    assert_identical(first, second)
    kernels = [tree["params"]["conv"]["kernel"] for tree in (first, other)]
    assert not np.array_equal(*kernels)


def test_collections_that_training_would_lose_are_refused():
    class Odd(tiny.Tiny):
        def init(self, key, image, *, train):
            return {**super().init(key, image, train=train), "cache": {"x": jnp.zeros(1)}}

    with pytest.raises(ValueError, match=r"Odd has collections \['cache'\]"):
        train_state.init_variables(Odd(), input_shape=(1, 6, 6, 3), seed=0)
