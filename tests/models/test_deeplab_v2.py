"""DeepLab v2 against the authors' networks, written out in NumPy; scales, sizes, counts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import plain_layers as plain
import pytest

from seg_jax.backbones.vgg import VGG
from seg_jax.models.deeplab_v2 import ASPP_L, ASPP_S, RESNET101, VGG16, DeepLabV2

MULTI_SCALE = DeepLabV2(fc_channels=0, scales=(1.0, 0.75, 0.5), backbone=RESNET101)
SCALES = {"scale1": 8, "scale0.75": None, "scale0.5": 16}  # and the distance of their scores


def small(model, **fields):
    backbone = dataclasses.replace(model.backbone, width=1 / 16, parent=None, **fields)
    return model.clone(num_classes=4, width=1 / 64, backbone=backbone)


SMALL = small(MULTI_SCALE, depth=14)


def released_vgg(params, x, rates):
    """vgg16/train.prototxt, layer by layer: LargeFOV's trunk without pool5a; returns the scores."""
    for stage, depth in enumerate((2, 2, 3, 3, 3), start=1):
        rate = 2 if stage == 5 else 1
        for layer in range(1, depth + 1):
            conv = params["backbone"][f"conv{stage}_{layer}"]
            x = plain.relu(plain.conv(x, conv, pad=rate, rate=rate))
        x = plain.max_pool_padded(x, window=3, stride=2 if stage <= 3 else 1, pad=1)
    total = 0
    for number, rate in enumerate(rates, start=1):
        suffix = f"_{number}" if len(rates) > 1 else ""
        y = plain.relu(plain.conv(x, params[f"fc6{suffix}"], pad=rate, rate=rate))
        y = plain.relu(plain.conv(y, params[f"fc7{suffix}"], pad=0))
        total = total + plain.conv(y, params[f"fc8{suffix}"], pad=0)
    return total


def released_resnet(variables, x):
    """DEEPLABV2-RESNET101/train.prototxt at one scale, with one unit a block; the scores."""
    params, statistics = variables["params"], variables["batch_stats"]

    def conv_norm(x, *path, **geometry):
        conv, norm = params["backbone"], statistics["backbone"]
        for name in path:
            conv, norm = conv[name], norm[name]
        x = plain.conv(x, conv["conv"], **geometry)
        return plain.batch_norm(x, conv["bn"], norm["bn"], epsilon=1e-5)

    x = plain.relu(conv_norm(x, "conv1", pad=3, stride=2))
    x = plain.max_pool_padded(x, window=3, stride=2, pad=1)
    for block, (stride, rate) in enumerate(((1, 1), (2, 1), (1, 2), (1, 4)), start=1):
        unit = f"block{block}_unit1"
        y = plain.relu(conv_norm(x, unit, "conv1", pad=0, stride=stride))
        y = plain.relu(conv_norm(y, unit, "conv2", pad=rate, rate=rate))
        y = conv_norm(y, unit, "conv3", pad=0)
        x = plain.relu(y + conv_norm(x, unit, "shortcut", pad=0, stride=stride))
    return sum(
        plain.conv(x, params[f"fc1_c{i}"], pad=rate, rate=rate)
        for i, rate in enumerate((6, 12, 18, 24))
    )


@pytest.mark.parametrize("rates", [(12,), ASPP_L], ids=["LargeFOV", "ASPP-L"])
def test_vgg_equals_the_released_network(rates, rng):
    model = small(DeepLabV2(rates=rates))
    image = np.float32(rng.normal(size=(41, 65, 3)))
    params = plain.random_params(model, (1, *image.shape), rng)
    scores = released_vgg(params, np.float64(image), rates)
    assert scores.shape == (6, 9, 4)
    out = jax.jit(lambda p, x: model.apply({"params": p}, x, train=False)["out"])(
        params, image[None]
    )[0]
    assert out.dtype == jnp.float32
    plain.assert_close(out[::8, ::8], scores)
    plain.assert_close(out, plain.interp(scores, (41, 65)))


