"""DeepLab v2 on VGG-16 and ResNet-101: the released recipes for VOC, and a quick run.

The scores on val are of the first stage. The second, `..._trainval`, is the authors' training for
the test server: it includes val, so a score on val is not meaningful.

`evaluate RUN` applies the paper's dense CRF (scores "with CRF"); `evaluate RUN --crf none` does
not. The sources disagree on VGG-16's constants (`--crf deeplab_v2_script` is the alternative);
`python -m seg_jax crf search RUN` searches them as the authors did.
"""

from dataclasses import replace

from seg_jax.experiments.quick import CLASSES, quick, trunk

from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import DEEPLAB_CAFFE
from seg_jax.experiment import Builder, EvalConfig, Experiment, TrainConfig, register
from seg_jax.kernels.crf import presets
from seg_jax.losses import LossConfig
from seg_jax.models.deeplab_v2 import ASPP_L, ASPP_S, RESNET101, DeepLabV2
from seg_jax.optim import CAFFE_RULES, OptimConfig, Rule, Schedule

PAPER = "Chen, Papandreou, Kokkinos, Murphy & Yuille, PAMI 2018, arXiv:1606.00915"
# The last layer of each branch learns ten times as fast, its bias twice as fast as that.
VGG16_RULES = (
    Rule(r"fc8(_\d)?/kernel", lr=10.0),
    Rule(r"fc8(_\d)?/bias", lr=20.0, decay=0.0),
    *CAFFE_RULES,
)
RESNET101_RULES = (
    Rule(r"fc1_c\d/kernel", lr=10.0),
    Rule(r"fc1_c\d/bias", lr=20.0, decay=0.0),
    Rule(".*/bn/.*", lr=0.0),
    *CAFFE_RULES,
)
# Four losses: on the fused scores, and on those of each scale before the maximum. The release does
# not upsample the scores of scale 0.5, and subsamples the label by 16 for them instead of 8.
FOUR_LOSSES = LossConfig(
    reduction="image_mean",
    heads=(("out", 1.0), ("scale1", 1.0), ("scale0.75", 1.0), ("scale0.5", 1.0)),
    label_grids=((0, 8), (0, 8), (0, 8), (0, 16)),
)


def _voc(
    model: DeepLabV2,
    *,
    augmentation: Augmentation,
    base_lr: float,
    rules: tuple,
    loss: LossConfig,
    constants: str,
    init: str = "oxford_vgg16_imagenet",
) -> Experiment:
    """Section 4.1 and the released solver.prototxt: 20,000 steps of 10 crops, poly schedule."""
    return Experiment(
        family="DeepLab v2",
        paper=PAPER,
        model=model,
        data=DataConfig(
            dataset="voc2012",
            augmentation=augmentation,
            preprocessing=DEEPLAB_CAFFE,
            train_split="trainaug",
        ),
        loss=loss,
        optim=OptimConfig(
            base_lr=base_lr,
            weight_decay=5e-4,
            schedule=Schedule("poly", power=0.9),
            rules=rules,
        ),
        train=TrainConfig(steps=20_000, batch_size=10, init=init, evaluate_every=5000),
        evaluation=EvalConfig(
            canvas=(513, 513), scaling="align_corners", crf=presets.get(constants)
        ),
    )


def _vgg16(*rates: int) -> Experiment:
    """Return DeepLab v2 on VGG-16 trained on ImageNet; crops and mirror images, no scaling."""
    return _voc(
        DeepLabV2(num_classes=21, rates=rates),
        augmentation=Augmentation(crop=(321, 321)),
        base_lr=1e-3,
        rules=VGG16_RULES,
        loss=LossConfig(label_grids=((0, 8),)),
        constants="deeplab_v2_vgg16",
    )


@register("deeplab_v2_vgg16_voc", suites=("published", "voc"))
def deeplab_v2_vgg16_voc() -> Experiment:
    """DeepLab-ASPP-L on VGG-16: 68.96 mIoU on val, 71.57 with CRF (Table 3).

    python -m seg_jax train deeplab_v2_vgg16_voc
    """
    return _vgg16(*ASPP_L)


