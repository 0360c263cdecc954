"""One update is the same number on one device and on four, under every implementation.

The oracle is the textbook's: plain `jit` over the global batch, one device, no mapped axis, and
optax's cross-entropy.
"""

import dataclasses
import functools
import os
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from jax import lax

from seg_jax import checks, experiment, files, optim, parallel
from seg_jax.losses import LossConfig
from seg_jax.nn.norm import Norm
from seg_jax.parallel import compiler
from seg_jax.types import DATA_AXIS, IGNORE

STEPS = 4
KEY = jax.random.key(0)


def batches(count=STEPS):
    rng = np.random.default_rng(1)
    return [tiny.make_batch(rng, weight=True) for _ in range(count)]


def oracle(state, loss, config):
    """The same updates by plain jit on the global batch."""
    model = tiny.Tiny()  # outside of a mapped axis, the batch at hand is the whole batch
    optimizer = optim.make_optimizer(config, state.params, steps=20)

    def objective(params, batch_stats, batch):
        variables = {"params": params, "batch_stats": batch_stats}
        image = tiny.preprocessing(batch["image"])
        outputs, new = model.apply(variables, image, train=True, mutable=["batch_stats"])
        label = batch["label"].astype(jnp.int32)
        valid = label != IGNORE
        pixel = optax.softmax_cross_entropy_with_integer_labels(
            outputs["out"], jnp.where(valid, label, 0)
        )
        weighted = jnp.where(valid, pixel * batch["weight"], 0.0)
        if loss.reduction == "image_mean":
            counts = jnp.maximum(valid.sum((1, 2)), 1).astype(jnp.float32)
            return jnp.mean(weighted.sum((1, 2)) / counts), new["batch_stats"]
        count = jnp.sum(valid).astype(jnp.float32) if loss.reduction == "mean" else 1.0
        return jnp.sum(weighted) / count, new["batch_stats"]

    @jax.jit
    def update(params, batch_stats, opt_state, batch):
        (value, batch_stats), grads = jax.value_and_grad(objective, has_aux=True)(
            params, batch_stats, batch
        )
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), batch_stats, opt_state, value

    params, batch_stats, opt_state = state.params, state.batch_stats, state.opt_state
    values = []
    for batch in batches():
        params, batch_stats, opt_state, value = update(params, batch_stats, opt_state, batch)
        values.append(value)
    return params, batch_stats, values


