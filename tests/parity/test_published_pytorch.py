"""Published PyTorch weights: files as released, but with random numbers, read without PyTorch.

Each file is written by torch.save with the names and shapes of the release, found in the catalogue
by its name, and its logits compared with those of an independent network.
"""

import jax
import pytest
import torch_parity as parity

from seg_jax import pretrained
from seg_jax.checks import UserError
from seg_jax.pretrained import catalogue

torch = parity.torch
torch_caffe = pytest.importorskip("torch_caffe")
torch_first = pytest.importorskip("torch_first")
torch_networks = pytest.importorskip("torch_networks")

SMALL, LEGAL = (97, 129), (65, 97)


def load(tmp_path, name, saved, *, old=False):
    """Write a file under the name that it was released with, and load it by that."""
    path = tmp_path / catalogue.get(name).file.rpartition("/")[2]
    torch.save(saved, path, _use_new_zipfile_serialization=not old)
    loaded = pretrained.load(path, name)
    assert loaded.name == name
    return loaded


def check(module, loaded, size, tolerance=1e-4):
    model = loaded.model
    error = parity.evaluation_error(module, model, loaded.variables, size)
    assert error < tolerance, f"{loaded.name}: relative error {error:.2g}"


@pytest.mark.parametrize("family", ["fcn", "deeplabv3"])
@pytest.mark.parametrize(("depth", "old"), [(50, True), (101, False)])
def test_torchvision(tmp_path, family, depth, old):
    from torchvision.models import segmentation

    build = getattr(segmentation, f"{family}_resnet{depth}")
    module = build(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    parity.randomise(module)
    name = f"torchvision_{family}_resnet{depth}_coco"
    check(module, load(tmp_path, name, module.state_dict(), old=old), SMALL)


@pytest.mark.parametrize(("variant", "skips"), [("32s", 0), ("16s", 1), ("8s", 2)])
def test_wkentaro(tmp_path, variant, skips):
    module = parity.randomise(torch_first.FCN(21, skips))
    state = {
        name.removeprefix("layers.").removeprefix("backbone-"): tensor
        for name, tensor in module.state_dict().items()
    }
    upsampling = ({"upscore": 64}, {"upscore2": 4, "upscore16": 32},
                  {"upscore2": 4, "upscore_pool4": 4, "upscore8": 16})[skips]  # fmt: skip
    for layer, size in upsampling.items():
        state[f"{layer}.weight"] = upsampling_weight(size)
    name = f"wkentaro_fcn{variant}_voc"
    check(module, load(tmp_path, name, state, old=True), SMALL)
    state[f"{layer}.weight"] = state[f"{layer}.weight"] + 0.01
    with pytest.raises(UserError, match=f"{layer}.weight is not the fixed bilinear"):
        load(tmp_path, name, state)


def upsampling_weight(size):
    """get_upsampling_weight of wkentaro/pytorch-fcn: what a delta is interpolated to."""
    delta = torch.ones(1, 1, 1, 1)
    filter_ = torch_first.bilinear(delta, size // 2)[0, 0]
    weight = torch.zeros(21, 21, size, size)
    weight[range(21), range(21)] = filter_
    return weight


def kazuto1011_names(state):
    """The prototxt's layers under the names of libs/models/deeplabv2.py."""
    parts = {"conv1": "reduce", "conv2": "conv3x3", "conv3": "increase", "shortcut": "shortcut"}
    renamed = {}
    for name, tensor in state.items():
        layer, _, leaf = name.removeprefix("layers.").partition(".")
        if layer.startswith("fc1_c"):
            renamed[f"base.aspp.c{layer[-1]}.{leaf}"] = tensor
        elif layer.startswith("backbone-conv1-"):
            renamed[f"base.layer1.conv1.{layer.rpartition('-')[2]}.{leaf}"] = tensor
        else:
            _, unit, part, kind = layer.split("-")
            block, number = unit.removeprefix("block").split("_unit")
            place = f"base.layer{int(block) + 1}.block{number}.{parts[part]}.{kind}"
            renamed[f"{place}.{leaf}"] = tensor
    return renamed


def test_kazuto1011(tmp_path):
    module = parity.randomise(torch_caffe.DeepLabV2ResNet(21))
    name = "kazuto1011_deeplabv2_resnet101_vocaug"
    check(module, load(tmp_path, name, kazuto1011_names(module.state_dict())), LEGAL)


class VainF(torch.nn.Module):
    """network/utils.py and _deeplab.py: DeepLabHeadV3Plus on torchvision's dilated ResNet."""

    def __init__(self, depth):
        super().__init__()
        from torchvision.models import resnet
        from torchvision.models._utils import IntermediateLayerGetter
        from torchvision.models.segmentation.deeplabv3 import ASPP

        backbone = getattr(resnet, f"resnet{depth}")(
            weights=None, replace_stride_with_dilation=[False, False, True]
        )
        layers = {"layer4": "out", "layer1": "low_level"}
        self.backbone = IntermediateLayerGetter(backbone, layers)
        self.classifier = torch.nn.Module()
        self.classifier.project = self.block(256, 48, 1)
        self.classifier.aspp = ASPP(2048, [6, 12, 18])
        self.classifier.classifier = self.block(304, 256, 3)
        self.classifier.classifier.append(torch.nn.Conv2d(256, 21, 1))

    def block(self, c_in, c_out, size):
        nn = torch.nn
        conv = nn.Conv2d(c_in, c_out, size, padding=size // 2, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())

    def forward(self, image):
        def upsample(x, size):
            return torch.nn.functional.interpolate(
                x, size=size, mode="bilinear", align_corners=False
            )

        features, head = self.backbone(image), self.classifier
        low = head.project(features["low_level"])
        encoded = upsample(head.aspp(features["out"]), low.shape[-2:])
        return upsample(head.classifier(torch.cat([low, encoded], 1)), image.shape[-2:])


def test_vainf_v3plus(tmp_path):
    module = parity.randomise(VainF(50))
    state = module.state_dict()
    # They concatenate [low level, encoder]; ours is [encoder, low level], as in the release.
    name = "vainf_deeplabv3plus_resnet50_voc"
    saved = {"cur_itrs": 30000, "model_state": state, "best_score": 0.77}
    check(module, load(tmp_path, name, saved), SMALL)


def test_vainf_v3(tmp_path):
    from torchvision.models import resnet
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.segmentation import deeplabv3

    backbone = resnet.resnet50(weights=None, replace_stride_with_dilation=[False, False, True])
    head = deeplabv3.DeepLabHead(2048, 21, [6, 12, 18])
    module = deeplabv3.DeepLabV3(IntermediateLayerGetter(backbone, {"layer4": "out"}), head)
    parity.randomise(module)
    state = {
        name.replace("classifier.", "classifier.classifier."): tensor
        for name, tensor in module.state_dict().items()
    }
    name = "vainf_deeplabv3_resnet50_voc"
    check(module, load(tmp_path, name, {"model_state": state}, old=True), SMALL)


def test_semseg(tmp_path):
    module = parity.randomise(torch_networks.PSPNet((3, 4, 6, 3), 1.0))
    state = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    name = "semseg_pspnet_resnet50_voc"
    check(module, load(tmp_path, name, {"epoch": 50, "state_dict": state}), SMALL)


@pytest.mark.parametrize("network", ["resnet50", "mobilenet_v2", "vgg16"])
def test_classifiers(tmp_path, network):
    """What they initialise computes the classifier's features."""
    import torchvision.models

    from seg_jax.backbones.mobilenet_v2 import MobileNetV2
    from seg_jax.backbones.resnet import ResNet
    from seg_jax.backbones.vgg import VGG
    from seg_jax.nn.norm import Norm
    from seg_jax.pretrained import loading

    module = parity.randomise(getattr(torchvision.models, network)(weights=None)).eval()
    name = {"mobilenet_v2": "mobilenetv2"}.get(network, network)
    entry = catalogue.get(f"torchvision_{name}_imagenet")
    torch.save(module.state_dict(), tmp_path / entry.file)
    variables = loading.convert(tmp_path / entry.file, entry, None)
    model = {
        "resnet50": ResNet(50), "vgg16": VGG(), "mobilenet_v2": MobileNetV2(32, norm=Norm()),
    }[network]  # fmt: skip
    image = parity.image_of((96, 64))
    backbone = {collection: tree["backbone"] for collection, tree in variables.items()}
    actual = jax.jit(lambda v, x: model.apply(v, x, train=False)["c5"])(backbone, image)
    with torch.no_grad():
        x = parity.nchw(image)
        if network == "resnet50":
            for part in list(module.children())[:-2]:
                x = part(x)
        else:
            x = module.features[:-1](x) if network == "mobilenet_v2" else module.features(x)
    assert parity.relative_error(actual, parity.nhwc(x)) < 1e-4
