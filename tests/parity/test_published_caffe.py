"""The authors' Caffe weights: files in their format, with random numbers, the layers named as in
the released prototxt files; logits compared with networks written from those in torch.
"""

import numpy as np
import pytest
import torch_parity as parity
from caffe_writer import caffemodel

from seg_jax import config
from seg_jax.pretrained import catalogue
from seg_jax.pretrained.formats import caffe

torch_caffe = pytest.importorskip("torch_caffe")
torch_first = pytest.importorskip("torch_first")
torch_networks = pytest.importorskip("torch_networks")
SMALL, LEGAL, WIDTH = (97, 129), (65, 97), 8


def check(tmp_path, name, module, blobs, size, *, width=WIDTH, old=False, **fields):
    """Write blobs {"<layer>.<index>": array}, import them into a thin network, compare logits."""
    layers = {}
    for key, blob in blobs.items():
        layers.setdefault(key.rpartition(".")[0], []).append(np.asarray(blob))
    entry = catalogue.get(name)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffemodel(layers, old=old))
    model = entry.experiment().model.clone(**fields)
    model = config.replace_everywhere(
        model, lambda node: {"width": 1 / width} if "width" in config.fields(node) else {}
    )
    variables = entry.convert(model, caffe.read(path))
    error = parity.evaluation_error(module, model, variables, size)
    assert error < 1e-4, f"{name}: relative error {error:.2g}"


def conv_blobs(module, rename=lambda name: name):
    """{"layers.backbone-conv1_1.weight": ...} -> {"conv1_1.0": ...}."""
    index = {"weight": 0, "bias": 1}
    return {
        f"{rename(name.split('.')[1].removeprefix('backbone-'))}.{index[name.split('.')[2]]}": blob
        for name, blob in parity.state_of(module).items()
    }


@pytest.mark.parametrize(
    ("variant", "skips", "upsampling"),
    [
        ("32s", 0, {"upscore": 64}),
        ("16s", 1, {"upscore2": 4, "upscore16": 32}),
        ("8s", 2, {"upscore2": 4, "upscore_pool4": 4, "upscore8": 16}),
    ],
)
def test_fcn(tmp_path, variant, skips, upsampling):
    module = parity.randomise(torch_first.FCN(21, skips, WIDTH))
    blobs = conv_blobs(module)
    for layer, size in upsampling.items():
        ramp = 1 - abs(np.arange(size) - size / 2 + 0.5) / (size / 2)
        blobs[f"{layer}.0"] = np.eye(21)[:, :, None, None] * np.outer(ramp, ramp)
    check(tmp_path, f"berkeley_fcn{variant}_heavy_pascal", module, blobs, SMALL)


def with_experiment(layer):
    """fc8 -> fc8_voc12, fc8_2 -> fc8_voc12_2, fc1_c0 -> fc1_voc12_c0."""
    for last in ("fc8", "fc1"):
        if layer.startswith(last):
            return layer.replace(last, f"{last}_voc12")
    return layer


@pytest.mark.parametrize(
    ("name", "build", "fields"),
    [
        ("ucla_deeplab_v1_vgg16_voc", "DeepLabV1", {"kernel": 4, "rate": 4, "fc": 4096}),
        ("ucla_deeplab_v1_largefov_voc", "DeepLabV1", {}),
        ("ucla_deeplab_v2_vgg16_voc", "DeepLabV2VGG", {}),
    ],
)
def test_deeplab_on_vgg(tmp_path, name, build, fields):
    module = parity.randomise(getattr(torch_caffe, build)(21, width=WIDTH, **fields))
    size = (66, 98) if fields else LEGAL
    check(tmp_path, name, module, conv_blobs(module, with_experiment), size, old=True)


def msra(layer):
    """block3_unit2-conv1 -> 4b1_branch2a."""
    unit, _, part = layer.partition("-")
    if unit == "conv1":
        return "_conv1"
    block, number = (int(n) for n in unit.removeprefix("block").split("_unit"))
    letters = {1: "abc", 4: "abc"}.get(block)
    place = letters[number - 1] if letters else ("a" if number == 1 else f"b{number - 1}")
    branch = {"conv1": "2a", "conv2": "2b", "conv3": "2c", "shortcut": "1"}[part]
    return f"{block + 1}{place}_branch{branch}"


