"""Convert the authors' Caffe weights: names and layouts of their layers.

Blobs are named "<layer>.<index>", see `formats.caffe`. A convolution's blob 0 is the kernel [out in
h w], blob 1 the bias. Channels stay B, G, R: the experiments' preprocessing has the same order.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from seg_jax import checks
from seg_jax.backbones.vgg import VGG
from seg_jax.nn.import_tensors import import_tensors
from seg_jax.pretrained.converters.pytorch import check_bilinear

Blobs = Mapping[str, np.ndarray]
Layer = Callable[[str], str | None]
_CONV = {"kernel": 0, "bias": 1}


def _import(
    model: Any, blobs: Blobs, layer: Layer, norm: Callable | None = None, ignore: str = ""
) -> dict[str, Any]:
    """Return a model's variables; `norm` maps a layer and a norm's leaf to a blob or constant."""

    def find(collection: str, module: str, leaf: str) -> Any:
        name = layer(module)
        if name is None:
            return None
        is_norm = leaf in ("scale", "mean", "var") or re.search(r"(/bn|_bn)$", module)
        return norm(name, leaf) if is_norm and norm else f"{name}.{_CONV[leaf]}"

    return import_tensors(model, blobs, find, _to_flax, ignore=ignore)


def _to_flax(leaf: str, blob: np.ndarray) -> np.ndarray:
    return blob.transpose(2, 3, 1, 0) if leaf.endswith("/kernel") else blob.ravel()


def from_fcn(model: Any, blobs: Blobs) -> dict[str, Any]:
    """Return the variables of an FCN from the authors' release (fcn32s to fcn8s-atonce).

    Its upsampling layers hold the fixed bilinear filter, and fcn8s-atonce's scaling layers a
    constant. Both are checked, because they are not parameters here.

    Raises:
      UserError: the weights do not fit; all mismatches are listed.
    """
    check_bilinear({name: blob for name, blob in blobs.items() if name.startswith("upscore")})
    for pool in ("pool3", "pool4"):
        scale = blobs.get(f"scale_{pool}.0")
        expected = getattr(model, f"{pool}_scale")
        if scale is not None and not np.allclose(scale, expected):
            raise checks.UserError(f"scale_{pool} is {scale.flat[0]:g}, the network's {expected:g}")
    ignore = r"upscore\w*\.0|scale_pool\d\.0"
    return _import(model, blobs, lambda module: module.removeprefix("backbone/"), ignore=ignore)


def from_deeplab_vgg(model: Any, blobs: Blobs) -> dict[str, Any]:
    """Return the variables of DeepLab v1 or v2 on VGG-16 from the authors' releases.

    Names of the last layers contain the experiment: fc8_voc12 is fc8, fc8_voc12_1 is fc8_1.

    Raises:
      UserError: the weights do not fit; all mismatches are listed.
    """
    names = _without_experiment(blobs)
    return _import(model, blobs, lambda module: names.get(module.removeprefix("backbone/")))


def _without_experiment(blobs: Blobs) -> dict[str, str]:
    """Map names without the experiment to the release's layers: "fc1_c0" to "fc1_voc12_c0"."""
    layers = {name.rpartition(".")[0] for name in blobs}
    return {re.sub(r"^(fc[18])_voc\d*(?=_|$)", r"\1", layer): layer for layer in layers}


def from_deeplab_v2_resnet(model: Any, blobs: Blobs) -> dict[str, Any]:
    """Return the variables of DeepLab v2 on ResNet-101 from the authors' release.

    The release holds the network three times, once per scale, with the same weights. A batch norm
    is two layers: BatchNorm, with sums of means and variances and their divisor, and Scale.

    Raises:
      UserError: the weights do not fit; all mismatches are listed.
    """
    blobs = {k: v for k, v in blobs.items() if not re.search(r"_res0(75|5)", k)}
    divided = dict(blobs)
    for name in [name for name in blobs if re.fullmatch(r"bn\w+\.2", name)]:
        factor = float(divided.pop(name).ravel()[0]) or 1.0
        for index in (0, 1):
            statistic = name.replace(".2", f".{index}")
            divided[statistic] = blobs[statistic] / np.float32(factor)
    names = _without_experiment(divided)

    def layer(module: str) -> str | None:
        if module.startswith("fc1"):
            return names.get(module)
        unit, _, kind = module.removeprefix("backbone/").rpartition("/")
        found = _msra_unit(unit)
        return found if kind == "conv" else f"norm:{found}"

    def norm(name: str, leaf: str) -> str:
        place = name.removeprefix("norm:").removeprefix("res")
        stem = "_" if place.startswith("conv") else ""
        index = {"mean": 0, "var": 1, "scale": 0, "bias": 1}[leaf]
        return f"{'bn' if leaf in ('mean', 'var') else 'scale'}{stem}{place}.{index}"

    return _import(model, divided, layer, norm)


