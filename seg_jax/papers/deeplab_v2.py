"""DeepLab v2: Chen, Papandreou, Kokkinos, Murphy, Yuille (PAMI 2018, arXiv 1606.00915)."""

from functools import partial

from seg_jax.papers.figure import COCO, WITH_CRF, Figure, accuracies

_VGG = partial(
    Figure, family="DeepLab v2", source="arXiv 1606.00915, Table 3", date="2016-06",
    verified="unverified",
)  # fmt: skip
_POLICY = partial(
    _VGG,
    source="arXiv 1606.00915, Table 2",
    note="DeepLab-LargeFOV, VGG-16",
    experiment="deeplab_v2_largefov_vgg16_voc",
    recipe="other",
)
# The network fuses three scales by a maximum within itself, in training and at evaluation ("MSC").
_RESNET = partial(_VGG, source="arXiv 1606.00915, Table 4", pretraining=COCO)
_PEER = partial(
    _RESNET, origin="reimplementation", source="kazuto1011/deeplab-pytorch, README", date="2019",
    verified="verified",
)  # fmt: skip
_PEER_2 = partial(_PEER, source="zhoulukuan/deeplab_v2_pytorch, README", date="")

_VGG_ASPP = "deeplab_v2_vgg16_voc"
_VGG_ASPP_S = "deeplab_v2_aspp_s_vgg16_voc"
_VGG_LARGE_FOV = "deeplab_v2_largefov_vgg16_voc"
_R101 = "deeplab_v2_resnet101_voc"

FIGURES = (
    _VGG("DeepLab-ASPP-L (VGG-16)", 68.96, experiment=_VGG_ASPP),
    _VGG("DeepLab-ASPP-L (VGG-16)", 71.57, experiment=_VGG_ASPP, protocol=WITH_CRF),
    _VGG("DeepLab-ASPP (VGG-16)", 72.6, experiment=_VGG_ASPP, protocol=WITH_CRF, split="test",
         trained_on="trainval_aug", source="arXiv 1606.00915"),
    _VGG("DeepLab-ASPP-S (VGG-16)", 66.98, experiment=_VGG_ASPP_S),
    _VGG("DeepLab-ASPP-S (VGG-16)", 69.73, experiment=_VGG_ASPP_S, protocol=WITH_CRF),
    _VGG("DeepLab-LargeFOV (VGG-16)", 65.76, experiment=_VGG_LARGE_FOV,
         note="Table 2 has 65.88 for the same recipe"),
    _VGG("DeepLab-LargeFOV (VGG-16)", 69.84, experiment=_VGG_LARGE_FOV, protocol=WITH_CRF),
    _POLICY("step, batch 30, 6K", 62.25),
    _POLICY("poly, batch 30, 6K", 63.42),
    _POLICY("poly, batch 30, 10K", 64.90),
    _POLICY("poly, batch 10, 10K", 64.71),
    _POLICY("poly, batch 10, 20K", 65.88, recipe="same",
            note="DeepLab-LargeFOV, VGG-16; Table 3 has 65.76"),
    _RESNET("DeepLab-v2 (ResNet-101), MSC COCO Aug ASPP", 76.35, experiment=_R101,
            verified="verified", note="also kazuto1011/deeplab-pytorch, README, official column"),
    _RESNET("DeepLab-v2 (ResNet-101), MSC COCO Aug ASPP", 77.69, experiment=_R101,
            verified="verified", protocol=WITH_CRF),
    _RESNET("DeepLab-v2-CRF (ResNet-101)", 79.7, experiment=_R101, split="test",
            trained_on="trainval_aug", protocol=WITH_CRF, origin="leaderboard", date="2016-06-06",
            source="VOC 2012 leaderboard; arXiv 1606.00915", verified="verified", talk=True,
            note="with COCO and the dense CRF, unlike FCN-8s and SegNet beside it"),
    _RESNET("ResNet-101", 68.72, pretraining="ImageNet"),
    _RESNET("ResNet-101, MSC", 71.27, pretraining="ImageNet"),
    _RESNET("ResNet-101, MSC COCO", 73.28),
    _RESNET("ResNet-101, MSC COCO Aug", 74.87),
    _RESNET("ResNet-101, MSC COCO Aug LargeFOV", 75.54),
    _PEER("DeepLab v2 ResNet-101", 76.65, experiment=_R101,
          metrics=accuracies(94.64, 86.50, 90.41)),
    _PEER("DeepLab v2 ResNet-101", 77.93, experiment=_R101, protocol=WITH_CRF,
          metrics=accuracies(95.04, 86.64, 91.06)),
    _PEER_2("DeepLab v2 ResNet-101", 73.31, experiment=_R101),
    _PEER_2("DeepLab v2 ResNet-101", 74.47, experiment=_R101, protocol=WITH_CRF),
)  # fmt: skip
