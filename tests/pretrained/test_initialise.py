"""Starting from published weights: what is taken, adapted, new and skipped; nothing unaccounted."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from small_task import small_experiment

from seg_jax import experiment
from seg_jax.backbones.vgg import VGG
from seg_jax.checks import UserError
from seg_jax.data.preprocessing import DEEPLAB_CAFFE, TF_SYMMETRIC, TORCH, Preprocessing
from seg_jax.models.deeplab_v1 import DeepLabV1
from seg_jax.models.deeplab_v2 import DeepLabV2
from seg_jax.models.fcn import FCN
from seg_jax.models.segnet import SegNet
from seg_jax.nn.blocks import ConvNorm
from seg_jax.pretrained import initialise, warm_start
from seg_jax.pretrained.converters import pytorch

THIN = 1 / 16  # VGG's 64..512 channels become 4..32, fc6's 4096 become 256


@functools.cache
def vgg16():
    """A thin VGG-16 as torchvision lays it out: fc6 reads pool5 [32 7 7] as one row."""
    rng = np.random.default_rng(0)
    state, channels, position = {}, 3, 0
    for depth, width in ((2, 4), (2, 8), (3, 16), (3, 32), (3, 32)):
        for _ in range(depth):
            state[f"features.{position}.weight"] = (width, channels, 3, 3)
            state[f"features.{position}.bias"] = (width,)
            channels, position = width, position + 2
        position += 1
    for name, size in (("0", (256, 32 * 49)), ("3", (256, 256)), ("6", (10, 256))):
        state[f"classifier.{name}.weight"] = size
        state[f"classifier.{name}.bias"] = size[:1]
    return {name: np.float32(rng.normal(size=size)) for name, size in state.items()}


def source(trained=DEEPLAB_CAFFE):
    variables = pytorch.vgg16_from_torchvision(None, vgg16(), width=THIN)
    return initialise.Source("vgg16", variables, trained, "classifier.6")


@functools.cache
def fresh(model, side=65):
    """What stands for initialised variables: zeros in the last layers, as FCN's, else numbers."""
    image = np.zeros((1, side, side, 3), np.float32)
    shapes = jax.eval_shape(lambda key: model.init(key, image, train=False), jax.random.key(0))
    rng = np.random.default_rng(3)

    def draw(path, leaf):
        zero = "score_" in jax.tree_util.keystr(path)
        return np.zeros(leaf.shape, np.float32) if zero else np.float32(rng.random(leaf.shape))

    return jax.tree.map_with_path(draw, shapes)


def thin(model, **fields):
    backbone = dataclasses.replace(model.backbone, width=THIN, parent=None)
    return model.clone(backbone=backbone, width=THIN, **fields)


def start(model, trained=DEEPLAB_CAFFE, **options):
    variables = fresh(model)
    return initialise.initialise(variables, source(trained), preprocessing=DEEPLAB_CAFFE, **options)


def test_fully_connected_layers_become_convolutions():
    """FCN's fc6 on one 7x7 window of pool5 is torchvision's on that window in a row."""
    variables, report = start(thin(FCN(backbone=VGG(conv1_1_padding=100))))
    window = np.random.default_rng(1).normal(size=(7, 7, 32)).astype(np.float32)
    kernel = variables["params"]["fc6"]["kernel"]
    actual = np.einsum("hwc,hwco->o", window, kernel) + variables["params"]["fc6"]["bias"]
    row = window.transpose(2, 0, 1).ravel()  # torch flattens channels first
    state = vgg16()
    expected = state["classifier.0.weight"] @ row + state["classifier.0.bias"]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(
        variables["params"]["fc7"]["kernel"][0, 0], state["classifier.3.weight"].T
    )
    assert report.headline == (
        "init from vgg16: 15 layers loaded, 0 adapted, 3 new; "
        "skipped of the weights: classifier.6 (classifier)"
    )
    assert len(report.lines()) == 1 + 18 and len(report.exceptions()) == 1 + 3
    assert any(
        line.split() == ["score_fr", "new", "(not", "there)"] for line in report.exceptions()
    )
    assert not variables["params"]["score_fr"]["kernel"].any()  # its own initialisation


