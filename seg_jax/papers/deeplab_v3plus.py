"""DeepLab v3+: Chen, Zhu, Papandreou, Schroff, Adam (ECCV 2018, arXiv 1802.02611)."""

from functools import partial

from seg_jax.papers.figure import COCO, JFT_COCO, SIX_SCALES, Figure, Protocol


def _os(output_stride: int, *, scales: tuple[float, ...] = (1.0,), flip: bool = False) -> Protocol:
    return Protocol(output_stride, scales, flip)


_OS16, _OS8, _OS32 = _os(16), _os(8), _os(32)
_OS16_MS, _OS8_MS = _os(16, scales=SIX_SCALES), _os(8, scales=SIX_SCALES)
_OS16_FLIP, _OS8_FLIP = (_os(stride, scales=SIX_SCALES, flip=True) for stride in (16, 8))


def _billions(multiply_adds: float) -> tuple[tuple[str, float], ...]:
    return (("multiply-adds, 1e9", multiply_adds),)


_PAPER = partial(
    Figure, family="DeepLab v3+", source="ECCV 2018, Table 3", date="2018-02", protocol=_OS16
)
_R101 = partial(_PAPER, "ResNet-101, decoder", experiment="deeplab_v3plus_resnet101_voc")
_R101_V3 = partial(_PAPER, "ResNet-101, no decoder")
_R101_OS32 = partial(_PAPER, note="trained at output stride 32")
_CHANNELS = partial(_PAPER, source="ECCV 2018, Table 1")
_STRUCTURE = partial(_PAPER, source="ECCV 2018, Table 2")
_XCEPTION = partial(_PAPER, source="ECCV 2018, Table 5")
_X65 = partial(_XCEPTION, "Xception-65, decoder, separable", trained_on="train_aug",
               experiment="deeplab_v3plus_xception65_voc")  # fmt: skip
_X65_COCO = partial(_X65, pretraining=COCO, recipe="other", variant="coco")
_X65_JFT = partial(_X65, pretraining=JFT_COCO, recipe="other")
_TEST = partial(
    _PAPER, split="test", source="ECCV 2018, Table 6", protocol=_OS8_FLIP, recipe="other",
    trained_on="trainval", experiment="deeplab_v3plus_xception65_voc",
)  # fmt: skip
# The only MobileNetV2 recipe that was published starts from COCO.
_ZOO = partial(
    _PAPER, origin="release", source="tensorflow/models, deeplab/g3doc/model_zoo.md",
    pretraining=COCO, date="2018-01",
)  # fmt: skip
_MOBILE = partial(_ZOO, experiment="deeplab_v3plus_mobilenetv2_voc")
_DM05 = partial(_ZOO, experiment="deeplab_v3plus_mobilenetv2_voc_dm05")
_VAINF = partial(
    _PAPER, recipe="other", origin="reimplementation", date="2020", note="scored on centre crops",
    source="VainF/DeepLabV3Plus-Pytorch, README",
)  # fmt: skip
_MMSEG = partial(
    _PAPER, recipe="other", origin="reimplementation", date="2020-06", protocol=_OS8,
    source="open-mmlab/mmsegmentation, configs/deeplabv3plus", note="crop 512",
)  # fmt: skip

