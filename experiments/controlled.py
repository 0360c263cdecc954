"""The suite `controlled`: every head of the line on one backbone, data set and recipe.

None of these is a paper's experiment. Published figures of the line differ in backbone,
pre-training, images, schedule and protocol as well as in the head; here only the head differs. What
all share: MobileNetV2 at its ImageNet weights, CamVid's 367 training images, crops of 257 px of
scales 0.75 to 1.5, batches of 8, SGD with a polynomial rate, SegNet's median-frequency class
weights, 1,500 steps, and a plain evaluation of whole images at their own size.

What differs beyond the head, because it is a part of it: its output stride, 32 for FCN's scores and
the decoders with skips, 16 for the heads of a dilated backbone (8 in the papers of DeepLab v1, v2
and PSPNet, at three times the cost). Heads with hundreds of channels in their papers have 128 or
256 here, as the backbone has fewer. SegNet's decoder is missing: it needs a backbone that pools.

The weights are Google's quantised ones, whose batch norms are folded; the start of a training
estimates their statistics (`pretrained.folded`):

    python -m seg_jax weights import mobilenet_v2_1.0_224_quant.tflite \
        --as google_mobilenetv2_imagenet_uint8
    python -m seg_jax reproduce controlled --seeds 3 --data CAMVID

Rates are those of a search for each head, the same for all: the six of `sweeps.controlled_lr`, 100
steps on crops of 129 px, scored on a fifth of train that is left out (docs/controlled.md has the
command).
"""

from dataclasses import replace
from typing import Any, Literal

from seg_jax.backbones.mobilenet_v2 import MobileNetV2
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.datasets.camvid import PUBLISHED_WEIGHTS
from seg_jax.data.preprocessing import TF_SYMMETRIC
from seg_jax.experiment import EvalConfig, Experiment, TrainConfig, register
from seg_jax.kernels.crf import CrfParams
from seg_jax.losses import LossConfig
from seg_jax.models.deeplab_v1 import DeepLabV1
from seg_jax.models.deeplab_v2 import DeepLabV2
from seg_jax.models.deeplab_v3plus import ASPP, Decoder, DeepLabV3Plus
from seg_jax.models.fcn import FCN
from seg_jax.models.gcn import GCN
from seg_jax.models.pspnet import PSPNet, PyramidPooling
from seg_jax.models.unet import UNet
from seg_jax.nn.norm import Norm
from seg_jax.optim import OptimConfig, Rule, Schedule

WEIGHTS = "google_mobilenetv2_imagenet_uint8"
# 1,500 steps are too few for the papers' 0.9997: the averages would still hold the start. Epsilon
# is that of the release, of which the weights come.
NORM = Norm(momentum=0.99, epsilon=1e-3)
CLASSES = 11
WIDTH = 1 / 2  # of the heads: 128 channels where ResNet's have 256
# Only kernels decay; every layer learns at the same rate.
RULES = (Rule(".*/kernel"), Rule(".*", decay=0.0))


def backbone(output_stride: int) -> MobileNetV2:
    """Return the backbone that all heads share."""
    return MobileNetV2(output_stride=output_stride, norm=NORM)


def controlled(
    *, family: str, paper: str, model: Any, base_lr: float = 0.03, **loss: Any
) -> Experiment:
    """Return the common recipe with a model of 11 classes.

    Args:
      family: the architecture's name.
      paper: source of the head.
      model: the network.
      base_lr: the head's rate.
      **loss: fields of LossConfig, for heads with auxiliary outputs.
    """
    return Experiment(
        family=family,
        paper=paper,
        model=model,
        data=DataConfig(
            dataset="camvid",
            augmentation=Augmentation(crop=(257, 257), scale=(0.75, 1.5)),
            preprocessing=TF_SYMMETRIC,
        ),
        loss=LossConfig(class_weights=PUBLISHED_WEIGHTS, **loss),
        optim=OptimConfig(
            base_lr=base_lr,
            optimizer="sgd_torch",
            weight_decay=4e-5,
            schedule=Schedule("poly", warmup=50),
            rules=RULES,
        ),
        train=TrainConfig(
            steps=1500,
            batch_size=8,
            init=WEIGHTS,
            evaluate_every=500,
            checkpoint_every=250,
        ),
        # 360x480 becomes 385x481, which suits every head: 32 k + 1.
        evaluation=EvalConfig(bucket=32, bucket_rest=1),
    )