@register("deeplab_v2_aspp_s_vgg16_voc", suites=("published",))
def deeplab_v2_aspp_s_vgg16_voc() -> Experiment:
    """DeepLab-ASPP-S on VGG-16: 66.98 mIoU on val, 69.73 with CRF (Table 3).

    python -m seg_jax train deeplab_v2_aspp_s_vgg16_voc
    """
    return _vgg16(*ASPP_S)


@register("deeplab_v2_largefov_vgg16_voc", suites=("published",))
def deeplab_v2_largefov_vgg16_voc() -> Experiment:
    """DeepLab-LargeFOV on VGG-16: 65.76 mIoU on val, 69.84 with CRF (Table 3).

        python -m seg_jax train deeplab_v2_largefov_vgg16_voc

    v1's network without its average pool, trained with v2's schedule.
    """
    return _vgg16(12)


@register("deeplab_v2_resnet101_voc", suites=("published", "voc"))
def deeplab_v2_resnet101_voc() -> Experiment:
    """DeepLab-ASPP on ResNet-101, three scales fused: 76.35 mIoU on val, 77.69 with CRF (Table 4).

        python -m seg_jax train deeplab_v2_resnet101_voc

    The paper starts from the authors' weights trained on MS COCO (init.caffemodel), which the
    catalogue does not have. This recipe starts from torchvision's, trained on ImageNet, whose
    stride is in another convolution of a unit; re-implementations that start from ImageNet reach
    about 70.7. Batch norm is frozen, including scale and bias. The release processes its ten
    crops one by one and averages their losses, each over its own valid pixels; `--train.accumulate
    10` does the same in a tenth of the memory, with an equal result. The network fuses the scales
    in training and at evaluation.
    """
    return _voc(
        DeepLabV2(num_classes=21, fc_channels=0, scales=(1.0, 0.75, 0.5), backbone=RESNET101),
        augmentation=Augmentation(crop=(321, 321), scale=(0.5, 1.5), scale_step=0.25),
        base_lr=2.5e-4,
        rules=RESNET101_RULES,
        loss=FOUR_LOSSES,
        constants="deeplab_v2_resnet101",
        init="torchvision_resnet101_imagenet",
    )


def _second_stage(build: Builder) -> Experiment:
    """Continue a trained network on train_aug and val together (the released solver2.prototxt).

    Number of steps and learning rates are those of the first stage.
    """
    first = build()
    return replace(
        first,
        data=replace(first.data, train_split="trainval_aug"),
        train=replace(first.train, init=build.__name__),
    )


@register("deeplab_v2_vgg16_voc_trainval", suites=("published",))
def deeplab_v2_vgg16_voc_trainval() -> Experiment:
    """The second stage of DeepLab-ASPP-L on VGG-16: 72.6 mIoU on test with CRF.

    python -m seg_jax train deeplab_v2_vgg16_voc_trainval
    """
    return _second_stage(deeplab_v2_vgg16_voc)


@register("deeplab_v2_resnet101_voc_trainval", suites=("published",))
def deeplab_v2_resnet101_voc_trainval() -> Experiment:
    """The second stage of DeepLab-ASPP on ResNet-101: 79.7 mIoU on test with CRF.

        python -m seg_jax train deeplab_v2_resnet101_voc_trainval

    Most converted copies of the authors' weights are of this stage: they score 80 on val because
    they were trained on it.
    """
    return _second_stage(deeplab_v2_resnet101_voc)


@register("deeplab_v2_resnet14_synthetic", suites=("quick",))
def deeplab_v2_resnet14_synthetic() -> Experiment:
    """DeepLab-ASPP on drawn images: four branches of 64 channels.

        python -m seg_jax train deeplab_v2_resnet14_synthetic

    Rates of 2 to 8 on 13x13 scores: relative to the crop about the same as 6 to 24 on 41x41.
    """
    model = DeepLabV2(
        num_classes=CLASSES, rates=(2, 4, 6, 8), dropout=0.0, width=1 / 16, backbone=trunk(8)
    )
    return quick(family="DeepLab v2", paper=PAPER, model=model, label_grids=((0, 8),))
