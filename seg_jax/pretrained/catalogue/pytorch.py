"""State dicts from PyTorch projects."""

import dataclasses
from typing import Any

from seg_jax import experiment
from seg_jax.backbones import mobilenet_v2
from seg_jax.backbones.resnet import Depth, ResNet
from seg_jax.data.preprocessing import TORCH
from seg_jax.experiment import EvalConfig, Experiment
from seg_jax.models import deeplab_v3, fcn_resnet, pspnet
from seg_jax.models.deeplab_v3 import ASPP, DeepLabV3
from seg_jax.models.deeplab_v3plus import Decoder, DeepLabV3Plus
from seg_jax.nn.norm import Norm
from seg_jax.pretrained.catalogue.entry import Entry, Score
from seg_jax.pretrained.converters import pytorch

_COCO_VOC = "COCO val2017 with VOC's classes"
_SHORT_SIDE = "short side 520, labels resized as well"


def _with(name: str, model: Any, **evaluation: Any) -> Experiment:
    """A registered experiment with another network, torchvision's inputs and another protocol."""
    base = experiment.get(name)
    data = dataclasses.replace(base.data, preprocessing=TORCH)
    return dataclasses.replace(base, model=model, data=data, evaluation=EvalConfig(**evaluation))


def _in_name(file: str) -> str:
    """torchvision's files are named after the first digits of their SHA-256."""
    return file.removesuffix(".pth").rpartition("-")[2]


def _torchvision(family: str, depth: Depth, file: str, miou: float) -> Entry:
    def build() -> Experiment:
        if family == "fcn":
            return experiment.get(f"fcn_resnet{depth}_voc")
        model = deeplab_v3.torchvision_network(depth)
        return _with(f"deeplab_v3_resnet{depth}_voc", model)

    return Entry(
        f"torchvision_{family}_resnet{depth}_coco",
        file=file,
        host="https://download.pytorch.org/models",
        license="BSD-3-Clause",
        trained_on="ImageNet, COCO train2017 (images with VOC's classes)",
        leak="no",
        sha256=_in_name(file),
        convert=(fcn_resnet if family == "fcn" else deeplab_v3).from_torchvision,
        experiment=build,
        score=Score(miou, _COCO_VOC, _SHORT_SIDE),
    )


def _classifier(
    name: str, file: str, convert: Any, ignored: str, *, epsilon: float | None = None
) -> Entry:
    return Entry(
        f"torchvision_{name}_imagenet",
        file=file,
        host="https://download.pytorch.org/models",
        license="BSD-3-Clause",
        trained_on="ImageNet",
        leak="no",
        sha256=_in_name(file),
        convert=convert,
        ignored=ignored,
        preprocessing=TORCH,
        epsilon=epsilon,
    )


def _mobilenet(_: Any, state: Any) -> dict[str, Any]:
    model = mobilenet_v2.MobileNetV2(norm=Norm())
    variables = mobilenet_v2.from_torchvision(model, state)
    return {collection: {"backbone": tree} for collection, tree in variables.items()}


def _wkentaro(variant: str, file: str, miou: float) -> Entry:
    return Entry(
        f"wkentaro_fcn{variant.replace('_', '')}_voc",
        file=file,
        host="https://github.com/wkentaro/pytorch-fcn (converted from the authors' Caffe weights)",
        license="not stated; the code is MIT, the authors' weights are for research",
        trained_on="ImageNet, SBD train (8,498 images, some of them in VOC 2012 val)",
        leak="yes",
        convert=pytorch.from_wkentaro,
        experiment=lambda: experiment.get(f"fcn{variant}_vgg16_voc"),
        score=Score(miou, "VOC 2011 seg11valid", "single scale, native size"),
    )


def _kazuto1011() -> Entry:
    return Entry(
        "kazuto1011_deeplabv2_resnet101_vocaug",
        file="deeplabv2_resnet101_msc-vocaug-20000.pth",
        host="https://github.com/kazuto1011/deeplab-pytorch, release v1.0",
        license="not stated; the code is MIT",
        trained_on="COCO, VOC 2012 trainaug",
        leak="no",
        convert=pytorch.from_kazuto1011,
        experiment=lambda: experiment.get("deeplab_v2_resnet101_voc"),
        score=Score(76.65, "VOC 2012 val", "three scales fused, padded to 513"),
        note="trained with half-pixel interpolation between the scales; here corners are aligned, "
        "as in the authors' Caffe network",
    )