@register("deeplab_v3_mobilenetv2_camvid", suites=("controlled",))
def deeplab_v3_mobilenetv2_camvid() -> Experiment:
    """DeepLab v3's ASPP with 128 channels on MobileNetV2, output stride 16.

        python -m seg_jax train deeplab_v3_mobilenetv2_camvid

    Rates 6, 12 and 18 as in the paper, on 17x17 samples of a crop.
    """
    aspp = ASPP(norm=NORM, width=WIDTH)
    return controlled(
        family="DeepLab v3",
        paper="Chen, Papandreou, Schroff & Adam, arXiv:1706.05587",
        model=DeepLabV3Plus(num_classes=CLASSES, aspp=aspp, decoder=None, backbone=backbone(16)),
    )


@register("deeplab_v3plus_mobilenetv2_camvid", suites=("controlled",))
def deeplab_v3plus_mobilenetv2_camvid() -> Experiment:
    """DeepLab v3+: the same with its decoder of 128 channels.

    python -m seg_jax train deeplab_v3plus_mobilenetv2_camvid
    """
    model = DeepLabV3Plus(
        num_classes=CLASSES,
        aspp=ASPP(norm=NORM, width=WIDTH),
        decoder=Decoder(norm=NORM, width=WIDTH),
        backbone=backbone(16),
    )
    return controlled(
        family="DeepLab v3+",
        paper="Chen, Zhu, Papandreou, Schroff & Adam, ECCV 2018, arXiv:1802.02611",
        model=model,
        base_lr=0.06,
    )


def _fcn(skips: tuple[Literal["pool4", "pool3"], ...], base_lr: float) -> Experiment:
    return controlled(
        base_lr=base_lr,
        family="FCN",
        paper="Long, Shelhamer & Darrell, CVPR 2015, arXiv:1411.4038",
        model=FCN(num_classes=CLASSES, skips=skips, fc_channels=0, backbone=backbone(32)),
    )


@register("fcn32s_mobilenetv2_camvid", suites=("controlled",))
def fcn32s_mobilenetv2_camvid() -> Experiment:
    """FCN-32s: scores of stride 32, interpolated; MobileNetV2 has no fully connected layers.

    python -m seg_jax train fcn32s_mobilenetv2_camvid
    """
    return _fcn((), base_lr=0.005)


@register("fcn8s_mobilenetv2_camvid", suites=("controlled",))
def fcn8s_mobilenetv2_camvid() -> Experiment:
    """FCN-8s: scores of strides 32, 16 and 8, added; trained at once.

    python -m seg_jax train fcn8s_mobilenetv2_camvid
    """
    return _fcn(("pool4", "pool3"), base_lr=0.002)


@register("unet_mobilenetv2_camvid", suites=("controlled",))
def unet_mobilenetv2_camvid() -> Experiment:
    """U-Net's decoder, up to full size.

    python -m seg_jax train unet_mobilenetv2_camvid
    """
    model = UNet(num_classes=CLASSES, padding="same", norm=NORM, backbone=backbone(32))
    return controlled(
        family="U-Net",
        paper="Ronneberger, Fischer & Brox, MICCAI 2015, arXiv:1505.04597",
        model=model,
        base_lr=0.06,
    )


@register("deeplab_v1_largefov_mobilenetv2_camvid", suites=("controlled",))
def deeplab_v1_largefov_mobilenetv2_camvid() -> Experiment:
    """DeepLab v1's LargeFOV: an atrous 3x3 fc6, and fc7, with 256 channels; output stride 16.

    python -m seg_jax train deeplab_v1_largefov_mobilenetv2_camvid
    """
    return controlled(
        family="DeepLab v1",
        paper="Chen, Papandreou, Kokkinos, Murphy & Yuille, ICLR 2015, arXiv:1412.7062",
        model=DeepLabV1(num_classes=CLASSES, fc_channels=256, backbone=backbone(16)),
    )


@register("deeplab_v2_mobilenetv2_camvid", suites=("controlled",))
def deeplab_v2_mobilenetv2_camvid() -> Experiment:
    """DeepLab v2's ASPP: four branches of 128 channels, whose scores are added; output stride 16.

    python -m seg_jax train deeplab_v2_mobilenetv2_camvid
    """
    return controlled(
        family="DeepLab v2",
        paper="Chen, Papandreou, Kokkinos, Murphy & Yuille, PAMI 2018, arXiv:1606.00915",
        model=DeepLabV2(num_classes=CLASSES, fc_channels=128, backbone=backbone(16)),
        base_lr=0.01,
    )


