"""VGG-16 against torchvision's vgg16; a 1x1 classifier on top scores its last map."""

import pytest
import torch_parity as parity
from flax import linen as nn

from seg_jax.backbones import vgg
from seg_jax.checks import UserError
from seg_jax.nn import torch_state
from seg_jax.nn.conv import Conv
from seg_jax.nn.resize import resize_half_pixel

torch = parity.torch
NAME, REFERENCE = "vgg16 trunk", "torchvision vgg16, its classifier 1x1"
FLOOR = vgg.VGG(pool_rounding="floor")  # torchvision's pools


class Scored(nn.Module):
    """A trunk, so scored that a loss over the image reaches every parameter."""

    trunk: vgg.VGG

    @nn.compact
    def __call__(self, image, *, train):
        scores = Conv(21, 1, name="classifier")(self.trunk(image, train=train)["c5"])
        return {"out": resize_half_pixel(scores, image.shape[1:3])}


class TorchScored(torch.nn.Module):
    """The same around torchvision's network."""

    def __init__(self):
        from torchvision.models import vgg16

        super().__init__()
        self.features = vgg16().features
        self.classifier = torch.nn.Conv2d(512, 21, 1)

    def forward(self, image):
        scores = self.classifier(self.features(image))
        return torch.nn.functional.interpolate(scores, image.shape[-2:], mode="bilinear")


def import_state(state):
    layers = vgg.torchvision_layers(FLOOR.depths)

    def layer(module):
        return module if module == "classifier" else layers.get(module.removeprefix("trunk/"))

    return torch_state.import_state(Scored(FLOOR), state, layer)


@pytest.fixture(scope="module")
def module():
    return parity.randomise(TorchScored())


@pytest.mark.parametrize("size", [(97, 129), (224, 224)])
def test_evaluation(module, size, parity_record):
    variables = import_state(parity.state_of(module))
    error = parity.evaluation_error(module, Scored(FLOOR), variables, size)
    parity_record(NAME, REFERENCE, f"evaluation logits {size[0]}x{size[1]}", error)


def test_training(module, parity_record):
    errors = parity.training_errors(
        module, Scored(FLOOR), import_state, (65, 81), heads=(("out", 1.0),)
    )
    for what, error in errors.items():
        parity_record(NAME, REFERENCE, f"{what} 65x81", error)


def test_importing_covers_everything():
    """torchvision's own network, classifier included; then a tensor too few, and another's."""
    from torchvision.models import vgg16

    state = parity.state_of(vgg16())
    vgg.from_torchvision(vgg.VGG(), state)
    weight = state.pop("features.28.weight")
    with pytest.raises(UserError, match="1 missing.* conv5_3/kernel .from features.28.weight"):
        vgg.from_torchvision(vgg.VGG(), state)
    state |= {"features.28.weight": weight, "features.31.weight": weight}
    with pytest.raises(UserError, match="1 unknown to the network: features.31.weight"):
        vgg.from_torchvision(vgg.VGG(), state)