FIGURES = (
    # ResNet-101.
    _R101(78.85, metrics=_billions(101.28)),
    _R101(80.09, protocol=_OS16_MS),
    _R101(80.22, protocol=_OS16_FLIP),
    _R101(79.35, protocol=_OS8, metrics=_billions(297.92)),
    _R101(80.43, protocol=_OS8_MS),
    _R101(80.57, protocol=_OS8_FLIP),
    _R101_V3(77.21, metrics=_billions(81.02), note="this is DeepLab v3"),
    _R101_V3(78.51, protocol=_OS8, metrics=_billions(276.18), note="this is DeepLab v3"),
    _R101_V3(79.45, protocol=_OS8_MS, note="this is DeepLab v3"),
    _R101_V3(79.77, protocol=_OS8_FLIP, note="this is DeepLab v3"),
    _R101_OS32("ResNet-101, no decoder", 75.43, protocol=_OS32, metrics=_billions(52.43)),
    _R101_OS32("ResNet-101, decoder", 77.37, protocol=_OS32, metrics=_billions(74.20)),
    _R101_OS32("ResNet-101, decoder", 77.80),
    _R101_OS32("ResNet-101, decoder", 77.92, protocol=_OS8),
    # The decoder: channels of the 1x1 convolution on the low-level features, then its structure.
    *(
        _CHANNELS(f"decoder with {channels} low-level channels", miou)
        for channels, miou in ((8, 77.61), (16, 77.92), (32, 78.16), (48, 78.21), (64, 77.94))
    ),
    _STRUCTURE("decoder with one 3x3 convolution, 256", 78.21),
    _STRUCTURE("decoder with two 3x3 convolutions, 256", 78.85, note="the chosen one"),
    _STRUCTURE("decoder with three 3x3 convolutions, 256", 78.02),
    _STRUCTURE("decoder with one 3x3 convolution, 128", 77.25),
    _STRUCTURE("decoder with one 1x1 convolution, 256", 78.07),
    _STRUCTURE("decoder on conv2 and conv3", 78.61),
    # Xception-65.
    _X65(79.79, metrics=_billions(54.17)),
    _X65(81.21, protocol=_OS16_FLIP, metrics=_billions(928.81)),
    _X65(80.02, protocol=_OS8, metrics=_billions(177.10)),
    _X65(81.39, protocol=_OS8_FLIP, metrics=_billions(3055.35)),
    _X65_COCO(82.20, note="also the released xception65_coco_voc_trainaug"),
    _X65_COCO(83.34, protocol=_OS16_FLIP),
    _X65_COCO(82.45, protocol=_OS8),
    _X65_COCO(83.58, protocol=_OS8_FLIP, note="also the released xception65_coco_voc_trainaug"),
    _X65_JFT(83.03),
    _X65_JFT(84.22, protocol=_OS16_FLIP),
    _X65_JFT(83.39, protocol=_OS8),
    _X65_JFT(84.56, protocol=_OS8_FLIP),
    _TEST("DeepLabv3+ (Xception)", 87.8, pretraining=COCO),
    _TEST("DeepLabv3+ (Xception-JFT)", 89.0, pretraining=JFT_COCO),
    *(
        _XCEPTION(f"Xception-65, {decoder}", miou, protocol=protocol)
        for decoder, row in (
            ("no decoder", (79.17, 80.57, 80.79, 79.64, 81.15, 81.34)),
            ("decoder", (79.93, 81.38, 81.44, 80.22, 81.60, 81.63)),
        )
        for protocol, miou in zip(
            (_OS16, _OS16_MS, _OS16_FLIP, _OS8, _OS8_MS, _OS8_FLIP), row, strict=True
        )
    ),
    # MobileNetV2: without ASPP and decoder.
    _MOBILE("mobilenetv2_coco_voc_trainaug", 75.32),
    _MOBILE("mobilenetv2_coco_voc_trainaug", 77.33, protocol=_OS8_FLIP),
    _MOBILE("mobilenetv2_coco_voc_trainval", 80.25, split="test", trained_on="trainval",
            protocol=_OS8_FLIP),
    _DM05("mobilenetv2_dm05_coco_voc_trainaug", 70.19, date="2018-10"),
    _DM05("mobilenetv2_dm05_coco_voc_trainval", 71.83, split="test", trained_on="trainval",
          protocol=_OS8, date="2018-10"),
    # Others.
    _VAINF("DeepLabV3Plus-ResNet101", 78.3, experiment="deeplab_v3plus_resnet101_voc"),
    _VAINF("DeepLabV3Plus-ResNet50", 77.2),
    _VAINF("DeepLabV3Plus-MobileNet", 71.1),
    _MMSEG("DeepLabV3+ R-101-D8, 40K", 78.62, experiment="deeplab_v3plus_resnet101_voc"),
    _MMSEG("DeepLabV3+ R-101-D8, 40K", 79.53, experiment="deeplab_v3plus_resnet101_voc",
           protocol=_OS8_FLIP),
    _MMSEG("DeepLabV3+ R-101-D8, 20K", 77.22, experiment="deeplab_v3plus_resnet101_voc"),
    _MMSEG("DeepLabV3+ R-101-D8, 20K", 78.59, experiment="deeplab_v3plus_resnet101_voc",
           protocol=_OS8_FLIP),
    _MMSEG("DeepLabV3+ R-50-D8, 40K", 76.81),
    _MMSEG("DeepLabV3+ R-50-D8, 40K", 77.57, protocol=_OS8_FLIP),
    _MMSEG("DeepLabV3+ R-50-D8, 20K", 75.93),
    _MMSEG("DeepLabV3+ R-50-D8, 20K", 77.50, protocol=_OS8_FLIP),
)  # fmt: skip
