"""DeepLab v3 on ResNet-50 and ResNet-101: the paper's recipe for VOC, and a quick run.

Where the paper and its release differ, the paper is followed:

    here                                     release (tensorflow/models, research/deeplab)
    norm momentum 0.9997 everywhere          0.95 in the ResNet
    any scale from 0.5 to 2                  0.5, 0.75, ..., 2
    learning rate 0.001 in the second stage  0.0001 (a comment in train.py): --optim.base-lr 1e-4
    second stage: norms are frozen, with     scale and bias go on learning (fine_tune_batch_norm
      their scale and bias                   only sets is_training): Norm "frozen_statistics"
    convolutions start He-normal             slim's default, Xavier, where they are not pre-trained
    scores start normal, deviation 0.01      truncated normal, 0.01
    ResNet's 7x7 stem, mean subtracted       3x3, inputs from -1 to 1: the variants "_beta"

The paper's ResNet of the 7x7 stem was not released in its variant; torchvision's ImageNet weights
have its shapes, with stride 2 in the first unit of a block instead of the last of the one before.
Padding is rounded to whole grey levels (128 for 127.5); the release pads with exactly 0.

The stage on COCO, before VOC, is an experiment of its own, `..._coco`, from which `..._voc_coco`
goes on. The paper has its images (of COCO's classes those of VOC, on images with more than 1,000
labelled pixels, about 60,000) and VOC's rate after it, 0.0001; not its length and its own rate,
which are VOC's here. docs/recipes.md has the commands.

The paper trains at output stride 16 and evaluates at 8 with the same weights: 78.51 mIoU
instead of 77.21.
"""

from dataclasses import replace

from seg_jax.experiments.quick import CLASSES, quick, trunk

from seg_jax.backbones.resnet import Depth, ResNet
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import TF_MEAN, TF_SYMMETRIC
from seg_jax.experiment import EvalConfig, Experiment, TrainConfig, register
from seg_jax.models.deeplab_v3 import ASPP, PAPER_NORM, DeepLabV3
from seg_jax.nn.norm import Norm
from seg_jax.optim import OptimConfig, Rule, Schedule
from seg_jax.types import VOC_CLASSES

RESNET101 = "torchvision_resnet101_imagenet"
RELEASED_NORM = replace(PAPER_NORM, momentum=0.95)  # of its ResNets
PAPER = "Chen, Papandreou, Schroff & Adam, arXiv:1706.05587"
# The release: biases (of the scores only, not of norms) learn twice as fast; only convolutions
# decay.
RULES = (
    Rule(".*/kernel"),
    Rule("logits/bias", lr=2.0, decay=0.0),
    Rule(".*/bn/.*", decay=0.0),
)
# Images with these are duplicated for the test server (the paper's "bootstrapping").
HARD_CLASSES = tuple(
    map(VOC_CLASSES.index, ("bicycle", "chair", "diningtable", "pottedplant", "sofa"))
)


COCO_IMAGES = "labelled"  # list of the images with more than 1,000 labelled pixels


def _model(depth: Depth, **backbone) -> DeepLabV3:
    fields = {"output_stride": 16, "multi_grid": (1, 2, 4), "norm": PAPER_NORM, **backbone}
    return DeepLabV3(num_classes=21, backbone=ResNet(depth, "slim", **fields))


def _voc(model: DeepLabV3, *, init: str) -> Experiment:
    """Section 4.1: 30,000 steps of 16 crops, with synchronised, trained norms."""
    return Experiment(
        family="DeepLab v3",
        paper=PAPER,
        model=model,
        data=DataConfig(
            dataset="voc2012",
            augmentation=Augmentation(crop=(513, 513), scale=(0.5, 2.0)),
            preprocessing=TF_MEAN,
            train_split="trainaug",
        ),
        optim=OptimConfig(
            base_lr=0.007,
            optimizer="sgd_torch",  # TensorFlow's momentum is PyTorch's
            weight_decay=1e-4,
            schedule=Schedule("poly", power=0.9),
            rules=RULES,
        ),
        train=TrainConfig(steps=30_000, batch_size=16, init=init, evaluate_every=5000),
        evaluation=EvalConfig(canvas=(513, 513), scaling="align_corners"),
    )


@register("deeplab_v3_resnet50_voc", suites=("published", "voc"))
def deeplab_v3_resnet50_voc() -> Experiment:
    """DeepLab v3 on ResNet-50, trained like the paper's ResNet-101.

        python -m seg_jax train deeplab_v3_resnet50_voc

    Starts from weights trained on ImageNet. The paper uses ResNet-50 only in its cascade.
    """
    return _voc(_model(50), init="torchvision_resnet50_imagenet")


