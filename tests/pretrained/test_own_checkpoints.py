"""Checkpoints of one's own training: prefixes, nesting, averaged copies, other classes."""

import dataclasses
import re

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_task import small_experiment

from seg_jax.checks import UserError
from seg_jax.data.preprocessing import DEEPLAB_CAFFE, TORCH, Preprocessing
from seg_jax.evaluation import pretrained as published
from seg_jax.nn import torch_state
from seg_jax.pretrained import cache, catalogue, initialise, loading, warm_start
from seg_jax.pretrained.formats import state_names, torch

NAME = "someone_small"


def state(classes=3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(classes)
    sizes = {"mix.weight": (4, 3, 3, 3), "mix.bias": (4,)}
    sizes |= {"score.weight": (classes, 4, 1, 1), "score.bias": (classes,)}
    return {name: np.float32(rng.normal(size=size)) for name, size in sizes.items()}


def prefixed(prefix: str, tensors=None) -> dict[str, np.ndarray]:
    return {prefix + name: each for name, each in (tensors or state()).items()}


@pytest.fixture
def entry(monkeypatch, tmp_path):
    """A catalogue entry of a network of a few weights, with the checksum of a file nobody has."""
    made = catalogue.Entry(
        NAME, "small.pth", "nowhere", "none", "three classes", "no",
        lambda model, tensors: torch_state.import_state(model, tensors, lambda module: module),
        small_experiment, sha256="00" * 32,
    )  # fmt: skip
    monkeypatch.setitem(catalogue._ENTRIES, NAME, made)
    monkeypatch.setenv("SEG_JAX_WEIGHTS", str(tmp_path / "weights"))
    return made


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (prefixed("module."), ["stripped 'module.' from all 4 names"]),
        (prefixed("module._orig_mod.model."), ["'module.'", "'_orig_mod.'", "'model.'"]),
        (prefixed("module.") | {"n_averaged": np.int64(9)}, ["left out n_averaged", "'module.'"]),
        (prefixed("model.") | prefixed("model_ema."), ["left out 4 tensors model_ema.*", "model."]),
        (prefixed("ema."), ["stripped 'ema.'"]),
        (state(), []),
    ],
)  # fmt: skip
def test_wrappers_are_taken_off_and_named(found, said):
    tensors, told = state_names.unwrap(found)
    assert tensors.keys() == state().keys() and len(told) == len(said)
    for sentence, part in zip(told, said, strict=True):
        assert part in sentence


def test_nothing_of_the_network_is_ever_left_out():
    mixed = prefixed("model.") | {"loss.weight": np.ones(3)}
    assert state_names.unwrap(mixed) == (mixed, [])


@pytest.mark.parametrize(
    "nest",
    [
        lambda inner: inner,
        lambda inner: {"epoch": 3, "state_dict": inner, "optimizer": {"state": {}}},
        lambda inner: {"checkpoint": {"model_state": inner}},
        lambda inner: {"ema_state_dict": inner},
        lambda inner: {"model": inner, "model_ema": {"other": inner["a.weight"]}},
    ],
)
def test_nested_state_dicts_are_found(nest):
    view = torch._View(torch._Storage("Float", "0"), 0, (2,), (1,))
    assert torch._state_dict(nest({"a.weight": view})) == [("a.weight", view)]
    with pytest.raises(ValueError, match="holds no state dict"):
        torch._state_dict({"optimizer": {"a.weight": view}})


@pytest.mark.parametrize(
    ("nest", "taken", "told"),
    [
        (lambda own, ema: {"state_dict": own, "ema": ema}, 1, "['state_dict'], not .* ['ema'];"),
        (lambda own, ema: {"ema": {"module": ema}, "model": own}, 1, "['ema']['module']"),
        (lambda own, ema: {"checkpoint": {"net": own, "ema_state_dict": ema}}, 1,
         "torch.load(FILE, weights_only=False)['checkpoint']['ema_state_dict'], NEW"),
        (lambda own, ema: {**own, "ema": ema}, 1, "weights at the outermost level, not"),
        (lambda own, ema: {"ema": ema, "optimizer": {"state": {}}}, 2, "average ['ema']: there"),
        (lambda own, ema: {"state_dict": own, "ema": {"decay": 0.9}}, 1, None),
    ],
)  # fmt: skip
def test_of_weights_and_their_moving_average_it_is_told_which_was_taken(nest, taken, told):
    views = [{"a.weight": torch._View(torch._Storage("Float", key), 0, (2,), (1,))} for key in "12"]
    content = nest(*views)
    assert torch._state_dict(content) == list(views[taken - 1].items())
    sentences = torch._told(content)
    assert len(sentences) == (told is not None)
    for sentence in sentences:
        assert re.search(re.escape(told or "").replace(r"\.\*", ".*"), sentence), sentence


