"""Google's DeepLab, MobileNetV2, Xception and ResNet: TensorFlow Lite files and checkpoints."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from seg_jax import experiment
from seg_jax.backbones.mobilenet_v2 import RELEASED_NORM, MobileNetV2
from seg_jax.backbones.resnet import ResNet
from seg_jax.backbones.xception import Xception
from seg_jax.data.preprocessing import TF_SYMMETRIC, Preprocessing
from seg_jax.experiment import EvalConfig, Experiment
from seg_jax.pretrained.catalogue.entry import Entry, Score
from seg_jax.pretrained.converters import google

# The uint8 files take x / 128 - 1.
QUANTISED = Preprocessing(mean=(128.0, 128.0, 128.0), std=(128.0, 128.0, 128.0))


def _deeplab_mobilenet(
    name: str, *, output_stride: int, preprocessing: Preprocessing, evaluation: EvalConfig
) -> Experiment:
    base = experiment.get(name)
    backbone = base.model.backbone.clone(output_stride=output_stride)
    return dataclasses.replace(
        base,
        model=base.model.clone(backbone=backbone),
        data=dataclasses.replace(base.data, preprocessing=preprocessing),
        evaluation=evaluation,
    )


def _float_dm05() -> Experiment:
    return _deeplab_mobilenet(
        "deeplab_v3plus_mobilenetv2_voc_dm05",
        output_stride=8,
        preprocessing=TF_SYMMETRIC,
        evaluation=EvalConfig(mode="resize", canvas=(257, 257)),
    )


def _uint8() -> Experiment:
    return _deeplab_mobilenet(
        "deeplab_v3plus_mobilenetv2_voc",
        output_stride=16,
        preprocessing=QUANTISED,
        evaluation=EvalConfig(canvas=(513, 513)),
    )


def _as_backbone(variables: dict[str, Any]) -> dict[str, Any]:
    return {collection: {"backbone": tree} for collection, tree in variables.items()}


def _backbone(_: Any, graph: Any) -> dict[str, Any]:
    return _as_backbone(google.backbone_from_tflite(MobileNetV2(), graph))


_HOST = "http://download.tensorflow.org/models (tensorflow/models, deeplab/g3doc/model_zoo.md)"
_OS16 = "OS 16, single scale"


def _deeplab(
    name: str,
    archive: str,
    of: str,
    *,
    leak: Literal["no", "yes"],
    score: Score,
    depth: int = 0,
) -> Entry:
    lists = "trainaug, trainval" if leak == "yes" else "trainaug"
    return Entry(
        f"google_{name}",
        file=archive,
        host=_HOST,
        license="Apache-2.0",
        trained_on=f"ImageNet, COCO, VOC 2012 {lists}",
        leak=leak,
        convert=lambda model, tensors: google.from_checkpoint(model, tensors, depth=depth),
        experiment=lambda: experiment.get(of),
        score=score,
        note="an archive: unpack it, and import its model.ckpt.index or frozen_inference_graph.pb",
    )


def _classifier(name: str, archive: str, backbone: Callable[[], Any], scope: str) -> Entry:
    def convert(_: Any, tensors: Any) -> dict[str, Any]:
        model = backbone()
        ignore = f"{scope}/logits/.*"
        return _as_backbone(
            google.from_checkpoint(model, tensors, depth=model.depth, ignore=ignore)
        )

    return Entry(
        f"google_{name}_imagenet",
        file=archive,
        host=_HOST,
        license="Apache-2.0",
        trained_on="ImageNet",
        leak="no",
        convert=convert,
        ignored=f"{scope}/logits",
        preprocessing=TF_SYMMETRIC,
        epsilon=backbone().norm.epsilon,
        note="an archive: unpack it, and import its model.ckpt.index",
    )


ENTRIES = (
    Entry(
        "google_deeplabv3_mobilenetv2_dm05_voc",
        file="deeplabv3.tflite",
        sha256="68a539782c2c6a72f8aac3724600124a85ed977162b44e84cbae5db717c933c6",
        host="tensorflow/tflite-support, test data of its vision tasks",
        license="Apache-2.0",
        trained_on="not stated; MS COCO and VOC 2012",
        leak="unknown",
        convert=google.from_tflite,
        experiment=_float_dm05,
        folded=True,
        note="output stride 8",
    ),
    Entry(
        "google_deeplabv3_mobilenetv2_voc_uint8",
        file="deeplabv3_mnv2_pascal_quant.tflite",
        sha256="350af47fd346ea6d74b58833a351f583ba860e9806ec5bd292ff8d8f1f249398",
        host="google-coral/test_data",
        license="Apache-2.0",
        trained_on="not stated; MS COCO and VOC 2012",
        leak="unknown",
        convert=google.from_tflite,
        experiment=_uint8,
        folded=True,
        note="8-bit weights, dequantised; output stride 16",
    ),
    Entry(
        "google_mobilenetv2_imagenet_uint8",
        file="mobilenet_v2_1.0_224_quant.tflite",
        sha256="7aad0c74c5e3c06e5eb3c827e13304fdd68a83da6087d92ee169c24ff9fd4776",
        host="google-coral/test_data",
        license="Apache-2.0",
        trained_on="ImageNet",
        leak="no",
        convert=_backbone,
        ignored="MobilenetV2/Conv_1, MobilenetV2/Logits",
        preprocessing=QUANTISED,
        folded=True,
        epsilon=RELEASED_NORM.epsilon,
        note="8-bit weights, dequantised; inputs x / 128 - 1",
    ),
    _deeplab(
        "deeplabv3plus_xception65_voc_trainaug",
        "deeplabv3_pascal_train_aug_2018_01_04.tar.gz",
        "deeplab_v3plus_xception65_voc",
        leak="no",
        score=Score(82.20, "VOC 2012 val", _OS16),
        depth=65,
    ),
    _deeplab(
        "deeplabv3plus_xception65_voc_trainval",
        "deeplabv3_pascal_trainval_2018_01_04.tar.gz",
        "deeplab_v3plus_xception65_voc",
        leak="yes",
        score=Score(87.80, "VOC 2012 test", "OS 8, six scales, flip"),
        depth=65,
    ),
    _deeplab(
        "deeplabv3_mobilenetv2_voc_trainaug",
        "deeplabv3_mnv2_pascal_train_aug_2018_01_29.tar.gz",
        "deeplab_v3plus_mobilenetv2_voc",
        leak="no",
        score=Score(75.32, "VOC 2012 val", _OS16),
    ),
    _deeplab(
        "deeplabv3_mobilenetv2_voc_trainval",
        "deeplabv3_mnv2_pascal_trainval_2018_01_29.tar.gz",
        "deeplab_v3plus_mobilenetv2_voc",
        leak="yes",
        score=Score(80.25, "VOC 2012 test", "OS 8, six scales, flip"),
    ),
    _deeplab(
        "deeplabv3_mobilenetv2_dm05_voc_trainaug",
        "deeplabv3_mnv2_dm05_pascal_trainaug_2018_10_01.tar.gz",
        "deeplab_v3plus_mobilenetv2_voc_dm05",
        leak="no",
        score=Score(70.19, "VOC 2012 val", _OS16),
    ),
    _deeplab(
        "deeplabv3_mobilenetv2_dm05_voc_trainval",
        "deeplabv3_mnv2_dm05_pascal_trainval_2018_10_01.tar.gz",
        "deeplab_v3plus_mobilenetv2_voc_dm05",
        leak="yes",
        score=Score(71.83, "VOC 2012 test", "OS 8"),
    ),
    _classifier("xception41", "xception_41_2018_05_09.tar.gz", lambda: Xception(41), "xception_41"),
    _classifier(
        "xception65", "deeplabv3_xception_2018_01_04.tar.gz", lambda: Xception(65), "xception_65"
    ),
    _classifier("xception71", "xception_71_2018_05_09.tar.gz", lambda: Xception(71), "xception_71"),
    _classifier(
        "resnet50_beta",
        "resnet_v1_50_2018_05_04.tar.gz",
        lambda: ResNet(50, "slim", "3x3"),
        "resnet_v1_50",
    ),
    _classifier(
        "resnet101_beta",
        "resnet_v1_101_2018_05_04.tar.gz",
        lambda: ResNet(101, "slim", "3x3"),
        "resnet_v1_101",
    ),
)
