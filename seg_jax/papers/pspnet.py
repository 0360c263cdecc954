"""PSPNet: Zhao, Shi, Qi, Wang, Jia (CVPR 2017, arXiv 1612.01105).

The paper has no figure on VOC val.
"""

from functools import partial

from seg_jax.papers.figure import COCO, MULTI_SCALE_FLIP, Figure, Protocol, accuracies

_TEST = partial(
    Figure, family="PSPNet", split="test", trained_on="VOC and SBD",
    protocol=MULTI_SCALE_FLIP, source="CVPR 2017", date="2016-12",
)  # fmt: skip
# semseg: the first author's PyTorch release; it fuses the mirror image in its "ss" column as well.
_FLIP = Protocol(flip=True)
_SEMSEG = partial(
    Figure, family="PSPNet", recipe="other", variant="semseg", origin="release",
    source="hszhao/semseg, README", date="2019",
    note="semseg's own recipe: experiments/pspnet.py has the differences",
)  # fmt: skip
_MMSEG = partial(
    Figure, family="PSPNet", recipe="other", origin="reimplementation", date="2020-06",
    source="open-mmlab/mmsegmentation, configs/pspnet", note="crop 512, output stride 8",
)  # fmt: skip

_R50, _R101 = "pspnet_resnet50_voc", "pspnet_resnet101_voc"

FIGURES = (
    _SEMSEG("PSPNet50", 77.05, experiment=_R50, protocol=_FLIP, metrics=accuracies(94.89, 85.13)),
    _SEMSEG("PSPNet50", 78.02, experiment=_R50, protocol=MULTI_SCALE_FLIP,
            metrics=accuracies(95.13, 85.80)),
    _MMSEG("PSPNet R-50-D8, 20K", 76.78, experiment=_R50, verified="unverified"),
    _MMSEG("PSPNet R-50-D8, 20K", 77.61, experiment=_R50, protocol=MULTI_SCALE_FLIP,
           verified="unverified"),
    _MMSEG("PSPNet R-50-D8, 40K", 77.29, experiment=_R50),
    _MMSEG("PSPNet R-50-D8, 40K", 78.48, experiment=_R50, protocol=MULTI_SCALE_FLIP),
    _SEMSEG("PSPNet101", 79.07, experiment=_R101, protocol=_FLIP, metrics=accuracies(95.34, 86.36)),
    _SEMSEG("PSPNet101", 79.63, experiment=_R101, protocol=MULTI_SCALE_FLIP,
            metrics=accuracies(95.50, 86.77)),
    _TEST("PSPNet-101", 82.6, experiment=_R101),
    _TEST("PSPNet-101", 85.4, experiment=_R101, recipe="other", pretraining=COCO),
    _TEST("pspnet101_VOC2012.caffemodel", 85.41, experiment=_R101, recipe="other",
          pretraining=COCO, origin="release",
          source="hszhao/PSPNet, README", note="the paper's 85.4"),
    _MMSEG("PSPNet R-101-D8, 20K", 78.47, experiment=_R101, verified="unverified"),
    _MMSEG("PSPNet R-101-D8, 20K", 79.25, experiment=_R101, protocol=MULTI_SCALE_FLIP,
           verified="unverified"),
    _MMSEG("PSPNet R-101-D8, 40K", 78.52, experiment=_R101),
    _MMSEG("PSPNet R-101-D8, 40K", 79.57, experiment=_R101, protocol=MULTI_SCALE_FLIP),
)  # fmt: skip
