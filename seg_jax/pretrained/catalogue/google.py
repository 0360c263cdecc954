"""Google's DeepLab and MobileNetV2: TensorFlow Lite files."""

import dataclasses
from typing import Any

from seg_jax import experiment
from seg_jax.backbones.mobilenet_v2 import MobileNetV2
from seg_jax.data.preprocessing import TF_SYMMETRIC, Preprocessing
from seg_jax.experiment import EvalConfig, Experiment
from seg_jax.pretrained import google
from seg_jax.pretrained.catalogue.entry import Entry

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
        evaluation=EvalConfig(protocol="squash", canvas=(257, 257)),
    )


def _uint8() -> Experiment:
    return _deeplab_mobilenet(
        "deeplab_v3plus_mobilenetv2_voc",
        output_stride=16,
        preprocessing=QUANTISED,
        evaluation=EvalConfig(canvas=(513, 513)),
    )


def _backbone(_: Any, graph: Any) -> dict[str, Any]:
    variables = google.backbone_from_tflite(MobileNetV2(), graph)
    return {collection: {"backbone": tree} for collection, tree in variables.items()}


ENTRIES = (
    Entry(
        "google_deeplabv3_mobilenetv2_dm05_voc",
        file="deeplabv3.tflite",
        sha256="68a539782c2c6a72f8aac3724600124a85ed977162b44e84cbae5db717c933c6",
        host="tensorflow/tflite-support, test data of its vision tasks",
        licence="Apache-2.0",
        trained_on="not stated; MS COCO and VOC 2012",
        leak="unknown",
        convert=google.from_tflite,
        experiment=_float_dm05,
        note="batch norms are folded; output stride 8",
    ),
    Entry(
        "google_deeplabv3_mobilenetv2_voc_uint8",
        file="deeplabv3_mnv2_pascal_quant.tflite",
        sha256="350af47fd346ea6d74b58833a351f583ba860e9806ec5bd292ff8d8f1f249398",
        host="google-coral/test_data",
        licence="Apache-2.0",
        trained_on="not stated; MS COCO and VOC 2012",
        leak="unknown",
        convert=google.from_tflite,
        experiment=_uint8,
        note="8-bit weights, dequantised; batch norms are folded; output stride 16",
    ),
    Entry(
        "google_mobilenetv2_imagenet_uint8",
        file="mobilenet_v2_1.0_224_quant.tflite",
        sha256="7aad0c74c5e3c06e5eb3c827e13304fdd68a83da6087d92ee169c24ff9fd4776",
        host="google-coral/test_data",
        licence="Apache-2.0",
        trained_on="ImageNet",
        leak="no",
        convert=_backbone,
        ignored="MobilenetV2/Conv_1, MobilenetV2/Logits",
        preprocessing=QUANTISED,
        note="8-bit weights, dequantised; batch norms are folded; inputs x / 128 - 1",
    ),
)