@register("pspnet_mobilenetv2_camvid", suites=("controlled",))
def pspnet_mobilenetv2_camvid() -> Experiment:
    """PSPNet's pyramid pooling, without its auxiliary loss; output stride 16.

    python -m seg_jax train pspnet_mobilenetv2_camvid
    """
    model = PSPNet(
        num_classes=CLASSES,
        aux=False,
        norm=NORM,
        width=WIDTH,
        pyramid=PyramidPooling(norm=NORM),
        backbone=backbone(16),
    )
    return controlled(
        family="PSPNet",
        paper="Zhao, Shi, Qi, Wang & Jia, CVPR 2017, arXiv:1612.01105",
        model=model,
        base_lr=0.002,
    )


@register("gcn_mobilenetv2_camvid", suites=("controlled",))
def gcn_mobilenetv2_camvid() -> Experiment:
    """GCN: large separable kernels on four maps, with boundary refinement.

    python -m seg_jax train gcn_mobilenetv2_camvid
    """
    return controlled(
        family="GCN",
        paper="Peng, Zhang, Yu, Luo & Sun, CVPR 2017, arXiv:1703.02719",
        model=GCN(num_classes=CLASSES, alignment="corners", backbone=backbone(32)),
        base_lr=0.002,
    )


@register("deeplab_v3_mobilenetv2_camvid_plain", suites=("controlled_steps",))
def deeplab_v3_mobilenetv2_camvid_plain() -> Experiment:
    """DeepLab v3 without the recipe's class weights and scales.

    python -m seg_jax train deeplab_v3_mobilenetv2_camvid_plain
    """
    whole = deeplab_v3_mobilenetv2_camvid()
    augmentation = replace(whole.data.augmentation, scale=(1.0, 1.0))
    data = replace(whole.data, augmentation=augmentation)
    return replace(whole, data=data, loss=LossConfig())


@register("deeplab_v3_mobilenetv2_camvid_scratch", suites=("controlled_steps",))
def deeplab_v3_mobilenetv2_camvid_scratch() -> Experiment:
    """The plain recipe from random weights.

    python -m seg_jax train deeplab_v3_mobilenetv2_camvid_scratch
    """
    plain = deeplab_v3_mobilenetv2_camvid_plain()
    return replace(plain, train=replace(plain.train, init=""))


@register("deeplab_v3_mobilenetv2_camvid_half", suites=("controlled_steps",))
def deeplab_v3_mobilenetv2_camvid_half() -> Experiment:
    """From random weights, on a MobileNetV2 with half the channels.

    python -m seg_jax train deeplab_v3_mobilenetv2_camvid_half
    """
    scratch = deeplab_v3_mobilenetv2_camvid_scratch()
    narrow = scratch.model.backbone.clone(width=0.5)
    return replace(scratch, model=scratch.model.clone(backbone=narrow))


# Found by `crf search` on 25 images of val (docs/controlled.md); DeepLab's constants are for VOC.
CRF = CrfParams(
    bilateral_weight=6.0, bilateral_px=120.0, bilateral_rgb=8.0, spatial_weight=3.0, spatial_px=3.0
)
# Networks without a decoder, which `reproduce controlled` scores with a CRF as well.
REFINED = tuple(
    (f"{name}_mobilenetv2_camvid", CRF)
    for name in ("fcn32s", "deeplab_v1_largefov", "deeplab_v2", "pspnet", "deeplab_v3")
)

# What `reproduce controlled` draws: (what changes, experiment, fields of its evaluation), each
# compared with the one before. "_half", "_scratch" and "_plain" are trained only for this.
_VIEWS = {"scales": (0.75, 1.0, 1.25), "flip": True}
WATERFALL = (
    ("v3 on half a backbone, random", "deeplab_v3_mobilenetv2_camvid_half"),
    ("backbone: all its channels", "deeplab_v3_mobilenetv2_camvid_scratch"),
    ("pre-training: ImageNet", "deeplab_v3_mobilenetv2_camvid_plain"),
    ("recipe: class weights, scales", "deeplab_v3_mobilenetv2_camvid"),
    ("head: v3+", "deeplab_v3plus_mobilenetv2_camvid"),
    ("protocol: 3 scales, mirrored", "deeplab_v3plus_mobilenetv2_camvid", _VIEWS),
    (
        "CRF",
        "deeplab_v3plus_mobilenetv2_camvid",
        {**_VIEWS, "crf": CRF},
    ),
)