def decimated(weight, taps, channels):
    """Every third tap (or second) and every fourth output, by loops."""
    out, step = {}, {3: 3, 4: 2}[taps]
    for o in range(channels):
        for i in range(taps):
            for j in range(taps):
                out[i, j, o] = weight[
                    4096 // 1024 * o if channels == 64 else o, :, step * i, step * j
                ]
    return out


@pytest.mark.parametrize(
    ("model", "layer", "taps", "channels"),
    [
        (DeepLabV1(), "fc6", 3, 64),  # LargeFOV
        (DeepLabV1(fc6_kernel=4, fc6_rate=8, fc_channels=4096, pool5a="none"), "fc6", 4, 256),
        (DeepLabV2(), "fc6_3", 3, 64),  # ASPP's third branch
    ],
)
def test_fc6_is_decimated(model, layer, taps, channels):
    """DeepLab v1, section 3.2; LargeFOV's channels as in its authors' reduced VGG-16."""
    variables, report = start(thin(model))
    kernel = variables["params"][layer]["kernel"]
    assert kernel.shape == (taps, taps, 32, channels)
    weight = vgg16()["classifier.0.weight"].reshape(256, 32, 7, 7)
    for (i, j, o), expected in decimated(weight, taps, channels).items():
        np.testing.assert_array_equal(kernel[i, j, :, o], expected)
    (line,) = [line.split() for line in report.lines() if line.split()[0] == layer]
    assert line[1:6] == ["adapted:", "bias", "256", "->", "64,"] or channels == 256
    assert f"7x7x32x256 -> {taps}x{taps}x32x{channels}" in " ".join(line)


