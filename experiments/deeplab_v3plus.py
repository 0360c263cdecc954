"""DeepLab v3+ on ResNet-101, Xception-65 and MobileNetV2: DeepLab v3's recipe, and a quick run.

The paper uses DeepLab v3's recipe (section 4) at output stride 16, from weights trained on
ImageNet; Xception and MobileNetV2 have a smaller weight decay (release, train.py). `evaluate RUN
--model.backbone.output-stride 8` evaluates the same weights at 8: the rates double automatically.

The norms' momentum is 0.9997, as in the paper, and 0.997 in MobileNetV2; the release's ResNet has
0.95, as the variant "_beta" here. Scores start from a truncated normal distribution. The images
with hard classes are used twice in the second stage, as in DeepLab v3's; that v3+ did so as well is
an assumption.
"""

from dataclasses import replace

from seg_jax.experiments.deeplab_v3 import (
    HARD_CLASSES,
    RELEASED_NORM,
    RESNET101,
    RULES,
    after_coco,
    coco_stage,
    deeplab_v3_resnet101_voc,
)
from seg_jax.experiments.quick import CLASSES, quick, trunk

from seg_jax import config
from seg_jax.backbones.mobilenet_v2 import MobileNetV2
from seg_jax.backbones.resnet import ResNet
from seg_jax.data.preprocessing import TF_MEAN, TF_SYMMETRIC, Preprocessing
from seg_jax.experiment import Experiment, register
from seg_jax.models.deeplab_v3plus import ASPP, PAPER_NORM, Decoder, DeepLabV3Plus
from seg_jax.nn.norm import Norm
from seg_jax.optim import Rule

PAPER = "Chen, Zhu, Papandreou, Schroff & Adam, ECCV 2018, arXiv:1802.02611"
# The release does not decay depthwise kernels (regularize_depthwise is off).
DEPTHWISE_RULES = (Rule(".*/depthwise/conv/kernel", decay=0.0), *RULES)


def _voc(
    model: DeepLabV3Plus,
    *,
    init: str,
    preprocessing: Preprocessing = TF_SYMMETRIC,
    weight_decay: float = 4e-5,
) -> Experiment:
    v3 = deeplab_v3_resnet101_voc()
    return replace(
        v3,
        family="DeepLab v3+",
        paper=PAPER,
        model=model,
        data=replace(v3.data, preprocessing=preprocessing),
        optim=replace(v3.optim, weight_decay=weight_decay, rules=DEPTHWISE_RULES),
        train=replace(v3.train, init=init),
    )


def _resnet101(**backbone) -> DeepLabV3Plus:
    """Sections 4.1 and 4.2, Tables 1 to 3: no separable convolutions."""
    return DeepLabV3Plus(
        num_classes=21,
        aspp=ASPP(),
        decoder=Decoder(convolution="standard"),
        backbone=ResNet(
            101, "slim", output_stride=16, multi_grid=(1, 2, 4), **{"norm": PAPER_NORM, **backbone}
        ),
    )


def _second_stage(first: Experiment, *, init: str) -> Experiment:
    """DeepLab v3's second stage: VOC's trainval, output stride 8, frozen norms."""
    model = first.model.clone(backbone=first.model.backbone.clone(output_stride=8))

    def freeze(node):
        norm = config.fields(node).get("norm")
        return {"norm": replace(norm, statistics="frozen")} if norm else {}

    return replace(
        first,
        model=config.replace_everywhere(model, freeze),
        data=replace(first.data, train_split="trainval", repeat_classes=HARD_CLASSES),
        optim=replace(first.optim, base_lr=0.001),
        train=replace(first.train, init=init),
    )


@register("deeplab_v3plus_resnet101_voc", suites=("published", "voc"))
def deeplab_v3plus_resnet101_voc() -> Experiment:
    """DeepLab v3+ on ResNet-101: 78.85 mIoU on val at output stride 16 (Table 3).

        python -m seg_jax train deeplab_v3plus_resnet101_voc

    With He et al.'s ResNet, which the paper names, although its multiply-adds are those of the stem
    of the variant "_beta".
    """
    return _voc(_resnet101(), init=RESNET101, preprocessing=TF_MEAN, weight_decay=1e-4)


@register("deeplab_v3plus_resnet101_voc_beta", suites=("published",))
def deeplab_v3plus_resnet101_voc_beta() -> Experiment:
    """DeepLab v3+ on ResNet-101 with the release's stem, norms, input range and seven scales.

        python -m seg_jax train deeplab_v3plus_resnet101_voc_beta

    Starts from the release's resnet_v1_101_beta, whose weights only fit this stem.
    """
    model = _resnet101(stem="3x3", norm=RELEASED_NORM)
    chosen = _voc(model, init="google_resnet101_beta_imagenet", weight_decay=1e-4)
    augmentation = replace(chosen.data.augmentation, scale_step=0.25)
    return replace(chosen, data=replace(chosen.data, augmentation=augmentation))