@register("deeplab_v3_resnet101_voc", suites=("published", "voc"))
def deeplab_v3_resnet101_voc() -> Experiment:
    """DeepLab v3 on ResNet-101: 77.21 mIoU on val at output stride 16 (Table 5).

        python -m seg_jax train deeplab_v3_resnet101_voc

    Starts from weights trained on ImageNet. With a batch size of 8 the score falls to 75.76, with 4
    to 64.43 (Table 8).
    """
    return _voc(_model(101), init=RESNET101)


@register("deeplab_v3_resnet101_voc_beta", suites=("published",))
def deeplab_v3_resnet101_voc_beta() -> Experiment:
    """DeepLab v3 on ResNet-101 with the release's stem, norms, input range and seven scales.

        python -m seg_jax train deeplab_v3_resnet101_voc_beta

    Starts from the release's resnet_v1_101_beta, whose weights only fit this stem.
    """
    model = _model(101, stem="3x3", norm=RELEASED_NORM)
    chosen = _voc(model, init="google_resnet101_beta_imagenet")
    augmentation = replace(chosen.data.augmentation, scale_step=0.25)
    data = replace(chosen.data, preprocessing=TF_SYMMETRIC, augmentation=augmentation)
    return replace(chosen, data=data)


@register("deeplab_v3_resnet101_voc_cascade", suites=("published",))
def deeplab_v3_resnet101_voc_cascade() -> Experiment:
    """Blocks 5 to 7 in cascade, multi-grid (1, 2, 1): 76.66 mIoU on val (Table 3).

        python -m seg_jax train deeplab_v3_resnet101_voc_cascade

    The score is at output stride 16.
    """
    model = _model(101, multi_grid=(1, 2, 1), cascade=3)
    return _voc(model.clone(aspp=None), init=RESNET101)


@register("deeplab_v3_resnet101_voc_trainval", suites=("published",))
def deeplab_v3_resnet101_voc_trainval() -> Experiment:
    """The second stage, for the test server: VOC's trainval, output stride 8, frozen norms.

        python -m seg_jax train deeplab_v3_resnet101_voc_trainval

    Continues deeplab_v3_resnet101_voc. It trains on val, so a score on val is not meaningful.
    Images with HARD_CLASSES are used twice.
    """
    frozen = Norm(statistics="frozen")
    first = _voc(_model(101, output_stride=8, norm=frozen), init=RESNET101)
    return replace(
        first,
        model=first.model.clone(norm=frozen, aspp=ASPP(norm=frozen)),
        data=replace(first.data, train_split="trainval", repeat_classes=HARD_CLASSES),
        optim=replace(first.optim, base_lr=0.001),
        train=replace(first.train, init="deeplab_v3_resnet101_voc"),
    )


def coco_stage(first: Experiment) -> Experiment:
    """Return the stage on COCO with VOC's classes, of the recipe that comes after it."""
    data = replace(first.data, dataset="coco_voc", train_split=COCO_IMAGES)
    return replace(first, data=data)


def after_coco(first: Experiment, *, init: str) -> Experiment:
    """Return a recipe that continues a stage on COCO, at a smaller rate (section 4.1)."""
    optim = replace(first.optim, base_lr=1e-4)
    return replace(first, optim=optim, train=replace(first.train, init=init))


@register("deeplab_v3_resnet101_coco")
def deeplab_v3_resnet101_coco() -> Experiment:
    """The stage on COCO with VOC's classes. Starts from weights trained on ImageNet.

    python -m seg_jax train deeplab_v3_resnet101_coco
    """
    return coco_stage(deeplab_v3_resnet101_voc())


@register("deeplab_v3_resnet101_voc_coco")
def deeplab_v3_resnet101_voc_coco() -> Experiment:
    """DeepLab v3 after COCO: 82.70 mIoU on val at output stride 8, six scales, mirrored (4.1).

        python -m seg_jax train deeplab_v3_resnet101_voc_coco

    Continues deeplab_v3_resnet101_coco.
    """
    return after_coco(deeplab_v3_resnet101_voc(), init="deeplab_v3_resnet101_coco")


@register("deeplab_v3_resnet14_synthetic", suites=("quick",))
def deeplab_v3_resnet14_synthetic() -> Experiment:
    """DeepLab v3 on drawn images: ASPP with 64 channels.

        python -m seg_jax train deeplab_v3_resnet14_synthetic

    Rates of 2, 4 and 6 on 13x13 scores: relative to the crop about the same as 6, 12 and 18 on
    33x33. It trains twice as long as heads with fewer layers of their own: after 80 steps it has
    not learnt the rarest class.
    """
    norm = Norm()
    aspp = ASPP(rates=(1, 2, 3), dropout=0.0, norm=norm, width=1 / 4)
    model = DeepLabV3(num_classes=CLASSES, aspp=aspp, norm=norm, backbone=trunk(8))
    return quick(family="DeepLab v3", paper=PAPER, model=model, steps=160)
