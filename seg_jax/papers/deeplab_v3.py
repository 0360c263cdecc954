"""DeepLab v3: Chen, Papandreou, Schroff, Adam (arXiv 1706.05587)."""

from functools import partial

from seg_jax.papers.figure import COCO, JFT_COCO, SIX_SCALES, Figure, Protocol

_OS16, _OS8 = Protocol(16), Protocol(8)
_OS8_MS = Protocol(8, SIX_SCALES)
_OS8_MS_FLIP = Protocol(8, SIX_SCALES, flip=True)

_PAPER = partial(
    Figure, family="DeepLab v3", source="arXiv 1706.05587", date="2017-06", protocol=_OS16
)
_FINAL = partial(
    _PAPER, "ASPP(6, 12, 18) + image pooling, MG(1, 2, 4) (ResNet-101)",
    experiment="deeplab_v3_resnet101_voc", source="arXiv 1706.05587, Tables 5 and 6",
)  # fmt: skip
_TEST = partial(
    _PAPER, split="test", trained_on="trainval, hard classes twice", protocol=_OS8_MS_FLIP,
    source="arXiv 1706.05587, Table 7", experiment="deeplab_v3_resnet101_voc", recipe="other",
)  # fmt: skip
_CASCADE = partial(_PAPER, source="arXiv 1706.05587, Tables 1 to 4")
_CASCADE_7 = partial(
    _CASCADE, "ResNet-101 to block 7, MG(1, 2, 1)", experiment="deeplab_v3_resnet101_voc_cascade"
)
_MG = (("1, 1, 1", (68.39, 73.21, 75.34, 75.76)), ("1, 2, 1", (70.23, 75.67, 76.09, 76.66)),
       ("1, 2, 3", (73.14, 75.78, 75.96, 76.11)), ("1, 2, 4", (73.45, 75.74, 75.85, 76.02)),
       ("2, 2, 2", (71.45, 74.30, 74.70, 74.62)))  # fmt: skip
_ASPP = partial(_PAPER, source="arXiv 1706.05587, Table 5")
_APPENDIX = partial(
    _PAPER, source="arXiv 1706.05587, appendix", experiment="deeplab_v3_resnet101_voc",
    recipe="other",
)  # fmt: skip
_VAINF = partial(
    _PAPER, recipe="other", origin="reimplementation", date="2020", note="scored on centre crops",
    source="VainF/DeepLabV3Plus-Pytorch, README",
)  # fmt: skip
_MMSEG = partial(
    _PAPER, recipe="other", origin="reimplementation", date="2020-06", protocol=_OS8,
    source="open-mmlab/mmsegmentation, configs/deeplabv3", note="crop 512",
)  # fmt: skip
_R50, _R101 = "deeplab_v3_resnet50_voc", "deeplab_v3_resnet101_voc"

FIGURES = (
    _MMSEG("DeepLabV3 R-50-D8, 40K", 77.68, experiment=_R50),
    _MMSEG("DeepLabV3 R-50-D8, 40K", 78.78, experiment=_R50, protocol=_OS8_MS_FLIP),
    _MMSEG("DeepLabV3 R-50-D8, 20K", 76.17, experiment=_R50),
    _MMSEG("DeepLabV3 R-50-D8, 20K", 77.42, experiment=_R50, protocol=_OS8_MS_FLIP),
    _VAINF("DeepLabV3-ResNet50", 76.9, experiment=_R50),
    _FINAL(77.21),
    _FINAL(78.51, protocol=_OS8),
    _FINAL(79.45, protocol=_OS8_MS),
    _FINAL(79.77, protocol=_OS8_MS_FLIP),
    _FINAL(82.70, protocol=_OS8_MS_FLIP, pretraining=COCO, recipe="other", variant="coco"),
    _TEST("DeepLabv3", 85.7, pretraining=COCO),
    _TEST("DeepLabv3-JFT", 86.9, pretraining=JFT_COCO),
    _MMSEG("DeepLabV3 R-101-D8, 40K", 77.92, experiment=_R101),
    _MMSEG("DeepLabV3 R-101-D8, 40K", 79.18, experiment=_R101, protocol=_OS8_MS_FLIP),
    _MMSEG("DeepLabV3 R-101-D8, 20K", 78.70, experiment=_R101),
    _MMSEG("DeepLabV3 R-101-D8, 20K", 79.95, experiment=_R101, protocol=_OS8_MS_FLIP),
    _VAINF("DeepLabV3-ResNet101", 77.3, experiment=_R101),
    _VAINF("DeepLabV3-MobileNet", 70.1),
    # Deeper with atrous convolution: the cascade.
    *(
        _CASCADE("ResNet-50 to block 7", miou, protocol=Protocol(output_stride))
        for output_stride, miou in (
            (8, 75.18), (16, 73.88), (32, 70.06), (64, 59.99), (128, 42.34), (256, 20.29)
        )
    ),
    *(
        _CASCADE(f"ResNet-50 to block {block}", miou)
        for block, miou in ((4, 64.81), (5, 72.14), (6, 74.29))
    ),
    *(
        _CASCADE(f"ResNet-101 to block {block}, MG({grid})", miou)
        for grid, row in _MG
        for block, miou in zip((4, 5, 6, 7), row, strict=True)
        if (block, grid) != (7, "1, 2, 1")
    ),
    _CASCADE_7(76.66),
    _CASCADE_7(78.05, protocol=_OS8),
    _CASCADE_7(78.93, protocol=_OS8_MS),
    _CASCADE_7(79.35, protocol=_OS8_MS_FLIP),
    # ASPP, without image pooling.
    _ASPP("ASPP(6, 12, 18), MG(1, 1, 1) (ResNet-101)", 75.36),
    _ASPP("ASPP(6, 12, 18), MG(1, 2, 1) (ResNet-101)", 75.93),
    _ASPP("ASPP(6, 12, 18), MG(1, 2, 4) (ResNet-101)", 76.58),
    _ASPP("ASPP(6, 12, 18, 24), MG(1, 2, 4) (ResNet-101)", 76.46),
    # What the training settings are worth, on the final model.
    _APPENDIX("without fine-tuning batch norm", 75.95),
    _APPENDIX("without upsampling the logits", 76.01),
    _APPENDIX("crop 321", 67.22),
    *(
        _APPENDIX(f"batch {batch}", miou)
        for batch, miou in ((4, 64.43), (8, 75.76), (12, 76.49))
    ),
    _APPENDIX("trained at OS 8", 74.45),
    _APPENDIX("trained at OS 32", 75.90),
    _APPENDIX("trained at OS 8", 75.62, protocol=_OS8),
    _APPENDIX("trained at OS 32", 75.75, protocol=_OS8),
    *(
        _APPENDIX(f"asynchronous, {replicas} replicas", miou)
        for replicas, miou in ((2, 77.15), (4, 76.79), (8, 77.02), (16, 77.18), (32, 76.69))
    ),
)  # fmt: skip
