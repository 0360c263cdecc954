"""FCN and U-Net against PyTorch networks written from the authors' releases (`torch_first`).

FCN-8s at full width once, at the authors' 500 px; the rest at an eighth of the channels.
"""

import dataclasses

import pytest
import torch_parity as parity

from seg_jax import experiment
from seg_jax.nn import torch_state
from seg_jax.nn.norm import Norm

first = pytest.importorskip("torch_first")
from torch_caffe import layer_name  # noqa: E402 needs torch

FCNS = {"fcn32s_vgg16_voc": 0, "fcn16s_vgg16_voc": 1, "fcn8s_vgg16_voc": 2}
UNETS = {"unet_isbi2012": (188, 204), "unet_synthetic": (61, 75)}
RELEASES = {
    "fcn32s_vgg16_voc": "voc-fcn32s/deploy.prototxt",
    "fcn16s_vgg16_voc": "voc-fcn16s/deploy.prototxt",
    "fcn8s_vgg16_voc": "voc-fcn8s/deploy.prototxt",
    "unet_isbi2012": "phseg_v5.prototxt",
    "unet_synthetic": "phseg_v5.prototxt, padded and with norms",
}


def fcn(name, width):
    model = experiment.get(name).model
    backbone = dataclasses.replace(model.backbone, width=1 / width, parent=None)
    model = model.clone(dropout=0.0, width=1 / width, backbone=backbone)
    return parity.randomise(first.FCN(model.num_classes, FCNS[name], width)), model


def unet(name, width):
    model = experiment.get(name).model
    norm = model.norm and Norm(momentum=0.9)  # torch's momentum
    model = model.clone(num_classes=21, dropout=0.0, width=1 / width, norm=norm)
    same = model.padding == "same"
    return parity.randomise(first.UNet(21, width, model.depth, same)), model


def importer(model, size):
    def run(state):
        # Torch keeps a transposed convolution's input channels first.
        swapped = {
            key: value.swapaxes(0, 1) if "upconv" in key and value.ndim == 4 else value
            for key, value in state.items()
        }
        return torch_state.import_state(model, swapped, layer_name, image_shape=(1, *size, 3))

    return run


def record(parity_record, name, what, error):
    parity_record(name, f"PyTorch functions, from {RELEASES[name]}", what, error)


def test_fcn8s_at_full_width(parity_record):
    name, size = "fcn8s_vgg16_voc", (500, 500)
    module, model = fcn(name, 1)
    variables = importer(model, size)(parity.state_of(module))
    error = parity.evaluation_error(module, model, variables, size)
    record(parity_record, name, "evaluation logits 500x500", error)


def check_small(parity_record, name, module, model, size):
    what = f"{size[0]}x{size[1]}, width 1/8"
    import_state = importer(model, size)
    variables = import_state(parity.state_of(module))
    error = parity.evaluation_error(module, model, variables, size)
    record(parity_record, name, f"evaluation logits {what}", error)
    errors = parity.training_errors(module, model, import_state, size, heads=(("out", 1.0),))
    for kind, error in errors.items():
        record(parity_record, name, f"{kind} {what}", error)


@pytest.mark.parametrize("name", FCNS)
def test_fcn(name, parity_record):
    check_small(parity_record, name, *fcn(name, 8), (57, 74))


@pytest.mark.parametrize("name", UNETS)
def test_unet(name, parity_record):
    check_small(parity_record, name, *unet(name, 8), UNETS[name])
