"""Large Kernel Matters (GCN): Peng, Zhang, Yu, Luo, Sun (CVPR 2017, arXiv 1703.02719)."""

from functools import partial

from seg_jax.papers.figure import Figure, Protocol

_PAPER = partial(Figure, family="GCN", source="CVPR 2017, section 4.1", date="2017-03")
_THREE_STAGES = partial(
    _PAPER, experiment="gcn_resnet152_voc", recipe="other", source="CVPR 2017, section 4.2",
    trained_on="COCO + SBD + VOC, in three stages", pretraining="ImageNet + COCO",
)  # fmt: skip
_SERVER = partial(
    _THREE_STAGES, split="test", protocol=Protocol(scales=(), crf=True),
)  # fmt: skip
_R152 = "gcn_resnet152_voc"


def _boundary(boundary: float, internal: float) -> tuple[tuple[str, float], ...]:
    """Pixel accuracy near object boundaries and inside objects, percent."""
    return (("boundary accuracy", boundary), ("internal accuracy", internal))


FIGURES = (
    _PAPER("GCN + BR, k = 15 (ResNet-152)", 74.7, experiment=_R152, metrics=_boundary(73.4, 95.1)),
    _THREE_STAGES("GCN + BR (ResNet-152), stage 3", 80.3),
    _THREE_STAGES("GCN + BR (ResNet-152), stage 3", 80.4, protocol=Protocol(scales=())),
    _THREE_STAGES("GCN + BR (ResNet-152), stage 3", 81.0, protocol=Protocol(scales=(), crf=True)),
    _SERVER("GCN (ResNet-152)", 82.2, source="CVPR 2017, abstract",
            note="DeepLab v3 and v3+ cite 83.6 for this paper: two submissions"),
    _SERVER("Large Kernel Matters", 83.6, source="as cited by arXiv 1706.05587, Table 7",
            date="2017-06", origin="leaderboard",
            note="the paper's abstract says 82.2: two submissions"),
    _PAPER("ResNet-50, GCN + BR", 72.3, experiment="gcn_resnet50_voc", verified="unverified"),
    _PAPER("ResNet50-GCN, GCN + BR", 72.5, verified="unverified"),
    _PAPER("ResNet-50, baseline", 65.7, verified="unverified"),
    _PAPER("ResNet50-GCN, baseline", 71.2, verified="unverified",
           note="the difference of 5.5 to ResNet-50 is verified"),
    _PAPER("1x1 convolution baseline (ResNet-152)", 69.0, metrics=_boundary(71.3, 93.9)),
    *(
        _PAPER(f"GCN, k = {k} (ResNet-152)", miou)
        for k, miou in ((3, 70.1), (5, 71.1), (7, 72.8), (9, 73.4), (11, 73.7), (13, 74.0))
    ),
    _PAPER("GCN, k = 15 (ResNet-152)", 74.5, metrics=_boundary(71.5, 95.0)),
    *(
        _PAPER(f"plain {k}x{k} convolution (ResNet-152)", miou, verified="unverified",
               note="perhaps Table 3's stacks of 3x3; plain kernels may be 69.8/70.4/69.6/68.8")
        for k, miou in ((3, 69.8), (5, 71.8), (7, 71.3), (9, 69.5))
    ),
)  # fmt: skip
