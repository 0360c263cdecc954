"""Google's TensorFlow 1 checkpoints: variables as in the releases, with random numbers; the logits
compared with networks written in torch from the releases. How the files are read is tested in
`pretrained/test_tensorflow.py`, with files that TensorFlow wrote.
"""

import importlib.util
import re
from pathlib import Path

import pytest
import torch_parity as parity

from seg_jax import config
from seg_jax.backbones import mobilenet_v2
from seg_jax.pretrained import catalogue
from seg_jax.pretrained.converters import google

pytest.importorskip("torch_deeplab_v3plus")
# tests/models has a file of this name as well.
_spec = importlib.util.spec_from_file_location(
    "parity_deeplab_v3plus", Path(__file__).with_name("test_deeplab_v3plus.py")
)
written = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(written)
SMALL = (97, 129)
LEAVES = {
    "weight": "BatchNorm/gamma", "bias": "BatchNorm/beta",
    "running_mean": "BatchNorm/moving_mean", "running_var": "BatchNorm/moving_variance",
}  # fmt: skip


def xception_scope(layer):
    """entry_flow_block1_unit1.separable_conv2.pointwise -> the release's name of it."""
    unit, _, part = layer.partition(".")
    if not part:
        return "xception_65/entry_flow/" + unit.removeprefix("entry_flow_")
    flow, block, number = re.fullmatch(r"(\w+_flow)_(block\d)_unit(\d+)", unit).groups()
    place = f"xception_65/{flow}/{block}/unit_{number}/xception_module"
    return f"{place}/{part.replace('.', '_')}"


def resnet_scope(layer):
    unit, _, part = layer.partition(".")
    if not part:
        return f"resnet_v1_101/{unit}"
    block, number = re.fullmatch(r"(block\d)_unit(\d+)", unit).groups()
    return f"resnet_v1_101/{block}/unit_{number}/bottleneck_v1/{part}"


def checkpoint(state, backbone_scope):
    """A torch state dict as the variables of the release's checkpoint."""
    tensors = {"global_step": 30000}
    for name, tensor in state.items():
        layer, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        block, _, kind = layer.rpartition(".")
        if layer == "logits":
            block, kind = "logits/semantic", "conv"
        elif block.startswith("backbone."):
            block = backbone_scope(block.removeprefix("backbone."))
        elif block.startswith("aspp."):
            block = block.removeprefix("aspp.").replace(".", "_")
        else:
            decoder, _, part = block.partition(".")
            block = f"{decoder}/{part.replace('.', '_')}"
        if kind == "bn":
            tensors[f"{block}/{LEAVES[leaf]}"] = tensor
        elif leaf == "bias":
            tensors[f"{block}/biases"] = tensor
        elif tensor.shape[1] == 1 and block.endswith("depthwise"):
            tensors[f"{block}/depthwise_weights"] = tensor.transpose(2, 3, 0, 1)
        else:
            tensors[f"{block}/weights"] = tensor.transpose(2, 3, 1, 0)
    return tensors


def check(module, model, tensors, depth):
    variables = google.from_checkpoint(model, tensors, depth=depth)
    assert parity.evaluation_error(module, model, variables, SMALL) < 1e-4


def test_xception(width=1 / 8):
    module, model = written.xception(middle=2, width=width)
    parity.randomise(module)
    tensors = checkpoint(parity.state_of(module), xception_scope)
    assert "decoder/decoder_conv0_depthwise/depthwise_weights" in tensors
    check(module, model, tensors, 65)


def test_resnet_beta():
    module, model = written.resnet(stem="3x3", width=1 / 8)
    parity.randomise(module)
    check(module, model, checkpoint(parity.state_of(module), resnet_scope), 101)


def test_mobilenet():
    """The backbone's layers have torchvision's names in torch: features.2.conv.1.0 and so on."""
    module, model = written.mobilenet()
    parity.randomise(module)
    units = [f"expanded_conv_{i}".removesuffix("_0") for i in range(17)]
    parts = [f"{unit}/{part}" for unit in units for part in ("expand", "depthwise", "project")]
    theirs = {}
    for part in ["conv", *parts]:
        for kind in ("conv", "bn"):
            name = mobilenet_v2.torchvision_layer(f"{part}/{kind}")
            scope = "MobilenetV2/Conv" if part == "conv" else f"MobilenetV2/{part}"
            theirs[name] = f"{scope}.{kind}"
    state = {}
    for name, tensor in parity.state_of(module).items():
        layer, _, leaf = name.rpartition(".")
        if layer.startswith("backbone."):
            layer = f"backbone.{theirs[layer.removeprefix('backbone.')]}"
        state[f"{layer}.{leaf}"] = tensor
    check(module, model, checkpoint(state, lambda scope: scope), 0)


def test_the_catalogue_s_networks_are_these():
    """Same fields but for width and units, so that what was compared is what is imported."""
    for name, build in (
        ("google_deeplabv3plus_xception65_voc_trainaug", written.xception),
        ("google_deeplabv3_mobilenetv2_voc_trainaug", written.mobilenet),
    ):
        _, model = build()
        momentum = {"momentum": 0.9}
        plain = config.replace_everywhere(
            catalogue.get(name).experiment().model,
            lambda node, momentum=momentum: momentum if "momentum" in config.fields(node) else {},
        )
        differing = config.difference(plain, model)
        same = {"aspp.dropout", "backbone.norm.epsilon", "backbone.middle_units"}  # None: 16
        assert set(differing) <= same, differing