def test_deeplab_on_resnet(tmp_path):
    """Batch norms as sums over 999.98 updates; the other scales' copies of the layers as well."""
    module = parity.randomise(torch_caffe.DeepLabV2ResNet(21, width=WIDTH))
    state, blobs = parity.state_of(module), {}
    for name, tensor in state.items():
        _, layer, leaf = name.split(".")
        if layer.startswith("fc1"):
            index = {"weight": 0, "bias": 1}[leaf]
            blobs[f"{with_experiment(layer)}.{index}"] = tensor
            blobs[f"{with_experiment(layer)}_res075.{index}"] = tensor
            continue
        unit, _, kind = layer.removeprefix("backbone-").rpartition("-")
        place = msra(unit)
        if kind == "conv":
            blobs["conv1.0" if place == "_conv1" else f"res{place}.0"] = tensor
        elif leaf in ("weight", "bias"):
            blobs[f"scale{place}.{('weight', 'bias').index(leaf)}"] = tensor
        elif leaf != "num_batches_tracked":
            blobs[f"bn{place}.{('running_mean', 'running_var').index(leaf)}"] = tensor * 999.98
            blobs[f"bn{place}.2"] = np.float32([999.98])
    order = sorted(blobs, key=lambda name: name.rpartition("."))  # blobs of a layer by their index
    check(tmp_path, "ucla_deeplab_v2_resnet101_voc", module, {n: blobs[n] for n in order}, LEGAL)


@pytest.mark.parametrize(
    ("name", "build"),
    [("cambridge_segnet_voc", "SegNet"), ("cambridge_segnet_basic_camvid", "SegNetBasic")],
)
def test_segnet(tmp_path, name, build):
    """With the statistics folded in, as compute_bn_statistics.py leaves them."""
    classes = 21 if build == "SegNet" else 11
    module = parity.randomise(getattr(torch_caffe, build)(classes, width=WIDTH))
    state = parity.state_of(module)
    blobs = {}
    for key, tensor in state.items():
        layer, leaf = key.split(".")[1:]
        if not layer.endswith("_bn"):
            blobs[f"{layer}.{('weight', 'bias').index(leaf)}"] = tensor
        elif leaf == "weight":
            norm = key.removesuffix(".weight")
            mean, var = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
            scale = tensor / np.sqrt(var + 1e-9)
            blobs[f"{layer}.0"] = scale.reshape(1, -1, 1, 1)
            blobs[f"{layer}.1"] = (state[f"{norm}.bias"] - scale * mean).reshape(1, -1, 1, 1)
    check(tmp_path, name, module.eval(), blobs, (64, 96), old=True)


def pspnet_layer(name):
    """semseg's layer0.4 -> conv1_2_3x3/bn and so on, as in pspnet101_VOC2012_473.prototxt."""
    parts = name.split(".")
    if parts[0] == "layer0":
        stem = ("conv1_1_3x3_s2", "conv1_2_3x3", "conv1_3_3x3")[int(parts[1]) // 3]
        return stem + ("/bn" if int(parts[1]) % 3 else "")
    if parts[0].startswith("layer"):
        kinds = {"1": "1x1_reduce", "2": "3x3", "3": "1x1_increase"}
        unit = f"conv{int(parts[0][-1]) + 1}_{int(parts[1]) + 1}"
        if parts[2] == "downsample":
            return f"{unit}_1x1_proj" + ("/bn" if parts[3] == "1" else "")
        return f"{unit}_{kinds[parts[2][-1]]}" + ("/bn" if parts[2].startswith("bn") else "")
    if parts[0] == "ppm":
        bins = (1, 2, 3, 6)[int(parts[2])]
        return f"conv5_3_pool{bins}_conv" + ("/bn" if parts[3] == "2" else "")
    return {"0": "conv5_4", "1": "conv5_4/bn", "4": "conv6"}[parts[1]]


def test_pspnet(tmp_path):
    module = parity.randomise(torch_networks.PSPNet((3, 4, 23, 3), 1 / WIDTH))
    blobs = {}
    for name, tensor in parity.state_of(module).items():
        layer, _, leaf = name.rpartition(".")
        if layer.startswith("aux") or leaf == "num_batches_tracked":
            continue
        place = pspnet_layer(layer)
        leaves = ("weight", "bias", "running_mean", "running_var")
        blobs[f"{place}.{leaves.index(leaf)}"] = tensor
    kernel = blobs["conv5_4.0"]  # semseg concatenates bins 1, 2, 3, 6, the release 6, 3, 2, 1
    half, quarter = kernel.shape[1] // 2, kernel.shape[1] // 8
    starts = [half + quarter * i for i in (3, 2, 1, 0)]
    parts = [kernel[:, :half], *(kernel[:, s : s + quarter] for s in starts)]
    blobs["conv5_4.0"] = np.concatenate(parts, axis=1)
    check(tmp_path, "hszhao_pspnet101_voc2012", module, blobs, LEGAL)