def _vainf(plus: bool, depth: Depth, miou: float) -> Entry:
    version = "v3plus" if plus else "v3"

    def build() -> Experiment:
        norm = Norm()
        aspp = ASPP(dropout=0.1, norm=norm)
        backbone = ResNet(depth, "torchvision", output_stride=16)
        if not plus:
            model = DeepLabV3(
                aspp=aspp, head_convs=1, upsampling="half_pixel", norm=norm, backbone=backbone
            )
            return _with(f"deeplab_v3_resnet{depth}_voc", model, canvas=(513, 513))
        model = DeepLabV3Plus(
            aspp=aspp,
            decoder=Decoder(low_level="c2", convs=1, convolution="standard", norm=norm),
            upsampling="half_pixel",
            backbone=backbone,
        )
        return _with("deeplab_v3plus_resnet101_voc", model, canvas=(513, 513))

    return Entry(
        f"vainf_deeplab{version}_resnet{depth}_voc",
        file=f"best_deeplab{version}_resnet{depth}_voc_os16.pth",
        host="https://github.com/VainF/DeepLabV3Plus-Pytorch",
        license="not stated; the code is MIT",
        trained_on="ImageNet, VOC 2012 trainaug",
        leak="no",
        convert=pytorch.from_vainf,
        experiment=build,
        score=Score(miou, "VOC 2012 val", "OS 16, centre crop of 513: not the whole images"),
        note="the best of its checkpoints on val",
    )


def _semseg(depth: Depth, miou: float) -> Entry:
    return Entry(
        f"semseg_pspnet_resnet{depth}_voc",
        file=f"pspnet{depth}/model/train_epoch_50.pth",
        host="https://github.com/hszhao/semseg (Google Drive, exp/voc2012)",
        license="MIT",
        trained_on="ImageNet, VOC 2012 trainaug",
        leak="no",
        convert=pspnet.from_semseg,
        experiment=lambda: experiment.get(f"pspnet_resnet{depth}_voc_semseg"),
        score=Score(miou, "VOC 2012 val", "sliding 473 px windows, flip"),
    )


_RESNETS: tuple[tuple[Depth, str], ...] = (
    (50, "resnet50-0676ba61.pth"),
    (101, "resnet101-63fe2227.pth"),
    (152, "resnet152-394f9c45.pth"),
)

ENTRIES = (
    _torchvision("fcn", 50, "fcn_resnet50_coco-1167a1af.pth", 60.5),
    _torchvision("fcn", 101, "fcn_resnet101_coco-7ecb50ca.pth", 63.7),
    _torchvision("deeplabv3", 50, "deeplabv3_resnet50_coco-cd0a2569.pth", 66.4),
    _torchvision("deeplabv3", 101, "deeplabv3_resnet101_coco-586e9e4e.pth", 67.4),
    _classifier("vgg16", "vgg16-397923af.pth", pytorch.vgg16_from_torchvision, "classifier.6"),
    *(
        _classifier(
            f"resnet{depth}",
            file,
            pytorch.resnet_from_torchvision(depth),
            "fc",
            epsilon=Norm().epsilon,
        )
        for depth, file in _RESNETS
    ),
    _classifier(
        "mobilenetv2",
        "mobilenet_v2-b0353104.pth",
        _mobilenet,
        "features.18, classifier.1",
        epsilon=Norm().epsilon,
    ),
    _wkentaro("32s", "fcn32s_from_caffe.pth", 63.63),
    _wkentaro("16s", "fcn16s_from_caffe.pth", 65.01),
    _wkentaro("8s", "fcn8s_from_caffe.pth", 65.51),
    _wkentaro("8s_atonce", "fcn8s-atonce_from_caffe.pth", 65.40),
    _kazuto1011(),
    _vainf(False, 50, 76.9),
    _vainf(False, 101, 77.3),
    _vainf(True, 50, 77.2),
    _vainf(True, 101, 78.3),
    _semseg(50, 77.05),
    _semseg(101, 79.07),
)