def test_segnet_s_encoder_is_vgg():
    model = SegNet(width=THIN)
    variables = fresh(model, 64)
    found, report = initialise.initialise(variables, source(), preprocessing=DEEPLAB_CAFFE)
    expected = vgg16()["features.28.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(found["params"]["conv5_3"]["kernel"], expected)
    assert "skipped of the weights: classifier.6 (classifier), fc6, fc7" in report.headline
    np.testing.assert_array_equal(
        found["params"]["conv5_3_D"]["kernel"], variables["params"]["conv5_3_D"]["kernel"]
    )


def test_a_layer_that_does_not_fit_is_an_error_unless_it_is_allowed():
    model = thin(FCN(backbone=VGG(conv1_1_padding=100))).clone(width=1 / 24)
    with pytest.raises(UserError) as caught:
        start(model)
    assert str(caught.value) == (
        "vgg16 does not fit this network; 2 layers: fc6 (bias is (256,) there, (171,) here); fc7 "
        "(bias is (256,) there, (171,) here). Layers that may differ are allowed with "
        "--train.init-allow, a regular expression for their names"
    )
    _, report = start(model, allow="fc[67]")
    assert report.headline.startswith("init from vgg16: 13 layers loaded, 0 adapted, 5 new;")


def test_weights_of_a_whole_network_must_fit_whole():
    """No layer of a segmentation network is new by itself: another number of classes says so."""
    model = thin(FCN(num_classes=5, backbone=VGG(conv1_1_padding=100)))
    other = initialise.Source("other", fresh(model.clone(num_classes=3)), DEEPLAB_CAFFE)
    with pytest.raises(UserError, match=r"score_fr \(bias is \(3,\) there, \(5,\) here\)"):
        initialise.initialise(fresh(model), other, preprocessing=DEEPLAB_CAFFE)
    found, report = initialise.initialise(
        fresh(model), other, preprocessing=DEEPLAB_CAFFE, allow="score_.*"
    )
    assert (
        "15 layers loaded, 0 adapted, 3 new; skipped of the weights: score_fr," in report.headline
    )


@pytest.mark.parametrize("seen", [DEEPLAB_CAFFE, TF_SYMMETRIC])
@pytest.mark.parametrize("norm", [False, True])
def test_inputs_are_rescaled(rng, seen, norm):
    """The first convolution says the same of the same pixels, however they are prepared."""
    model = ConvNorm(4, 3, padding=0, activation="none") if norm else VGG(width=THIN).clone()
    pixels = rng.integers(0, 256, (1, 9, 9, 3)).astype(np.uint8)
    draw = lambda *size: rng.uniform(0.5, 1.5, size).astype(np.float32)  # noqa: E731
    if norm:
        variables = {
            "params": {
                "conv": {"kernel": draw(3, 3, 3, 4)},
                "bn": {"scale": draw(4), "bias": draw(4)},
            },
            "batch_stats": {"bn": {"mean": draw(4), "var": draw(4)}},
        }
    else:
        variables = {"params": {"conv": {"kernel": draw(3, 3, 3, 4), "bias": draw(4)}}}
    variables = {key: {"stem": tree} for key, tree in variables.items()}
    moved, report = initialise.initialise(
        variables, initialise.Source("net", variables, TORCH), preprocessing=seen
    )
    assert all(line.endswith("for these inputs") for line in report.lines()[1:])

    def apply(tree, x):
        if norm:
            return model.apply({k: t["stem"] for k, t in tree.items()}, x, train=False)
        conv = tree["params"]["stem"]["conv"]
        windows = np.lib.stride_tricks.sliding_window_view(x[0], (3, 3), (0, 1))
        return np.einsum("hwcij,ijco->hwo", windows, conv["kernel"]) + conv["bias"]

    np.testing.assert_allclose(
        apply(moved, seen(pixels)), apply(variables, TORCH(pixels)), rtol=1e-4, atol=1e-4
    )


def test_same_inputs_change_nothing():
    variables = fresh(VGG(width=THIN))
    same = Preprocessing(mean=TORCH.mean, std=TORCH.std)
    found, report = initialise.initialise(
        variables, initialise.Source("net", variables, TORCH), preprocessing=same
    )
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    assert all(line.endswith(" loaded") for line in report.lines()[1:])


def test_init_names_what_there_is(tmp_path):
    task = small_experiment()
    task = dataclasses.replace(task, train=dataclasses.replace(task.train, init="nowhere"))
    with pytest.raises(UserError, match="no run in nowhere and .*, and no published weights"):
        warm_start.start({}, task, tmp_path / "run")


def with_crop(task, side):
    augmentation = dataclasses.replace(task.data.augmentation, crop=(side, side))
    return dataclasses.replace(task, data=dataclasses.replace(task.data, augmentation=augmentation))


@pytest.mark.parametrize(
    ("name", "loaded"),
    [("deeplab_v3plus_mobilenetv2_voc", 102), ("deeplab_v3plus_mobilenetv2_voc_dm05", None)],
)
def test_google_s_mobilenet_starts_a_training(test_data, tmp_path, name, loaded):
    """With the real file: every layer of the backbone, and only those."""
    file = test_data / "weights/mobilenet_v2_imagenet_uint8/mobilenet_v2_1.0_224_quant.tflite"
    task = experiment.get(name)
    task = dataclasses.replace(task, train=dataclasses.replace(task.train, init=str(file)))
    variables = fresh(task.model)
    if loaded is None:  # half of the channels
        with pytest.raises(UserError, match="google_mobilenetv2_imagenet_uint8 does not fit"):
            warm_start.start(variables, task, tmp_path)
        return
    # A few flat images are enough here: test_folded has the statistics.
    flat = lambda: iter([np.full((128, 33, 33, 3), 99, np.uint8)])  # noqa: E731
    task = with_crop(task, 33)
    found, report, log, complete = warm_start.start(variables, task, tmp_path, images=flat)
    assert not complete and len(log["layers"]) >= loaded + 7 > len(report)
    assert log["pretraining"].endswith("statistics of 51 folded norms estimated on 128 images)")
    assert report[0] == (
        f"init from google_mobilenetv2_imagenet_uint8: {loaded} layers loaded, 0 adapted, 7 new; "
        "skipped of the weights: MobilenetV2/Conv_1, MobilenetV2/Logits (classifier)"
    )
    new = [line.split()[0] for line in report if " new (" in line]
    assert {layer.partition("/")[0] for layer in new} == {"aspp", "logits"}
    same = jax.tree.map(np.array_equal, found["params"], variables["params"])
    assert not any(jax.tree.leaves(same["backbone"])) and all(jax.tree.leaves(same["aspp"]))
