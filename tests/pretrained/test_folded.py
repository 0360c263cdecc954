"""Folded batch norms get statistics before a training: the function stays, training mode works."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from seg_jax import config, experiment, pretrained, train_state
from seg_jax.checks import UserError
from seg_jax.nn import norm_inputs
from seg_jax.nn.blocks import ConvNorm, DepthwiseConvNorm
from seg_jax.nn.norm import Norm
from seg_jax.optim import make_optimizer
from seg_jax.pretrained import averages, catalogue, folded, norm_epsilon, release, warm_start
from seg_jax.runs import checkpoint
from seg_jax.runs import folder as run_folder
from seg_jax.runs import log as logs
from seg_jax.train import loop

NORM = Norm(epsilon=1e-3)


@config.register_type
class Net(nn.Module):
    """Three convolutions with norms; the second is called on two scales of its input."""

    norm: Norm = NORM
    num_classes: int = 21

    @nn.compact
    def __call__(self, image, *, train):
        x = ConvNorm(8, 3, norm=self.norm, name="first")(image, train=train)
        shared = DepthwiseConvNorm(norm=self.norm, name="shared")
        x = shared(x, train=train) + jnp.mean(
            shared(x[:, ::2, ::2], train=train), (1, 2), None, keepdims=True
        )
        x = ConvNorm(6, 1, norm=self.norm, activation="none", name="last")(x, train=train)
        return {"out": nn.Conv(self.num_classes, (1, 1), name="score")(x).astype(jnp.float32)}


def random_variables(model, seed=0):
    shapes = train_state.variable_shapes(model, input_shape=(1, 16, 16, 3))
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        positive = path[-1].key in ("var", "scale")
        values = rng.uniform(0.5, 2, leaf.shape) if positive else 0.3 * rng.normal(size=leaf.shape)
        return np.float32(values)

    return jax.tree.map_with_path(draw, shapes)


def fold(variables, epsilon):
    """What a converter to TensorFlow Lite and our importer make of a network."""
    variables = jax.tree.map(np.array, variables)
    for name, statistics in variables["batch_stats"].items():
        layer, bn = variables["params"][name], statistics["bn"]
        factor = layer["bn"]["scale"] / np.sqrt(bn["var"] + epsilon)
        layer["conv"]["kernel"] = layer["conv"]["kernel"] * factor
        layer["bn"]["bias"] = layer["bn"]["bias"] - factor * bn["mean"]
        layer["bn"]["scale"] = np.ones_like(factor)
        bn["mean"], bn["var"] = np.zeros_like(factor), np.full_like(factor, 1 - epsilon)
    return variables


def images(seed=1, size=16):
    rng = np.random.default_rng(seed)
    while True:
        yield rng.integers(0, 256, (8, size, size, 3)).astype(np.uint8)


def logits(model, variables, x):
    return apply(model)(variables, x)


@functools.cache
def apply(model):
    return jax.jit(lambda variables, x: model.apply(variables, x, train=False)["out"])


def test_the_function_stays_and_training_mode_comes_near():
    model, x = Net(), tiny.preprocessing(next(images(5)))
    trained = random_variables(model)
    given = fold(trained, NORM.epsilon)
    np.testing.assert_allclose(logits(model, given, x), logits(model, trained, x), atol=1e-4)
    found, seen = folded.estimate(
        given, model, tiny.preprocessing, folded.find(given), images(), count=20
    )
    assert seen == 24
    expected = logits(model, given, x)
    np.testing.assert_allclose(logits(model, found, x), expected, atol=1e-4)
    in_training = functools.partial(model.apply, image=x, train=True, mutable=["batch_stats"])
    far, near = (float(jnp.abs(in_training(v)[0]["out"] - expected).mean()) for v in (given, found))
    assert near < 0.1 * far


def test_the_statistics_are_those_of_all_values_in_float64():
    """Of the first norm, whose input needs no other norm: a convolution by loops over the taps."""
    model = Net()
    given = fold(random_variables(model), NORM.epsilon)
    found, _ = folded.estimate(given, model, tiny.preprocessing, {"first/bn"}, images(), count=24)
    source = images()
    x = np.float64(tiny.preprocessing(np.concatenate([next(source) for _ in range(3)])))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = np.float64(given["params"]["first"]["conv"]["kernel"])
    y = sum(
        padded[:, i : i + 16, j : j + 16] @ kernel[i, j] for i in range(3) for j in range(3)
    ).reshape(-1, 8)
    statistics = found["batch_stats"]["first"]["bn"]
    np.testing.assert_allclose(statistics["mean"], y.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(statistics["var"], y.var(0), rtol=1e-5)
    # The other norms were not asked for.
    assert folded.find(found) == {"shared/bn", "last/bn"}


def test_a_norm_that_is_called_twice_has_both_calls_statistics():
    model, x = Net(), tiny.preprocessing(next(images()))
    calls = norm_inputs.moments(model, random_variables(model), x)["shared/bn"]
    assert [call.count for call in calls] == [8 * 256, 8 * 64]
    assert norm_inputs.norms(model, x.shape).keys() == {"first/bn", "shared/bn", "last/bn"}


def test_only_folded_norms_are_found():
    model = Net()
    trained = random_variables(model)
    assert folded.find(trained) == set()
    assert folded.find(fold(trained, 1e-3)) == {"first/bn", "shared/bn", "last/bn"}
    shifted = fold(trained, 1e-5)  # the first norm's mean moves where inputs are rescaled
    shifted["batch_stats"]["first"]["bn"]["mean"] += np.arange(8, dtype=np.float32)
    assert folded.find(shifted) == {"first/bn", "shared/bn", "last/bn"}


def task(model=None, **fields):
    return tiny.experiment(model=model or Net(), **fields)


def write_run(folder, chosen, variables):
    optimizer = make_optimizer(chosen.optim, variables["params"], steps=1)
    run_folder.write_config(folder, chosen)
    state = train_state.init_state(variables, optimizer)
    checkpoint.save(folder, state, iterator={}, metadata={}, keep=1)


def write_release(folder, chosen, variables):
    release.save(pretrained.Pretrained(chosen, variables), folder, license="unknown", card="x")


@pytest.mark.parametrize("write", [write_run, write_release])
def test_a_run_or_release_of_folded_weights_is_recognised(tmp_path, write):
    model = Net()
    given = fold(random_variables(model), NORM.epsilon)
    write(tmp_path / "from", task(), given)
    chosen = task(init=str(tmp_path / "from"))
    fresh = train_state.init_variables(model, input_shape=(1, 16, 16, 3), seed=0)
    with pytest.raises(UserError, match="norms are folded.* Freeze the norms .* or give training"):
        warm_start.start(fresh, chosen, tmp_path / "run")
    found = warm_start.start(fresh, chosen, tmp_path / "run", images=images)
    assert found.complete and folded.find(found.variables) == set()
    done = "statistics of 3 folded norms estimated on 128 images"
    assert found.report[1:] == [f"  {done}"] and len(found.log["layers"]) == 7 + 1
    assert found.log["pretraining"] == f"{chosen.train.init} ({done})"


def test_frozen_norms_stay_as_they_came(tmp_path):
    model = Net(norm=dataclasses.replace(NORM, statistics="frozen"))
    given = fold(random_variables(model), NORM.epsilon)
    write_release(tmp_path / "from", task(), given)
    chosen = task(model, init=str(tmp_path / "from"))
    fresh = train_state.init_variables(model, input_shape=(1, 16, 16, 3), seed=0)
    found = warm_start.start(fresh, chosen, tmp_path / "run")  # needs no images
    jax.tree.map(np.testing.assert_array_equal, found.variables, given)
    assert found.report[1:] == ["  3 folded norms are frozen: nothing to estimate"]


def test_another_epsilon_changes_nothing(tmp_path):
    """1e-5 in the weights, 0.1 here: without adapting, every norm would shrink."""
    chosen = task(Net(norm=Norm(epsilon=1e-5)))
    variables = random_variables(chosen.model)
    write_release(tmp_path / "from", chosen, variables)
    here = task(Net(norm=Norm(epsilon=0.1)), init=str(tmp_path / "from"))
    fresh = train_state.init_variables(here.model, input_shape=(1, 16, 16, 3), seed=0)
    found = warm_start.start(fresh, here, tmp_path / "run")
    x = tiny.preprocessing(next(images()))
    expected = logits(chosen.model, variables, x)
    actual = logits(here.model, found.variables, x)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    unadapted = logits(here.model, variables, x)
    assert float(jnp.abs(unadapted - expected).max()) > 0.1
    assert "  3 norms have epsilon 1e-05 in the weights and 0.1 here" in found.report[1]
    assert norm_epsilon.adapt(variables, {"last/bn": (1e-3, 1e-3)})[1] == []


def test_a_training_records_what_was_done(tmp_path):
    root = tiny.write_pictures(tmp_path / "voc")
    given = fold(random_variables(Net()), NORM.epsilon)
    write_release(tmp_path / "from", task(), given)
    chosen = task(root=root, init=str(tmp_path / "from"), steps=1)
    loop.fit(chosen, tmp_path / "run", progress=False)
    assert logs.pretraining(tmp_path / "run") == (
        f"{chosen.train.init} (statistics of 3 folded norms estimated on 128 images)"
    )
    assert folded.find(checkpoint.restore_variables(tmp_path / "run")[1]) == set()


def test_high_momentum_is_warned_of():
    norm = Norm(momentum=0.9997)
    assert averages.warnings(task(Net(norm=norm), steps=30)) == [
        "warning: with momentum 0.9997, 30 updates leave 99 % of their start in the norms' running "
        "averages, which the evaluation uses: --model.norm.momentum 0.9"
    ]
    assert averages.warnings(task(Net(norm=norm), steps=20_000)) == []
    frozen = dataclasses.replace(norm, statistics="frozen")
    assert averages.warnings(task(Net(norm=frozen), steps=30)) == []
    (line,) = averages.warnings(experiment_of_30_steps())
    assert "--model.backbone.norm.momentum 0.9" in line and "--model.aspp.norm.momentum" in line


def experiment_of_30_steps():
    chosen = experiment.get("deeplab_v3plus_xception65_voc")
    return dataclasses.replace(chosen, train=dataclasses.replace(chosen.train, steps=30))


def test_the_catalogue_says_which_entries_are_folded():
    names = [name for name in catalogue.names() if catalogue.get(name).folded]
    assert names == [
        "cambridge_segnet_voc",
        "cambridge_segnet_basic_camvid",
        "google_deeplabv3_mobilenetv2_dm05_voc",
        "google_deeplabv3_mobilenetv2_voc_uint8",
        "google_mobilenetv2_imagenet_uint8",
    ]
