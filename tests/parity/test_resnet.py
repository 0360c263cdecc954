"""ResNet-50/101/152 against torchvision's, plain and dilated; a 1x1 classifier on top scores it."""

import jax.numpy as jnp
import pytest
import torch_parity as parity
from flax import linen as nn

from seg_jax.backbones import resnet
from seg_jax.checks import UserError
from seg_jax.nn import torch_state
from seg_jax.nn.conv import Conv
from seg_jax.nn.resize import resize_half_pixel

torch = parity.torch
DILATED = {8: (False, True, True), 16: (False, False, True), 32: (False, False, False)}


class Scored(nn.Module):
    """A trunk, so scored that a loss over the image reaches every parameter."""

    trunk: resnet.ResNet

    @nn.compact
    def __call__(self, image, *, train):
        scores = Conv(21, 1, name="classifier")(self.trunk(image, train=train)["c5"])
        return {"out": resize_half_pixel(scores.astype(jnp.float32), image.shape[1:3])}


class TorchScored(torch.nn.Module):
    """The same around torchvision's network."""

    def __init__(self, model):
        from torchvision.models import resnet as torchvision_resnet

        super().__init__()
        self.net = torchvision_resnet.ResNet(
            torchvision_resnet.Bottleneck,
            resnet.UNITS[model.depth],
            replace_stride_with_dilation=DILATED[model.output_stride],
        )
        del self.net.fc
        self.classifier = torch.nn.Conv2d(2048, 21, 1)

    def forward(self, image):
        net = self.net
        x = net.maxpool(net.relu(net.bn1(net.conv1(image))))
        x = self.classifier(net.layer4(net.layer3(net.layer2(net.layer1(x)))))
        return torch.nn.functional.interpolate(x, image.shape[-2:], mode="bilinear")


def scored(depth, output_stride=32):
    model = resnet.ResNet(depth, output_stride=output_stride)
    return parity.randomise(TorchScored(model)), Scored(model)


def import_state(model):
    def layer(module):
        if module == "classifier":
            return module
        known = resnet.torchvision_layer(module.removeprefix("trunk/"))
        return known and f"net.{known}"

    return lambda state: torch_state.import_state(model, state, layer)


def record(parity_record, depth, what, error):
    parity_record(
        f"resnet{depth} trunk", f"torchvision resnet{depth}, its classifier 1x1", what, error
    )


@pytest.mark.parametrize(
    ("depth", "output_stride", "size"),
    [
        (50, 32, (97, 129)),
        (50, 16, (97, 129)),
        (50, 8, (97, 129)),
        (50, 32, (224, 224)),
        (101, 8, (97, 129)),
        (152, 32, (97, 129)),
    ],
)
def test_evaluation(depth, output_stride, size, parity_record):
    module, model = scored(depth, output_stride)
    variables = import_state(model)(parity.state_of(module))
    error = parity.evaluation_error(module, model, variables, size)
    what = f"evaluation logits {size[0]}x{size[1]}, output stride {output_stride}"
    record(parity_record, depth, what, error)


def test_training(parity_record):
    module, model = scored(50)
    errors = parity.training_errors(
        module, model, import_state(model), (97, 129), heads=(("out", 1.0),)
    )
    for what, error in errors.items():
        record(parity_record, 50, f"{what} 97x129", error)


def test_importing_covers_everything():
    """torchvision's own network, classifier and counters included; then one tensor too few, one
    too many, and another network's.
    """
    from torchvision.models import resnet50

    state = parity.state_of(resnet50())
    resnet.from_torchvision(resnet.ResNet(50), state)
    weight = state.pop("layer3.5.conv2.weight")
    with pytest.raises(UserError, match="1 missing.* block3_unit6/conv2/conv/kernel"):
        resnet.from_torchvision(resnet.ResNet(50), state)
    state |= {"layer3.5.conv2.weight": weight, "layer9.conv.weight": weight}
    with pytest.raises(UserError, match="1 unknown to the network: layer9.conv.weight"):
        resnet.from_torchvision(resnet.ResNet(50), state)
    with pytest.raises(UserError, match="255 missing in the weights: block3_unit10/"):
        resnet.from_torchvision(resnet.ResNet(101), state)
    with pytest.raises(UserError, match="1 of another shape: layer3.5.conv2.weight is"):
        del state["layer9.conv.weight"]
        state["layer3.5.conv2.weight"] = weight[:, :, 1:]
        resnet.from_torchvision(resnet.ResNet(50), state)
