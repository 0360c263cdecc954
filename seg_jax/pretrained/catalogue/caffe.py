"""The authors' own Caffe weights."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from seg_jax import experiment
from seg_jax.data.preprocessing import Preprocessing
from seg_jax.experiment import Experiment
from seg_jax.pretrained.catalogue.entry import Entry, Score
from seg_jax.pretrained.converters import caffe

_CCVL = "http://liangchiehchen.com/projects/DeepLab_Models.html"
_RESEARCH = "not stated; for research"
# The mean image of the VGG team, B, G, R (103.939, 116.779, 123.68).
VGG_CAFFE = Preprocessing(mean=(123.68, 116.779, 103.939), order="bgr")


def _fcn(variant: str, file: str, miou: float) -> Entry:
    return Entry(
        f"berkeley_fcn{variant.replace('_', '')}_heavy_pascal",
        file=file,
        host="https://github.com/shelhamer/fcn.berkeleyvision.org (caffemodel-url of each network)",
        license=_RESEARCH,
        trained_on="ImageNet, SBD train (8,498 images, some of them in VOC 2012 val)",
        leak="yes",
        convert=caffe.from_fcn,
        experiment=lambda: experiment.get(f"fcn{variant}_vgg16_voc"),
        score=Score(miou, "VOC 2011 seg11valid", "single scale, native size"),
    )


def _deeplab(
    name: str,
    of: str,
    file: str,
    convert: Callable,
    *,
    leak: Literal["no", "yes"],
    trained_on: str,
    miou: float | None = None,
) -> Entry:
    return Entry(
        name,
        file=file,
        host=_CCVL,
        license=_RESEARCH,
        trained_on=trained_on,
        leak=leak,
        convert=convert,
        experiment=lambda: experiment.get(of),
        score=Score(miou, "VOC 2012 val", "padded to 513, without CRF") if miou else None,
    )


def _segnet(name: str, of: str, file: str, trained_on: str) -> Entry:
    return Entry(
        name,
        file=file,
        host="https://github.com/alexgkendall/SegNet-Tutorial (segnet_model_zoo.md)",
        license="CC-BY-NC-4.0",
        trained_on=trained_on,
        leak="unknown",
        convert=caffe.from_segnet,
        experiment=lambda: experiment.get(of),
        folded=True,
        note="no commercial use; statistics of the norms are folded into scale and shift",
    )


def _pspnet() -> Experiment:
    base = experiment.get("pspnet_resnet101_voc")
    return dataclasses.replace(base, model=base.model.clone(aux=False))


_AUG, _TRAINVAL = "ImageNet, VOC 2012 trainaug", "ImageNet, VOC 2012 trainval_aug"
_VGG: Any = caffe.from_deeplab_vgg
_R101: Any = caffe.from_deeplab_v2_resnet

ENTRIES = (
    _fcn("32s", "fcn32s-heavy-pascal.caffemodel", 63.6),
    _fcn("16s", "fcn16s-heavy-pascal.caffemodel", 65.0),
    _fcn("8s", "fcn8s-heavy-pascal.caffemodel", 65.5),
    _fcn("8s_atonce", "fcn8s-atonce-pascal.caffemodel", 65.4),
    Entry(
        "oxford_vgg16_imagenet",
        file="VGG_ILSVRC_16_layers.caffemodel",
        host="https://gist.github.com/ksimonyan/211839e770f7b538e2d8",
        license="CC-BY-4.0",
        trained_on="ImageNet",
        leak="no",
        convert=caffe.vgg16,
        ignored="fc8",
        preprocessing=VGG_CAFFE,
    ),
    _deeplab(
        "ucla_deeplab_v1_vgg16_voc", "deeplab_v1_vgg16_voc", "DeepLab/train_iter_6000.caffemodel",
        _VGG, leak="no", trained_on=_AUG, miou=59.80,
    ),
    _deeplab(
        "ucla_deeplab_v1_largefov_voc", "deeplab_v1_largefov_vgg16_voc",
        "DeepLab-LargeFOV/train_iter_6000.caffemodel", _VGG, leak="no", trained_on=_AUG,
        miou=62.25,
    ),
    _deeplab(
        "ucla_deeplab_v1_largefov_voc_trainval", "deeplab_v1_largefov_vgg16_voc",
        "DeepLab-LargeFOV/train2_iter_8000.caffemodel", _VGG, leak="yes", trained_on=_TRAINVAL,
    ),
    _deeplab(
        "ucla_deeplab_v2_vgg16_voc", "deeplab_v2_vgg16_voc",
        "deeplab_aspp_vgg16/train_iter_20000.caffemodel", _VGG, leak="no", trained_on=_AUG,
        miou=68.96,
    ),
    _deeplab(
        "ucla_deeplab_v2_vgg16_voc_trainval", "deeplab_v2_vgg16_voc",
        "deeplab_aspp_vgg16/train2_iter_20000.caffemodel", _VGG, leak="yes",
        trained_on=_TRAINVAL,
    ),
    _deeplab(
        "ucla_deeplab_v2_resnet101_voc", "deeplab_v2_resnet101_voc",
        "deeplab_aspp_resnet101/train_iter_20000.caffemodel", _R101, leak="no",
        trained_on="ImageNet, COCO, VOC 2012 trainaug", miou=76.35,
    ),
    _deeplab(
        "ucla_deeplab_v2_resnet101_voc_trainval", "deeplab_v2_resnet101_voc",
        "deeplab_aspp_resnet101/train2_iter_20000.caffemodel", _R101, leak="yes",
        trained_on="ImageNet, COCO, VOC 2012 trainval_aug",
    ),
    _segnet("cambridge_segnet_voc", "segnet_vgg16_voc", "segnet_pascal.caffemodel",
            "ImageNet, VOC 2012; the list is not stated"),
    _segnet("cambridge_segnet_basic_camvid", "segnet_basic_camvid",
            "segnet_basic_camvid.caffemodel", "CamVid train"),
    Entry(
        "hszhao_pspnet101_voc2012",
        file="pspnet101_VOC2012.caffemodel",
        host="https://github.com/hszhao/PSPNet (Google Drive)",
        license="not stated; for research",
        trained_on="ImageNet, COCO, VOC 2012 with SBD; whether with val is not stated",
        leak="unknown",
        convert=caffe.from_pspnet,
        experiment=_pspnet,
        score=Score(85.4, "VOC 2012 test", "sliding 473 px windows, six scales, flip"),
    ),
)  # fmt: skip
