"""VGG-16 of HED: its file, and the suite that starts from it."""

import dataclasses

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from seg_jax import experiment
from seg_jax.backbones.vgg import CHANNELS
from seg_jax.checks import UserError
from seg_jax.pretrained import catalogue, initialise, warm_start
from seg_jax.pretrained.converters import hed
from seg_jax.pretrained.formats import safetensors
from seg_jax.pretrained.layers import layers_of
from seg_jax.reproduce import plan

NAME = "hed_vgg16_bsds500"
SUITE = "controlled_vgg16"
THIN = 1 / 16
LAYERS = [f"conv{s}_{n}" for s, d in enumerate((2, 2, 3, 3, 3), start=1) for n in range(1, d + 1)]


def made_up(rng):
    """What the published file has, with a sixteenth of the channels."""
    tensors, channels = {}, 3
    for name in LAYERS:
        width = CHANNELS[int(name[4]) - 1] // 16
        tensors[f"{name}.kernel"] = rng.normal(size=(3, 3, channels, width)).astype(np.float16)
        tensors[f"{name}.bias"] = rng.normal(size=width).astype(np.float16)
        channels = width
    return tensors


def thin(model):
    backbone = getattr(model, "backbone", None)
    fields = {} if backbone is None else {"backbone": backbone.clone(width=THIN)}
    return model.clone(width=THIN, **fields)


def fresh(model):
    image = jax.ShapeDtypeStruct((1, 65, 65, 3), np.float32)
    shapes = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), image
    )
    return jax.tree.map(lambda leaf: np.full(leaf.shape, 7, leaf.dtype), shapes)


def test_the_suite_s_heads_take_all_convolutions_and_nothing_else(rng, tmp_path):
    tensors = made_up(rng)
    save_file(tensors, tmp_path / "thin.safetensors")
    found = hed.vgg16(None, safetensors.read(tmp_path / "thin.safetensors"), width=THIN)
    entry = catalogue.get(NAME)
    assert entry.preprocessing is not None
    source = initialise.Source(NAME, found, entry.preprocessing, entry.ignored)
    names = experiment.suite(SUITE)
    assert len(names) == 7 and plan.is_controlled([experiment.get(name) for name in names])
    for name in names:
        task = experiment.get(name)
        assert task.train.init == NAME and task.data.preprocessing == entry.preprocessing
        if not name.startswith(("fcn8s", "segnet", "deeplab_v2")):
            continue  # the same backbones again
        variables, _ = initialise.initialise(
            fresh(thin(task.model)), source, preprocessing=task.data.preprocessing
        )
        layers = layers_of(variables)
        mine = {layer.removeprefix("backbone/"): arrays for layer, arrays in layers.items()}
        assert mine.keys() > set(LAYERS), name
        for layer, arrays in mine.items():
            for leaf, array in arrays.items():
                assert array.dtype == np.float32
                expected = tensors[f"{layer}.{leaf}"] if layer in LAYERS else np.float32(7)
                np.testing.assert_array_equal(array, np.broadcast_to(expected, array.shape))


def test_another_file_is_refused(rng):
    tensors = made_up(rng)
    del tensors["conv3_2.bias"]
    tensors["dsn1.kernel"] = np.zeros((1, 1, 4, 1), np.float16)
    with pytest.raises(UserError, match=r"conv3_2/bias[\s\S]*dsn1.kernel"):
        hed.vgg16(None, tensors, width=THIN)


def test_the_real_file_starts_a_training(test_data, tmp_path):
    """Found by its checksum; 13 layers are taken as they are, and the heads are new."""
    file = test_data / "weights/vgg16_hed_bsds500/vgg16_hed_bsds500_float16.safetensors"
    assert catalogue.of_file(file).name == NAME
    task = experiment.get("unet_vgg16_camvid_controlled")
    task = dataclasses.replace(task, train=dataclasses.replace(task.train, init=str(file)))
    found, report, _, complete = warm_start.start(fresh(task.model), task, tmp_path)
    assert not complete
    assert report[0].startswith(f"init from {NAME}: 13 layers loaded, 0 adapted, ")
    trunk = found["params"]["backbone"]
    assert list(trunk) == LAYERS
    stored = load_file(file)  # the format's own library
    for layer in LAYERS:
        for leaf in ("kernel", "bias"):
            assert trunk[layer][leaf].dtype == np.float32
            np.testing.assert_array_equal(trunk[layer][leaf], stored.pop(f"{layer}.{leaf}"))
    assert not stored