@pytest.mark.parametrize("classes", [3, 5])
def test_init_as_starts_from_a_file_of_one_s_own(entry, tmp_path, classes, capsys):
    """Also where it was trained for another number of classes than the published weights."""
    file = tmp_path / "mine.safetensors"
    save_file(prefixed("module.", state(classes)), file)
    found = initialise.find(file, NAME, num_classes=classes)
    expected = state(classes)["score.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(found.variables["params"]["score"]["kernel"], expected)
    assert capsys.readouterr().err.count("stripped 'module.'") == 1
    with pytest.raises(UserError, match="no entry of the catalogue have a file of this name"):
        initialise.find(file)
    if classes != 3:
        with pytest.raises(UserError, match="score"):
            loading.load(file, NAME)


def test_the_training_takes_it(entry, tmp_path):
    file = tmp_path / "mine.safetensors"
    save_file(state(), file)
    task = small_experiment()
    fresh = loading.load(file, NAME).variables
    zeros = {"params": {n: {k: v * 0 for k, v in m.items()} for n, m in fresh["params"].items()}}
    settings = dataclasses.replace(task.train, init=str(file), init_as=NAME)
    begun = warm_start.start(zeros, dataclasses.replace(task, train=settings), tmp_path / "run")
    np.testing.assert_array_equal(begun.variables["params"]["mix"]["bias"], state()["mix.bias"])


def test_a_checksum_is_no_wall_with_any_file(entry, tmp_path):
    file = tmp_path / "small.safetensors"
    save_file(state(), file)
    with pytest.raises(UserError, match="SHA-256 is .*take it as it is with --any-file"):
        published.check(NAME, file)
    assert "NOT the published file's" in published.check(NAME, file, any_file=True).as_text()
    cache.add(file, NAME, any_file=True)
    assert loading.load(NAME).name == NAME


class TestOtherChannels:
    """A first convolution for RGB on n channels, by the named rules."""

    @pytest.mark.parametrize("rule", ["mean", "repeat"])
    @pytest.mark.parametrize("channels", [1, 6])
    @pytest.mark.parametrize("trained", [TORCH, DEEPLAB_CAFFE])
    def test_equal_channels_give_the_response_to_grey(self, rng, trained, channels, rule):
        """Where every channel deviates alike from its mean, as a grey image does in training."""
        kernel = rng.normal(size=(3, 3, 3, 4))
        seen = Preprocessing((50.0,) * channels, (7.0,) * channels, channels=channels)
        layers = {"conv": {"kernel": kernel, "bias": np.zeros(4)}}
        if rule == "repeat" and channels == 1:
            return  # red alone is not grey
        assert initialise._rescale_inputs(layers, trained, seen, rule) == {
            "conv": f"3 -> {channels} channels by the rule {rule}"
        }
        deviation = rng.normal(0, 20, (3, 3, 1))
        theirs = np.broadcast_to(deviation, (3, 3, 3)) / np.array(trained.std)
        ours = np.broadcast_to(deviation, (3, 3, channels)) / 7.0
        np.testing.assert_allclose(
            np.einsum("hwi,hwio->o", ours, layers["conv"]["kernel"]),
            np.einsum("hwi,hwio->o", theirs, kernel),
        )

    def test_zero_takes_the_first_three_as_red_green_and_blue(self, rng):
        kernel = rng.normal(size=(3, 3, 3, 4))
        seen = Preprocessing((0.0,) * 5, (1.0,) * 5, channels=5)
        layers = {"conv": {"kernel": kernel, "bias": np.zeros(4)}}
        initialise._rescale_inputs(layers, DEEPLAB_CAFFE, seen, "zero")
        np.testing.assert_array_equal(layers["conv"]["kernel"][:, :, :3], kernel[:, :, ::-1])
        assert not layers["conv"]["kernel"][:, :, 3:].any()
