"""Convert Google's weights (tensorflow/models, research/deeplab and research/slim).

Modules here are named after the scopes of the released graphs. Checkpoints store a convolution's
`weights` [kh kw cin cout], or `depthwise_weights` [kh kw c m], and the four vectors of its batch
norm; in TensorFlow Lite files the norms are folded into the convolutions.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from seg_jax import checks
from seg_jax.nn.import_tensors import import_tensors
from seg_jax.pretrained.formats.tflite import Graph

_SCOPES = (
    (r"backbone/conv", r"MobilenetV2/Conv"),
    (r"backbone/(expanded_conv(?:_\d+)?/(?:expand|depthwise|project))", r"MobilenetV2/\1"),
    (r"backbone/entry_flow_(conv1_\d)", r"xception_{depth}/entry_flow/\1"),
    (
        r"backbone/(entry|middle|exit)_flow_block(\d)_unit(\d+)/separable_conv(\d)/(\w+)",
        r"xception_{depth}/\1_flow/block\2/unit_\3/xception_module/separable_conv\4_\5",
    ),
    (
        r"backbone/(entry|middle|exit)_flow_block(\d)_unit(\d+)/shortcut",
        r"xception_{depth}/\1_flow/block\2/unit_\3/xception_module/shortcut",
    ),
    (r"backbone/(conv1(?:_\d)?)", r"resnet_v1_{depth}/\1"),
    (
        r"backbone/block(\d)_unit(\d+)/(\w+)",
        r"resnet_v1_{depth}/block\1/unit_\2/bottleneck_v1/\3",
    ),
    (r"aspp/(aspp\d)/(depthwise|pointwise)", r"\1_\2"),
    (r"aspp/(\w+)", r"\1"),
    (r"decoder/(decoder_conv\d)/(depthwise|pointwise)", r"decoder/\1_\2"),
    (r"decoder/(\w+)", r"decoder/\1"),
    (r"logits", r"logits/semantic"),
)


def scope(module: str, depth: int = 0) -> str | None:
    """Return the release's scope of a block: "aspp/aspp1/depthwise" -> "aspp1_depthwise".

    Args:
      module: path in a DeepLabV3Plus or DeepLabV3, without its last part "conv" or "bn".
      depth: of Xception or ResNet, which is part of their scopes.
    """
    for ours, theirs in _SCOPES:
        if match := re.fullmatch(ours, module):
            return match.expand(theirs).replace("{depth}", str(depth))
    return None


def _block(module: str) -> str:
    return re.sub(r"/(conv|bn)$", "", module)


def from_tflite(model: Any, graph: Graph) -> dict[str, Any]:
    """Return the variables of DeepLab on MobileNetV2 from Google's TensorFlow Lite files.

    The folded batch norms become norms that only add the bias: mean 0 and variance 1 - epsilon.
    `pretrained.folded` estimates their statistics before training.

    Raises:
      UserError: the weights do not fit, or have another output stride.
    """
    stride = int(np.prod([c.stride for c in graph.convolutions]))
    if stride != model.output_stride:
        raise checks.UserError(
            f"these weights have an output stride of {stride}, the network one of "
            f"{model.output_stride}: set model.backbone.output_stride"
        )
    return _import_folded(model, graph, scope, lambda module: _norm(model, module).epsilon)


def backbone_from_tflite(model: Any, graph: Graph) -> dict[str, Any]:
    """Return the variables of a MobileNetV2 from slim's classifier as a TensorFlow Lite file."""
    return _import_folded(
        model,
        graph,
        lambda module: scope(f"backbone/{module}"),
        lambda module: model.norm.epsilon,
        ignore=r"MobilenetV2/(Conv_1|Logits/.*)/(kernel|bias)",
    )


def _norm(model: Any, module: str) -> Any:
    return getattr(model, module.partition("/")[0]).norm


def _import_folded(model, graph, scope_of, epsilon_of, ignore=""):
    tensors = {f"{c.scope}/kernel": c.kernel for c in graph.convolutions}
    tensors |= {f"{c.scope}/bias": c.bias for c in graph.convolutions}

    def find(collection: str, module: str, leaf: str) -> str | np.ndarray | None:
        if leaf in ("kernel", "bias"):
            source = scope_of(_block(module))
            return source and f"{source}/{leaf}"
        constants = {"scale": 1.0, "mean": 0.0, "var": 1.0 - epsilon_of(module)}
        return np.array(constants[leaf], np.float32)

    return import_tensors(model, tensors, find, lambda leaf, tensor: tensor, ignore=ignore)


_VARIABLES = {
    "scale": "BatchNorm/gamma",
    "bias": "BatchNorm/beta",
    "mean": "BatchNorm/moving_mean",
    "var": "BatchNorm/moving_variance",
}
# Variables of a checkpoint that only training needs.
_TRAINING = r"global_step|.*/(Momentum|ExponentialMovingAverage)|train_op/.*|.*_power"


def from_checkpoint(
    model: Any, tensors: Mapping[str, np.ndarray], *, depth: int = 0, ignore: str = ""
) -> dict[str, Any]:
    """Return the variables of a DeepLab from the tensors of a TensorFlow 1 checkpoint.

    Args:
      model: DeepLabV3Plus or DeepLabV3; or a backbone alone.
      tensors: arrays by the names of the variables.
      depth: of Xception or ResNet.
      ignore: regular expression of variables that the model does not need.

    Raises:
      UserError: the weights do not fit; all mismatches are listed.
    """
    prefix = "" if hasattr(model, "backbone") else "backbone/"

    def find(collection: str, module: str, leaf: str) -> str | None:
        block, _, kind = module.rpartition("/")
        source = scope(prefix + (block if kind in ("conv", "bn") else module), depth)
        if source is None:
            return None
        if kind == "bn":
            return f"{source}/{_VARIABLES[leaf]}"
        if leaf == "bias":
            return f"{source}/biases"
        depthwise = f"{source}/depthwise_weights"
        return depthwise if depthwise in tensors else f"{source}/weights"

    return import_tensors(
        model,
        tensors,
        find,
        _depthwise_first,
        ignore=f"{_TRAINING}|{ignore}" if ignore else _TRAINING,
    )


def _depthwise_first(leaf: str, tensor: np.ndarray) -> np.ndarray:
    """Reshape depthwise kernels from TensorFlow's [kh kw c m] to Flax's [kh kw 1 c*m]."""
    if leaf.endswith("depthwise/conv/kernel"):
        return tensor.reshape(*tensor.shape[:2], 1, -1)
    return tensor