@functools.partial(jax.jit, static_argnums=0)
def forward(model, state, image):
    """The training forward pass outside of any mapped axis."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    image = tiny.preprocessing(image)
    return model.apply(variables, image, train=True, mutable=["batch_stats"])


@pytest.mark.parametrize("reduction", ["mean", "image_mean", "sum"])
def test_every_implementation_equals_plain_jit_on_the_global_batch(reduction):
    loss = LossConfig(reduction=reduction)
    # The sum over some 150 pixels wants a rate as much smaller.
    config = dataclasses.replace(tiny.OPTIM, base_lr=5e-4 if reduction == "sum" else 0.1)
    state, per_device = tiny.setup(tiny.Tiny(), config=config, loss=loss)
    params, batch_stats, values = oracle(state, loss, config)
    assert tiny.largest_difference(params, state.params) > 1e-2  # the updates do something
    runs = [(4, "shard_map")]
    if reduction == "mean":
        runs += [(1, "shard_map"), (4, "pmap")]
    for devices, implementation in runs:
        ours, metrics = tiny.run(
            state, per_device, batches(), devices=devices, implementation=implementation
        )
        assert ours.step == STEPS and ours.finite
        assert tiny.largest_difference(ours.params, params) < 1e-6, (devices, implementation)
        assert tiny.largest_difference(ours.batch_stats, batch_stats) < 1e-6
        np.testing.assert_allclose([m["loss"] for m in metrics], values, rtol=1e-5)


def test_metrics_are_those_of_the_global_batch():
    (batch,) = batches(1)
    state, per_device = tiny.setup(tiny.Tiny())
    _, (metrics,) = tiny.run(state, per_device, [batch], devices=4)
    valid = batch["label"] != IGNORE
    outputs, _ = forward(tiny.Tiny(), state, batch["image"])
    hit = np.argmax(np.asarray(outputs["out"]), -1)[valid] == batch["label"][valid]
    assert metrics["pixels"] == valid.sum()
    np.testing.assert_allclose(metrics["accuracy"], hit.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["learning_rate"], 0.1, rtol=1e-6)


def test_per_device_statistics_are_the_mean_over_devices():
    (batch,) = batches(1)
    model = tiny.Tiny(norm=Norm(statistics="per_device"))
    state, per_device = tiny.setup(model)
    ours, _ = tiny.run(state, per_device, [batch], devices=4)
    parts = []
    for device in range(4):
        _, new = forward(model, state, batch["image"][2 * device : 2 * device + 2])
        parts.append(new["batch_stats"])
    expected = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *parts)
    assert tiny.largest_difference(parts[0], parts[1]) > 1e-3
    assert tiny.largest_difference(ours.batch_stats, expected) < 1e-6


def test_results_that_differ_between_devices_are_refused():
    mesh = parallel.make_mesh()
    leaky = parallel.compile_step(lambda state, batch, key: (state + jnp.sum(batch), key), mesh)
    with pytest.raises(ValueError, match="out_specs"):
        leaky(jnp.float32(0), jnp.ones(8), KEY)


@pytest.mark.parametrize("implementation", ["shard_map", "pmap"])
def test_the_state_is_donated(implementation):
    mesh = parallel.make_mesh()
    step = lambda state, batch, key: (state + lax.psum(jnp.sum(batch), DATA_AXIS), {})  # noqa: E731
    compiled = parallel.compile_step(step, mesh, implementation=implementation)
    state = parallel.replicate(jnp.float32(1), mesh)
    batch = parallel.shard_batch({"x": np.arange(8, dtype=np.float32)}, mesh)
    new, _ = compiled(state, batch["x"], KEY)
    assert state.is_deleted() and new == 29


def test_a_batch_is_split_along_its_first_axis():
    batch = {"image": np.arange(24).reshape(8, 3).astype(np.uint8)}
    sharded = parallel.shard_batch(batch, parallel.make_mesh())["image"]
    np.testing.assert_array_equal(sharded, batch["image"])
    for shard in sharded.addressable_shards:
        np.testing.assert_array_equal(shard.data, batch["image"][shard.index])
        assert shard.data.shape == (2, 3)


def test_batch_sizes_that_do_not_divide_are_refused_with_legal_ones():
    mesh = parallel.make_mesh()
    parallel.check_batch_size(8, mesh, accumulate=2)
    with pytest.raises(checks.UserError, match=r"12 does not .* 4 device.* use 8 or 16"):
        parallel.check_batch_size(12, mesh, accumulate=2)
    with pytest.raises(checks.UserError, match=r"batch_size 1 .* use 4, or show"):
        parallel.check_batch_size(1, mesh)


def test_distributed_without_coordinator_says_how(monkeypatch):
    monkeypatch.setenv("SEG_JAX_COORDINATOR", "localhost:1")
    with pytest.raises(checks.UserError, match="SEG_JAX_PROCESSES, SEG_JAX_PROCESS not set"):
        parallel.initialize_distributed()


def test_the_compilation_cache_lies_where_the_user_says(tmp_path, monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    try:
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert parallel.enable_compilation_cache() == tmp_path / "seg_jax" / "xla"
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
        assert parallel.enable_compilation_cache() == tmp_path / "mine"
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "above" / "xla"))
    yield tmp_path / "above" / "xla"
    jax.config.update("jax_compilation_cache_dir", before)


def test_the_compilation_cache_is_its_owner_s_alone_whatever_the_umask(cache):
    for umask in (0o000, 0o002, 0o777):
        before = os.umask(umask)
        try:
            assert parallel.enable_compilation_cache() == cache
        finally:
            os.umask(before)
        assert cache.stat().st_mode & 0o777 == cache.parent.stat().st_mode & 0o777 == 0o700
        cache.rmdir(), cache.parent.rmdir()


@pytest.mark.parametrize("mode", [0o770, 0o707])
@pytest.mark.parametrize("place", ["folder", "above"])
def test_a_compilation_cache_that_others_can_write_is_not_used(cache, caplog, place, mode):
    cache.mkdir(parents=True, mode=0o700)
    cache.parent.chmod(0o700)
    assert parallel.enable_compilation_cache() == cache
    (cache if place == "folder" else cache.parent).chmod(mode)
    assert parallel.enable_compilation_cache() is None
    assert jax.config.jax_compilation_cache_dir is None
    assert "can be written by other users; `chmod go-w" in caplog.text


def test_a_compilation_cache_of_another_user_is_not_used(cache, caplog, monkeypatch):
    cache.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(files.os, "geteuid", lambda: os.getuid() + 1)
    assert parallel.enable_compilation_cache() is None
    assert "belongs to another user" in caplog.text


def test_a_compilation_cache_that_cannot_be_made_is_a_warning(cache, caplog):
    cache.parent.write_text("a file")
    assert parallel.enable_compilation_cache() is None
    assert len(caplog.records) == 1 and "compiled programs are not kept" in caplog.text


def test_the_tpus_compiler_keeps_images_whole_where_that_is_cheaper(monkeypatch):
    resnet, vgg = (experiment.get(name).model for name in ("gcn_resnet50_voc", "fcn8s_vgg16_voc"))
    assert compiler.options(jax.devices(), resnet, 8) == compiler._REGIONS  # no TPUs
    gpu = types.SimpleNamespace(platform="gpu", process_index=0)
    assert compiler.options([gpu], resnet, 8) is None
    monkeypatch.setattr(compiler, "whole_images", lambda device: {"of": device.process_index})
    others, own = (types.SimpleNamespace(platform="tpu", process_index=rank) for rank in (1, 0))
    for model, least in ((resnet, 2), (vgg, 4), (object(), 4)):
        assert compiler.options([others, own], model, least) == {"of": 0}
        assert compiler.options([others], model, least) == {"of": 1}  # described ones
        assert compiler.options([own], model, least - 1) is None


def test_a_compiler_without_these_options_compiles_without(monkeypatch, caplog):
    device = jax.devices()[0]
    assert compiler.accepted(device, xla_tpu_no_such_option=True) is None
    assert "refuses xla_tpu_no_such_option" in caplog.text
    assert compiler.accepted(device, **compiler._REGIONS) == compiler._REGIONS
    monkeypatch.setattr(compiler, "_REGIONS", {"xla_cpu_no_such_option": True})
    assert compiler.options([device], object(), 1) is None


def test_a_network_compiled_with_options_is_part_of_another_program():
    """jax.jit refuses options inside of another program."""
    seen = []

    def double(variables, image, *, model):
        seen.append(model)
        return variables * image

    run = compiler.jit(double, static_argnames="model")
    x = jnp.arange(3.0)
    assert run(2, x, model="a").tolist() == run(2, x, model="a").tolist() == [0, 2, 4]
    assert run(2, np.arange(3.0), model="a").tolist() == [0, 2, 4]
    assert jax.jit(lambda x: run(2, x, model="b"))(x).tolist() == [0, 2, 4]
    assert seen == ["a", "b"]  # each traced once
