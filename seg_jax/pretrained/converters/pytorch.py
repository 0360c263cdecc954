"""Convert state dicts of PyTorch re-implementations: names and layouts of their tensors.

Converters for torchvision's and semseg's networks are beside the models: `from_torchvision` and
`from_semseg`.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from seg_jax import checks
from seg_jax.backbones import resnet, vgg
from seg_jax.models import deeplab_v3
from seg_jax.nn import torch_state
from seg_jax.nn.resize import bilinear_kernel

State = Mapping[str, Any]


def from_wkentaro(model: Any, state: State) -> dict[str, Any]:
    """Return the variables of an FCN from wkentaro/pytorch-fcn (FCN32s, 16s, 8s, 8sAtOnce).

    Raises:
      UserError: the weights do not fit, or the upsampling is not fixed bilinear.
    """
    check_bilinear({name: np.asarray(t) for name, t in state.items() if name.startswith("upscore")})
    return torch_state.import_state(
        model, state, lambda module: module.removeprefix("backbone/"), ignore=r"upscore.*\.weight"
    )


def check_bilinear(kernels: Mapping[str, np.ndarray]) -> None:
    """Raise UserError unless every kernel [k k' s s] is the bilinear filter of each channel.

    Fixed upsampling has no parameters here.
    """
    for name, kernel in kernels.items():
        channels, size = kernel.shape[0], kernel.shape[-1]
        fixed = np.eye(channels)[:, :, None, None] * bilinear_kernel(size)
        if kernel.shape != fixed.shape or not np.allclose(kernel, fixed, atol=1e-6):
            raise checks.UserError(
                f"{name} is not the fixed bilinear upsampling of the released FCNs: use a network "
                'with upsampling="learned"'
            )


def from_kazuto1011(model: Any, state: State) -> dict[str, Any]:
    """Return the variables of DeepLab v2 on ResNet-101 from kazuto1011/deeplab-pytorch.

    Raises:
      UserError: the weights do not fit; all mismatches are listed.
    """
    state = {name.removeprefix("base."): tensor for name, tensor in state.items()}
    return torch_state.import_state(model, state, _kazuto1011_layer)


_REDUCE = {"conv1": "reduce", "conv2": "conv3x3", "conv3": "increase", "shortcut": "shortcut"}


def _kazuto1011_layer(module: str) -> str | None:
    if match := re.fullmatch(r"fc1_c(\d)", module):
        return f"aspp.c{match[1]}"
    if match := re.fullmatch(r"backbone/conv1/(conv|bn)", module):
        return f"layer1.conv1.{match[1]}"
    if match := re.fullmatch(r"backbone/block(\d)_unit(\d+)/(\w+)/(conv|bn)", module):
        block, unit, part, kind = match.groups()
        return f"layer{int(block) + 1}.block{unit}.{_REDUCE[part]}.{kind}"
    return None


def from_vainf(model: Any, state: State) -> dict[str, Any]:
    """Return the variables of DeepLab v3 or v3+ on a ResNet from VainF/DeepLabV3Plus-Pytorch.

    Raises:
      UserError: the weights do not fit; all mismatches are listed.
    """
    if hasattr(model, "decoder"):
        aspp, layer = "classifier.aspp.", _vainf_plus_layer
        refine = "classifier.classifier.0.weight"
        if refine in state:  # its input: [low level 48, encoder 256]; here the encoder is first
            state = {**state, refine: np.roll(np.asarray(state[refine]), -48, axis=1)}
    else:
        state = {
            name.replace("classifier.classifier.", "classifier."): t for name, t in state.items()
        }
        aspp, layer = "classifier.0.", deeplab_v3.torchvision_layer
    state = deeplab_v3.with_image_pooling_first(state, f"{aspp}project.0.weight")
    return torch_state.import_state(model, state, layer)


def _vainf_plus_layer(module: str) -> str | None:
    if module == "logits":
        return "classifier.classifier.3"
    if match := re.fullmatch(r"decoder/(\w+)/(conv|bn)", module):
        sequence = {"feature_projection0": "project", "decoder_conv0": "classifier"}
        part = sequence.get(match[1])
        return part and f"classifier.{part}.{int(match[2] == 'bn')}"
    found = deeplab_v3.torchvision_layer(module)
    return found and found.replace("classifier.0.", "classifier.aspp.")


def vgg16_from_torchvision(_: Any, state: State, *, width: float = 1.0) -> dict[str, Any]:
    """Return VGG-16's backbone, and fc6 and fc7 as convolutions.

    Args:
      state: of torchvision's vgg16, whose fc6 reads the flattened pool5 [512 7 7].
      width: factor on the channel counts.

    Raises:
      UserError: the weights do not fit; all mismatches are listed.
    """
    backbone = vgg.from_torchvision(vgg.VGG(width=width), state)["params"]
    return {
        "params": {"backbone": backbone} | _fully_connected(state, "classifier.0", "classifier.3")
    }


def _fully_connected(state: State, fc6: str, fc7: str) -> dict[str, Any]:
    missing = [name for name in (fc6, fc7) if f"{name}.weight" not in state]
    if missing:
        raise checks.UserError(f"these are not weights of VGG-16: {missing[0]}.weight is missing")
    first, second = (np.asarray(state[f"{name}.weight"]) for name in (fc6, fc7))
    return {
        "fc6": {
            "kernel": first.reshape(len(first), -1, 7, 7).transpose(2, 3, 1, 0),
            "bias": np.asarray(state[f"{fc6}.bias"]),
        },
        "fc7": {
            "kernel": second.T[None, None],
            "bias": np.asarray(state[f"{fc7}.bias"]),
        },
    }


def resnet_from_torchvision(depth: resnet.Depth):
    """Return the converter of torchvision's resnet50, 101 or 152 to a backbone."""

    def convert(_: Any, state: State) -> dict[str, Any]:
        variables = resnet.from_torchvision(resnet.ResNet(depth), state)
        return {collection: {"backbone": tree} for collection, tree in variables.items()}

    return convert