@register("deeplab_v3plus_xception65_voc", suites=("published", "voc"))
def deeplab_v3plus_xception65_voc() -> Experiment:
    """DeepLab v3+ on Xception-65, separable ASPP and decoder: 79.79 mIoU on val (Table 5).

        python -m seg_jax train deeplab_v3plus_xception65_voc

    The score is at output stride 16. With pre-training on COCO it is 82.20: see
    deeplab_v3plus_xception65_voc_coco.
    """
    return _voc(DeepLabV3Plus(num_classes=21), init="google_xception65_imagenet")


@register("deeplab_v3plus_xception65_coco")
def deeplab_v3plus_xception65_coco() -> Experiment:
    """The stage on COCO with VOC's classes, as DeepLab v3's: that v3+ did so is an assumption.

    python -m seg_jax train deeplab_v3plus_xception65_coco
    """
    return coco_stage(deeplab_v3plus_xception65_voc())


@register("deeplab_v3plus_xception65_voc_coco")
def deeplab_v3plus_xception65_voc_coco() -> Experiment:
    """DeepLab v3+ on Xception-65 after COCO: 82.20 mIoU on val at output stride 16 (Table 5).

        python -m seg_jax train deeplab_v3plus_xception65_voc_coco

    Continues deeplab_v3plus_xception65_coco, at DeepLab v3's rate after COCO.
    """
    return after_coco(deeplab_v3plus_xception65_voc(), init="deeplab_v3plus_xception65_coco")


@register("deeplab_v3plus_xception65_voc_trainval", suites=("published",))
def deeplab_v3plus_xception65_voc_trainval() -> Experiment:
    """The second stage, for the test server: VOC's trainval, output stride 8, frozen norms.

        python -m seg_jax train deeplab_v3plus_xception65_voc_trainval

    Continues deeplab_v3plus_xception65_voc; 87.8 mIoU on test with pre-training on COCO. It trains
    on val, so a score on val is not meaningful. Images with hard classes are used twice, as in
    DeepLab v3's second stage.
    """
    name = "deeplab_v3plus_xception65_voc"
    return _second_stage(deeplab_v3plus_xception65_voc(), init=name)


def _mobilenetv2(width: float = 1.0) -> DeepLabV3Plus:
    """As released: image pooling and a 1x1 convolution, without atrous branches or decoder."""
    return DeepLabV3Plus(
        num_classes=21, aspp=ASPP(rates=()), decoder=None, backbone=MobileNetV2(width=width)
    )


@register("deeplab_v3plus_mobilenetv2_voc", suites=("published", "voc"))
def deeplab_v3plus_mobilenetv2_voc() -> Experiment:
    """DeepLab on MobileNetV2, without ASPP and decoder: 75.32 mIoU on val (release's model zoo).

        python -m seg_jax train deeplab_v3plus_mobilenetv2_voc

    That score is with pre-training on COCO, which this experiment does not include; no score
    without it was published.
    """
    return _voc(_mobilenetv2(), init="google_mobilenetv2_imagenet_uint8")


@register("deeplab_v3plus_mobilenetv2_voc_dm05", suites=("published",))
def deeplab_v3plus_mobilenetv2_voc_dm05() -> Experiment:
    """The same with half of MobileNetV2's channels: 70.19 mIoU on val with COCO (model zoo).

        python -m seg_jax train deeplab_v3plus_mobilenetv2_voc_dm05

    The catalogue has no ImageNet weights of half the channels: it trains from scratch, which cannot
    reach that score.
    """
    return _voc(_mobilenetv2(width=0.5), init="none")


@register("deeplab_v3plus_resnet14_synthetic", suites=("quick",))
def deeplab_v3plus_resnet14_synthetic() -> Experiment:
    """DeepLab v3+ on drawn images: ASPP and decoder with 64 channels, output stride 16.

        python -m seg_jax train deeplab_v3plus_resnet14_synthetic

    Rates of 1, 2 and 3 on 7x7 samples: relative to the crop about the same as 6, 12 and 18 on
    33x33. It trains as long as DeepLab v3.
    """
    norm, width = Norm(), 1 / 4
    model = DeepLabV3Plus(
        num_classes=CLASSES,
        aspp=ASPP(rates=(1, 2, 3), dropout=0.0, norm=norm, width=width),
        decoder=Decoder(low_level="c2", convolution="standard", norm=norm, width=width),
        backbone=trunk(16),
    )
    return quick(family="DeepLab v3+", paper=PAPER, model=model, steps=160)