@pytest.mark.slow
def test_resnet_equals_the_released_network(rng):
    """Three scales with shared weights; the largest of their scores counts, class by class."""
    model = SMALL
    image = np.float32(rng.normal(size=(33, 65, 3)))
    variables = plain.random_variables(model, (1, *image.shape), rng)
    out = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image[None])

    x, fused = np.float64(image), []
    for head, shrunk in (("scale1", (33, 65)), ("scale0.75", (25, 49)), ("scale0.5", (17, 33))):
        scores = released_resnet(variables, plain.interp(x, shrunk))
        assert scores.shape == ((shrunk[0] + 7) // 8, (shrunk[1] + 7) // 8, 4)
        if SCALES[head]:
            plain.assert_close(out[head][0, :: SCALES[head], :: SCALES[head]], scores)
        fused.append(plain.interp(scores, (5, 9)))
        plain.assert_close(out[head][0, ::8, ::8], fused[-1])
        assert out[head].dtype == jnp.float32
    fused = np.max(fused, axis=0)
    plain.assert_close(out["out"][0, ::8, ::8], fused)
    plain.assert_close(out["out"][0], plain.interp(fused, (33, 65)))


def shapes(model, height, width):
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)

    def run(key, image):
        variables = model.init(key, image, train=False)
        out = model.apply(variables, image, train=False, capture_intermediates=True)
        return out, variables

    (out, state), variables = jax.eval_shape(run, jax.random.key(0), image)
    return {name: logits.shape for name, logits in out.items()}, state["intermediates"], variables


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (DeepLabV2(rates=(12,)), 20_505_429),
        (DeepLabV2(rates=ASPP_S), 37_877_652),
        (DeepLabV2(rates=ASPP_L), 37_877_652),
        pytest.param(MULTI_SCALE, 44_048_532, marks=pytest.mark.slow),
    ],
    ids=["LargeFOV", "ASPP-S", "ASPP-L", "ResNet-101"],
)
def test_parameter_count(model, count):
    _, _, variables = shapes(model, 321, 321)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count
    running = sum(leaf.size for leaf in jax.tree.leaves(variables.get("batch_stats", {})))
    assert running == (105_344 if model is MULTI_SCALE else 0)


@pytest.mark.slow
def test_sizes_of_the_three_scales():
    """321, 241 and 161 px; 41, 31 and 21 scores. The pool rounds up: 161 -> 81 -> 41 -> 21."""
    out, state, _ = shapes(MULTI_SCALE, 321, 321)
    maps = state["backbone"]["__call__"]
    assert [m["c1"].shape[1] for m in maps] == [161, 121, 81]
    assert [m["c2"].shape[1] for m in maps] == [81, 61, 41]
    assert [m["c5"].shape[1:] for m in maps] == [(41, 41, 2048), (31, 31, 2048), (21, 21, 2048)]
    assert [s.shape[1] for s in state["fc1_c0"]["__call__"]] == [41, 31, 21]
    assert out == dict.fromkeys(("out", *SCALES), (1, 321, 321, 21))


@pytest.mark.slow
def test_frozen_norm_takes_no_gradient_and_keeps_its_averages(rng):
    model = SMALL.clone(scales=(1.0,))
    image = np.float32(rng.normal(size=(1, 33, 33, 3)))
    variables = plain.random_variables(model, image.shape, rng)

    def loss(params):
        state = {**variables, "params": params}
        out, changed = model.apply(state, image, train=True, mutable=["batch_stats"])
        return jnp.sum(out["out"] ** 2), changed["batch_stats"]

    gradient, averages = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    jax.tree.map(np.testing.assert_array_equal, averages, variables["batch_stats"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        frozen = "'bn'" in jax.tree_util.keystr(path)
        assert np.any(leaf) != frozen, path


@pytest.mark.parametrize(
    ("model", "side", "legal"),
    [(DeepLabV2(), 500, "497, 505"), (SMALL, 329, "321, 353"), (SMALL, 2, "1, 33")],
)
def test_illegal_sizes_name_the_nearest_legal_ones(model, side, legal):
    message = f"image width {side} px does not fit .* the nearest that do: {legal}\n"
    with pytest.raises(ValueError, match=message):
        shapes(model, 33, side)
    for size in map(int, legal.split(", ")):
        shapes(model, 33, size)


def test_errors_say_what_to_change():
    with pytest.raises(ValueError, match=r"scales \(0.5,\) must begin with 1"):
        shapes(DeepLabV2(scales=(0.5,)), 33, 33)
    with pytest.raises(ValueError, match=r"rates \(\) must not be empty"):
        shapes(DeepLabV2(rates=()), 33, 33)
    with pytest.raises(ValueError, match=r"rates\[1\] must be positive, got 0"):
        shapes(DeepLabV2(rates=(6, 0)), 33, 33)
    with pytest.raises(ValueError, match="rate 6 .* at 32; give an output_stride"):
        shapes(DeepLabV2(backbone=VGG()), 33, 33)
    assert shapes(DeepLabV2(backbone=VGG16), 33, 33)[0] == {"out": (1, 33, 33, 21)}