_BRANCHES = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}


def _msra_unit(unit: str) -> str:
    """Return res4b1_branch2a for block3_unit2/conv1: blocks 2 and 3 name units a, b1, b2, ..."""
    match = re.fullmatch(r"block(\d)_unit(\d+)/(\w+)", unit)
    if not match:
        return unit  # conv1
    block, index = int(match[1]), int(match[2])
    letter = "abc"[index - 1] if block in (1, 4) or index == 1 else f"b{index - 1}"
    return f"res{block + 1}{letter}_{_BRANCHES[match[3]]}"


def from_segnet(model: Any, blobs: Blobs) -> dict[str, Any]:
    """Return the variables of SegNet or SegNet-Basic from the authors' release.

    Their batch norm layer stores a scale and a shift, but no statistics. Training uses those of the
    batch; before testing, a script averages them over the training images and folds them into scale
    and shift. Released files are folded ("inference"): y = scale x + shift, here a norm of mean 0
    and variance 1. A file saved during training has the same layout, but scores badly.

    Raises:
      UserError: the weights do not fit; all mismatches are listed.
    """
    constants = {"mean": 0.0, "var": 1.0 - model.norm.epsilon}

    def norm(name: str, leaf: str) -> Any:
        if leaf in constants:
            return np.array(constants[leaf], np.float32)
        return f"{name}.{('scale', 'bias').index(leaf)}"

    return _import(model, blobs, lambda module: module, norm)


def from_pspnet(model: Any, blobs: Blobs) -> dict[str, Any]:
    """Return the variables of a PSPNet without its auxiliary head from the authors' release.

    Raises:
      UserError: the weights do not fit; all mismatches are listed.
    """
    read = "conv5_4.0"  # its input: [conv5_3, bins 6, 3, 2, 1]; here: [conv5_3, bins 1, 2, 3, 6]
    if read in blobs:
        kernel = blobs[read]
        features = kernel.shape[1] // 2
        parts = np.split(kernel[:, features:], 4, axis=1)
        blobs = {**blobs, read: np.concatenate([kernel[:, :features], *parts[::-1]], axis=1)}

    def layer(module: str) -> str | None:
        if module == "out_head/score":
            return "conv6"
        block, _, kind = module.rpartition("/")
        name = _pspnet_block(block)
        return name and (name if kind == "conv" else f"{name}/bn")

    def norm(name: str, leaf: str) -> str:
        return f"{name}.{('scale', 'bias', 'mean', 'var').index(leaf)}"

    return _import(model, blobs, layer, norm)


_STEM = {"conv1_1": "conv1_1_3x3_s2", "conv1_2": "conv1_2_3x3", "conv1_3": "conv1_3_3x3"}
_PSPNET = {
    "conv1": "1x1_reduce", "conv2": "3x3", "conv3": "1x1_increase", "shortcut": "1x1_proj",
}  # fmt: skip


def _pspnet_block(block: str) -> str | None:
    if match := re.fullmatch(r"backbone/block(\d)_unit(\d+)/(\w+)", block):
        return f"conv{int(match[1]) + 1}_{match[2]}_{_PSPNET[match[3]]}"
    if match := re.fullmatch(r"pyramid/bins(\d)", block):
        return f"conv5_3_pool{match[1]}_conv"
    if block == "out_head/conv":
        return "conv5_4"
    return _STEM.get(block.removeprefix("backbone/"))


def vgg16(_: Any, blobs: Blobs, *, width: float = 1.0) -> dict[str, Any]:
    """Return VGG-16's backbone, and fc6 and fc7 as convolutions.

    In Caffe fc6 reads the flattened pool5 [512 7 7], and may be stored as [1 1 4096 25088].
    """
    heads = r"fc[678]\.[01]"
    trunk = {name: blob for name, blob in blobs.items() if not re.fullmatch(heads, name)}
    variables = _import(VGG(width=width), trunk, lambda module: module)
    layers: dict[str, Any] = {"backbone": variables["params"]}
    for name in ("fc6", "fc7"):
        if f"{name}.0" not in blobs or f"{name}.1" not in blobs:
            raise checks.UserError(f"these are not weights of VGG-16: {name} is missing")
        bias = blobs[f"{name}.1"].ravel()
        side = 7 if name == "fc6" else 1
        kernel = blobs[f"{name}.0"].reshape(bias.size, -1, side, side)
        layers[name] = {"kernel": kernel.transpose(2, 3, 1, 0), "bias": bias}
    return {"params": layers}
