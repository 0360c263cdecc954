"""MobileNetV2 against torchvision's and Xception-41, 65 and 71 against timm's, plain and dilated; a
1x1 classifier on top scores the last map.
"""

import re

import jax.numpy as jnp
import pytest
import torch_parity as parity
from flax import linen as nn

from seg_jax.backbones import mobilenet_v2
from seg_jax.backbones.mobilenet_v2 import MobileNetV2
from seg_jax.backbones.xception import Xception
from seg_jax.checks import UserError
from seg_jax.nn import torch_state
from seg_jax.nn.conv import Conv
from seg_jax.nn.norm import Norm
from seg_jax.nn.resize import resize_half_pixel

torch = parity.torch
SIZE = (97, 129)


class Scored(nn.Module):
    """A trunk, so scored that a loss over the image reaches every parameter."""

    trunk: MobileNetV2 | Xception

    @nn.compact
    def __call__(self, image, *, train):
        scores = Conv(21, 1, name="classifier")(self.trunk(image, train=train)["c5"])
        return {"out": resize_half_pixel(scores.astype(jnp.float32), image.shape[1:3])}


class TorchScored(torch.nn.Module):
    """The same around torch's networks."""

    def __init__(self, net, channels):
        super().__init__()
        self.net = net
        self.classifier = torch.nn.Conv2d(channels, 21, 1)

    def forward(self, image):
        x = self.classifier(self.net(image))
        return torch.nn.functional.interpolate(x, image.shape[-2:], mode="bilinear")


def dilated(features, output_stride):
    """torchvision's Sequential with rates for strides, by slim's rule; it has none of its own."""
    stride, rate = 2, 1
    for unit in features[1:]:
        conv = unit.conv[-3][0]
        conv.dilation = conv.padding = (rate, rate)
        if stride * conv.stride[0] > output_stride:
            rate *= conv.stride[0]
            conv.stride = (1, 1)
        stride *= conv.stride[0]
    return features


def mobilenet(output_stride, width=1.0):
    from torchvision.models import mobilenet_v2 as build

    features = dilated(build(width_mult=width).features[:-1], output_stride)
    module = parity.randomise(TorchScored(features, features[-1].out_channels))
    trunk = MobileNetV2(output_stride, divisor=8, norm=Norm(), width=width)
    return module, Scored(trunk), import_state(Scored(trunk), torchvision_layer)


def torchvision_layer(module):
    known = mobilenet_v2.torchvision_layer(module)
    return known and known.removeprefix("features.")


def xception(depth, output_stride):
    import timm

    net = timm.create_model(f"xception{depth}", output_stride=output_stride, num_classes=0)
    net.head = torch.nn.Identity()
    module = parity.randomise(TorchScored(net, 2048))
    trunk = Xception(depth, output_stride, norm=Norm(epsilon=1e-3))
    units = [unit.name for unit in trunk.units()]

    def layer(module):
        return timm_layer(module, units)

    return module, Scored(trunk), import_state(Scored(trunk), layer)


def timm_layer(module, units):
    """timm counts the units of all flows."""
    if match := re.fullmatch(r"entry_flow_conv1_(\d)/(conv|bn)", module):
        return f"stem.{int(match[1]) - 1}.{match[2]}"
    unit, part, *rest = module.split("/")
    if part == "shortcut":
        return f"blocks.{units.index(unit)}.shortcut.{rest[0]}"
    suffix = {"depthwise": "dw", "pointwise": "pw"}[rest[0]]
    number = part.removeprefix("separable_conv")
    return f"blocks.{units.index(unit)}.stack.conv{number}.{rest[1]}_{suffix}"


def import_state(model, trunk_layer):
    def layer(module):
        if module == "classifier":
            return module
        known = trunk_layer(module.removeprefix("trunk/"))
        return known and f"net.{known}"

    return lambda state: torch_state.import_state(model, state, layer)


REFERENCES = {"mobilenetv2": "torchvision mobilenet_v2, its classifier 1x1"}


def record(parity_record, name, what, error):
    reference = REFERENCES.get(name, f"timm {name}, its classifier 1x1")
    parity_record(f"{name} trunk", reference, what, error)


@pytest.mark.parametrize(
    ("output_stride", "width", "size"),
    [(32, 1.0, SIZE), (16, 1.0, SIZE), (8, 1.0, SIZE), (32, 0.5, SIZE), (32, 1.0, (224, 224))],
)
def test_mobilenet_evaluation(output_stride, width, size, parity_record):
    module, model, load = mobilenet(output_stride, width)
    error = parity.evaluation_error(module, model, load(parity.state_of(module)), size)
    what = f"evaluation logits {size[0]}x{size[1]}, output stride {output_stride}, width {width:g}"
    record(parity_record, "mobilenetv2", what, error)


def test_mobilenet_training(parity_record):
    # A bottleneck's shift goes through 1x1 convolutions alone to norms that take it away; the last
    # one's reaches the classifier.
    cancelled = r"trunk/expanded_conv(_\d|_1[0-5])?/project/bn/bias"
    pair, heads = mobilenet(16, 0.5), (("out", 1.0),)
    errors = parity.training_errors(*pair, (65, 81), heads=heads, n=3, cancelled=cancelled)
    for what, error in errors.items():
        what = f"{what} 65x81, output stride 16, width 0.5"
        record(parity_record, "mobilenetv2", what, error)


def test_importing_mobilenet_covers_everything():
    """torchvision's own network, classifier and counters included; then one tensor too few."""
    from torchvision.models import mobilenet_v2 as build

    state = parity.state_of(build())
    mobilenet_v2.from_torchvision(MobileNetV2(), state)
    weight = state.pop("features.14.conv.1.0.weight")
    with pytest.raises(UserError, match="1 missing.* expanded_conv_13/depthwise/conv/kernel"):
        mobilenet_v2.from_torchvision(MobileNetV2(), state)
    state |= {"features.14.conv.1.0.weight": weight, "aux.weight": weight}
    with pytest.raises(UserError, match="1 unknown to the network: aux.weight"):
        mobilenet_v2.from_torchvision(MobileNetV2(), state)


@pytest.mark.parametrize(
    ("depth", "output_stride", "size"),
    [
        (41, 16, SIZE),
        (65, 32, (96, 130)),
        (65, 16, SIZE),
        (65, 8, SIZE),
        # At an output stride of 8 timm's 71 has no convolution in its fifth block's shortcut.
        (71, 16, SIZE),
    ],
)
def test_xception_evaluation(depth, output_stride, size, parity_record):
    module, model, load = xception(depth, output_stride)
    error = parity.evaluation_error(module, model, load(parity.state_of(module)), size)
    what = f"evaluation logits {size[0]}x{size[1]}, output stride {output_stride}"
    record(parity_record, f"xception{depth}", what, error)
