"""DeepLab v1: Chen, Papandreou, Kokkinos, Murphy, Yuille (ICLR 2015, arXiv 1412.7062)."""

from functools import partial

from seg_jax.papers.figure import COCO, PLAIN, WITH_CRF, Figure, Protocol

_PAPER = partial(Figure, family="DeepLab v1", source="ICLR 2015, Tables 1 and 2", date="2014-12")
_CRF = partial(_PAPER, protocol=WITH_CRF)
_TEST = partial(_CRF, split="test", trained_on="trainval_aug", source="ICLR 2015, Table 3")
_COCO_TEST = partial(
    _TEST, recipe="other", pretraining=COCO, origin="leaderboard",
    source="VOC 2012 leaderboard; Papandreou et al., ICCV 2015 (arXiv 1502.02734)",
)  # fmt: skip
_PEER = partial(
    _PAPER, recipe="other", origin="reimplementation", date="",
    source="CoinCheung/Deeplab-Large-FOV, README",
)  # fmt: skip

_PLAIN_4X4 = "deeplab_v1_vgg16_voc"
_LARGE_FOV = "deeplab_v1_largefov_vgg16_voc"
_MSC_4X4 = "deeplab_v1_msc_vgg16_voc"
_MSC = "deeplab_v1_msc_largefov_vgg16_voc"
_7X7, _4X4 = "deeplab_v1_7x7_vgg16_voc", "deeplab_v1_4x4_vgg16_voc"

FIGURES = (
    _PAPER("DeepLab", 59.80, experiment=_PLAIN_4X4),
    _CRF("DeepLab-CRF", 63.74, experiment=_PLAIN_4X4),
    _TEST("DeepLab-CRF", 66.4, experiment=_PLAIN_4X4),
    _PAPER("DeepLab-LargeFOV", 62.25, experiment=_LARGE_FOV),
    _CRF("DeepLab-CRF-LargeFOV", 67.64, experiment=_LARGE_FOV),
    _TEST("DeepLab-CRF-LargeFOV", 70.3, experiment=_LARGE_FOV),
    _COCO_TEST("DeepLab-CRF-COCO-LargeFOV", 72.7, experiment=_LARGE_FOV, date="2015-03-18",
               talk=True, note="with COCO and the dense CRF, unlike FCN-8s and SegNet beside it"),
    _PAPER("DeepLab-MSc-LargeFOV", 64.21, experiment=_MSC),
    _CRF("DeepLab-MSc-CRF-LargeFOV", 68.70, experiment=_MSC),
    _TEST("DeepLab-MSc-CRF-LargeFOV", 71.6, experiment=_MSC),
    _COCO_TEST("DeepLab-MSc-CRF-LargeFOV-COCO-CrossJoint", 73.9, experiment=_MSC, date="2015",
               note="the authors' README gives 73.6 for the best released model"),
    _COCO_TEST("best released model", 73.6, date="2015", origin="release",
               source="authors' README", note="the leaderboard's best is 73.9"),
    _PAPER("DeepLab-MSc", 61.30, experiment=_MSC_4X4),
    _CRF("DeepLab-MSc-CRF", 65.21, experiment=_MSC_4X4),
    _TEST("DeepLab-MSc-CRF", 67.1, experiment=_MSC_4X4),
    _PAPER("DeepLab-7x7", 64.38, experiment=_7X7),
    _CRF("DeepLab-CRF-7x7", 67.64, experiment=_7X7),
    _TEST("DeepLab-CRF-7x7", 70.3, experiment=_7X7),
    _PAPER("DeepLab-4x4", 63.41, experiment=_4X4, verified="unverified"),
    _CRF("DeepLab-CRF-4x4", 67.14, experiment=_4X4),
    _PEER("DeepLab-LargeFOV", 57.25, experiment=_LARGE_FOV, trained_on="VOC 2012 train",
          protocol=PLAIN),
    _PEER("DeepLab-LargeFOV", 68.72, experiment=_LARGE_FOV,
          protocol=Protocol(scales=(), flip=True), note="crop 497, hard-example mining, poly"),
)  # fmt: skip
