"""SegNet on CamVid (the release, and the paper's study of decoders), on VOC, and a quick run.

On CamVid, training uses 367 whole, unchanged images of 480x360, and the 233 of "test" are scored at
that size, as in the paper's tables.
"""

import functools
from dataclasses import replace
from typing import get_args

from seg_jax.experiments.quick import CLASSES, quick

from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.datasets.camvid import PUBLISHED_WEIGHTS
from seg_jax.data.preprocessing import RAW_BGR
from seg_jax.experiment import EvalConfig, Experiment, TrainConfig, register
from seg_jax.losses import LossConfig
from seg_jax.models.segnet import Decoder, SegNet, SegNetBasic
from seg_jax.nn.norm import Norm
from seg_jax.optim import CAFFE_RULES, OptimConfig, Rule, Schedule

PAPER = "Badrinarayanan, Kendall & Cipolla, PAMI 2017, arXiv:1511.00561"
BAYESIAN = "Kendall, Badrinarayanan & Cipolla, BMVC 2017, arXiv:1511.02680"
SIZE = (360, 480)
VGG16 = "oxford_vgg16_imagenet"
# The release recomputes the norms' statistics after training, in one pass over the training set.
# Here the running averages continue that long at a learning rate of 0; earlier evaluations are
# inaccurate.
SETTLE = 250
# In the release's VGG-16 network the scales of norms decay; their shifts do not, and have no
# doubled learning rate. SegNet-Basic's files do not mention norms: both are treated like kernels.
VGG16_RULES = (Rule(".*_bn/scale"), Rule(".*_bn/bias", decay=0.0), *CAFFE_RULES)
BASIC_RULES = (Rule(".*_bn/.*"), *CAFFE_RULES)


def _camvid(model: SegNet | SegNetBasic, optim: OptimConfig, train: TrainConfig) -> Experiment:
    return Experiment(
        family="SegNet",
        paper=PAPER if model.dropout_at == "none" else BAYESIAN,
        model=model,
        data=DataConfig(
            dataset="camvid",
            augmentation=Augmentation(crop=SIZE, flip=0.0),
            preprocessing=RAW_BGR,
            val_split="test",
        ),
        loss=LossConfig(class_weights=PUBLISHED_WEIGHTS),
        optim=optim,
        train=train,
        evaluation=EvalConfig(bucket=120),  # which divides 360 and 480: nothing is padded
    )


def _vgg16(**fields) -> Experiment:
    """Return the recipe of segnet_train.prototxt and segnet_solver.prototxt."""
    return _camvid(
        SegNet(num_classes=11, **fields),
        OptimConfig(
            base_lr=1e-3, weight_decay=5e-4, schedule=Schedule(settle=SETTLE), rules=VGG16_RULES
        ),
        TrainConfig(steps=40_000 + SETTLE, batch_size=4, init=VGG16),
    )


@register("segnet_vgg16_camvid", suites=("published",))
def segnet_vgg16_camvid() -> Experiment:
    """SegNet as released for CamVid; the paper reports 60.1 mIoU (Table 3, 140K steps).

        python -m seg_jax train segnet_vgg16_camvid

    Class weights are those of the release (median frequency): pedestrian and pole have 30 times the
    weight of road. Starts from VGG-16 trained on ImageNet. The paper's score is for batches of 5
    without class weights and 3433 images, some of which are not public: this run cannot reproduce
    it.
    """
    return _vgg16()


@register("segnet_vgg16_camvid_bayesian", suites=("published",))
def segnet_vgg16_camvid_bayesian() -> Experiment:
    """Bayesian SegNet: dropout in the six central stages, 60K steps.

        python -m seg_jax train segnet_vgg16_camvid_bayesian

    Evaluated without dropout; `seg_jax.models.segnet.mc_dropout` evaluates samples with dropout.
    """
    experiment = _vgg16(dropout_at="central")
    return replace(experiment, train=replace(experiment.train, steps=60_000 + SETTLE))


def _basic(**fields) -> Experiment:
    """segnet_basic_train.prototxt and its solver, with the paper's batch size 12 (release: 4).

    The paper trains until the loss converges, scores val every 1,000 steps, and reports the test
    score of the best by pixel accuracy (section 3.4); the release has 10,000 steps, of which the
    last counts, as here. The paper's selection is `--data.val-split val --train.evaluate-every 1000
    --train.best-metric pixel_accuracy`, then `evaluate RUN --split test`: but before SETTLE the
    norms' running averages are inaccurate, and with them these scores.
    """
    return _camvid(
        SegNetBasic(num_classes=11, **fields),
        OptimConfig(
            base_lr=0.1, weight_decay=5e-4, schedule=Schedule(settle=SETTLE), rules=BASIC_RULES
        ),
        TrainConfig(steps=10_000 + SETTLE, batch_size=12),
    )


@register("segnet_basic_camvid", suites=("published", "camvid_scratch"))
def segnet_basic_camvid() -> Experiment:
    """SegNet-Basic: 47.7 mIoU (Table 1, median-frequency balancing).

    python -m seg_jax train segnet_basic_camvid
    """
    return _basic()


@register("segnet_basic_camvid_bayesian", suites=("published",))
def segnet_basic_camvid_bayesian() -> Experiment:
    """Bayesian SegNet-Basic: dropout in the four central stages.

        python -m seg_jax train segnet_basic_camvid_bayesian

    Evaluated without dropout; `seg_jax.models.segnet.mc_dropout` evaluates samples with dropout.
    """
    return _basic(dropout_at="central")


# The other decoders of Table 1, as `segnet_basic_camvid_<decoder>`, trained like SegNet-Basic.
for _decoder in get_args(Decoder):
    if _decoder != SegNetBasic().decoder:
        register(f"segnet_basic_camvid_{_decoder}", suites=("published", "camvid_scratch"))(
            functools.partial(_basic, decoder=_decoder)
        )


@register("segnet_vgg16_voc", suites=("published", "voc"))
def segnet_vgg16_voc() -> Experiment:
    """SegNet on VOC: 59.9 mIoU on VOC 2012 test; no score on val was published.

        python -m seg_jax train segnet_vgg16_voc

    The authors published only the network (dropout before every pooling and unpooling, 224x224 px).
    The optimiser is that for CamVid; steps, batch size and scales are chosen here. Class weights
    for VOC were not published either, and others report that without them it predicts only
    background and person: `python -m seg_jax data check` prints median-frequency weights for
    --loss.class-weights. Starts from VGG-16 trained on ImageNet.
    """
    return Experiment(
        family="SegNet",
        paper=PAPER,
        model=SegNet(num_classes=21, dropout_at="all"),
        data=DataConfig(
            dataset="voc2012",
            augmentation=Augmentation(crop=(224, 224), scale=(0.5, 1.5)),
            preprocessing=RAW_BGR,
            train_split="trainaug",
        ),
        optim=OptimConfig(
            base_lr=1e-3, weight_decay=5e-4, schedule=Schedule(settle=SETTLE), rules=VGG16_RULES
        ),
        train=TrainConfig(steps=40_000 + SETTLE, batch_size=16, init=VGG16),
    )


@register("segnet_basic_synthetic", suites=("quick",))
def segnet_basic_synthetic() -> Experiment:
    """SegNet-Basic on drawn images, with a quarter of the channels, from random weights.

        python -m seg_jax train segnet_basic_synthetic

    Its encoder is its own: there is no trunk to start from.
    """
    model = SegNetBasic(num_classes=CLASSES, norm=Norm(), width=1 / 4)
    return quick(family="SegNet", paper=PAPER, model=model, steps=300, base_lr=1e-2, init="")
