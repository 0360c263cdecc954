"""FCN on VGG-16: the released "heavy" recipe, CVPR 2015's, and quick runs on synthetic images.

The networks are trained in a chain: FCN-32s starts from ImageNet's VGG-16, FCN-16s from the trained
FCN-32s, FCN-8s from FCN-16s. `train.init` names the experiment whose weights are the initial ones.

As published, they train on SBD's train (8,498 images, some of them in VOC 2012 val) and are scored
on seg11valid (736 images of VOC 2011 val that are not in it), each image padded to multiples of 64
px by the mean colour: zeros to the network, as in conv1_1's own padding. `--data.train-split
trainaug --data.val-split val` are the other networks' splits. The release draws its images with
replacement; here every epoch has each image once. The padding colour is rounded to whole grey
levels (123 for 122.68); the release pads with exactly 0 after the subtraction.
"""

from typing import Any, Literal

from seg_jax.experiments.quick import CLASSES, quick, trunk

from seg_jax.backbones.vgg import VGG
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import FCN_CAFFE
from seg_jax.experiment import Experiment, TrainConfig, register
from seg_jax.losses import LossConfig
from seg_jax.models.fcn import FCN
from seg_jax.optim import OptimConfig

CVPR = "Long, Shelhamer & Darrell, CVPR 2015, arXiv:1411.4038"
PAMI = "Shelhamer, Long & Darrell, PAMI 2017, arXiv:1605.06211"
SBD_TRAIN = 8_498  # images
VGG16 = "oxford_vgg16_imagenet"


def _fcn(*skips: Literal["pool4", "pool3"], **fields: Any) -> FCN:
    return FCN(num_classes=21, skips=skips, backbone=VGG(conv1_1_padding=100), **fields)


def _voc() -> DataConfig:
    """Return the data of whole, unchanged images, padded to 500x500, the largest size in VOC.

    They are padded with the mean and IGNORE, which does not change the loss, so that one
    compilation suffices.
    """
    return DataConfig(
        dataset="voc2012",
        augmentation=Augmentation(crop=(500, 500), flip=0.0),
        preprocessing=FCN_CAFFE,
        train_split="sbd_train",
        val_split="seg11valid",
    )


def _heavy(model: FCN, *, base_lr: float, steps: int = 100_000, init: str = VGG16) -> Experiment:
    """The released solver.prototxt and solve.py: one image per step with a momentum of 0.99.

    The learning rates are small because the loss is summed over the pixels.
    """
    return Experiment(
        family="FCN",
        paper=PAMI,
        model=model,
        data=_voc(),
        loss=LossConfig(reduction="sum"),
        optim=OptimConfig(base_lr=base_lr, momentum=0.99, weight_decay=5e-4),
        train=TrainConfig(
            steps=steps, batch_size=1, init=init, evaluate_every=4000, checkpoint_every=4000
        ),
    )


@register("fcn32s_vgg16_voc", suites=("published", "voc"))
def fcn32s_vgg16_voc() -> Experiment:
    """FCN-32s, heavy: 63.6 mIoU on seg11valid (release's README).

        python -m seg_jax train fcn32s_vgg16_voc

    Starts from VGG-16 trained on ImageNet: from random weights these rates are too small.
    """
    return _heavy(_fcn(), base_lr=1e-10)


@register("fcn16s_vgg16_voc", suites=("published", "voc"))
def fcn16s_vgg16_voc() -> Experiment:
    """FCN-16s, heavy: 65.0 mIoU on seg11valid (release's README). Continues FCN-32s.

    python -m seg_jax train fcn16s_vgg16_voc
    """
    return _heavy(_fcn("pool4"), base_lr=1e-12, init="fcn32s_vgg16_voc")


@register("fcn8s_vgg16_voc", suites=("published", "voc"))
def fcn8s_vgg16_voc() -> Experiment:
    """FCN-8s, heavy: 65.5 mIoU on seg11valid, 67.2 on VOC 2012 test (release's README).

        python -m seg_jax train fcn8s_vgg16_voc

    Continues FCN-16s.
    """
    return _heavy(_fcn("pool4", "pool3"), base_lr=1e-14, init="fcn16s_vgg16_voc")


@register("fcn8s_atonce_vgg16_voc", suites=("published", "voc"))
def fcn8s_atonce_vgg16_voc() -> Experiment:
    """FCN-8s trained at once from VGG-16, heavy: 65.4 mIoU on seg11valid (release's README).

        python -m seg_jax train fcn8s_atonce_vgg16_voc

    Because there are no stages, pool4 and pool3 are scaled down before their score layers, which
    improves the conditioning of the optimisation (release's README).
    """
    model = _fcn("pool4", "pool3", pool4_scale=1e-2, pool3_scale=1e-4)
    return _heavy(model, base_lr=1e-10, steps=300_000)


def _cvpr(model: FCN, *, base_lr: float, init: str = VGG16) -> Experiment:
    """CVPR 2015, section 4.3: batches of 20, a momentum of 0.9, learned 2x upsampling.

    The paper does not specify the normalisation of the loss (the mean here: a rate of 1e-4 is too
    large for a sum over 20 images) and the number of steps ("at least 175 epochs" in Table 1).
    FCN-32s took three days, FCN-16s and FCN-8s one more each (section 4.3), so these have a third
    of its steps here: a guess.
    """
    return Experiment(
        family="FCN",
        paper=CVPR,
        model=model,
        data=_voc(),
        optim=OptimConfig(base_lr=base_lr, momentum=0.9, weight_decay=5e-4),
        train=TrainConfig(
            steps=175 * SBD_TRAIN // (20 if init == VGG16 else 60), batch_size=20, init=init
        ),
    )


@register("fcn32s_vgg16_voc_cvpr", suites=("published",))
def fcn32s_vgg16_voc_cvpr() -> Experiment:
    """FCN-32s of 2014: 59.4 mIoU on a part of VOC 2011 val (CVPR 2015, Table 2).

    python -m seg_jax train fcn32s_vgg16_voc_cvpr
    """
    return _cvpr(_fcn(upsampling="learned"), base_lr=1e-4)


@register("fcn16s_vgg16_voc_cvpr", suites=("published",))
def fcn16s_vgg16_voc_cvpr() -> Experiment:
    """FCN-16s of 2014: 62.4 mIoU on a part of VOC 2011 val (CVPR 2015, Table 2).

        python -m seg_jax train fcn16s_vgg16_voc_cvpr

    Continues FCN-32s at a hundredth of its rate (section 4.2).
    """
    model = _fcn("pool4", upsampling="learned")
    return _cvpr(model, base_lr=1e-6, init="fcn32s_vgg16_voc_cvpr")


@register("fcn8s_vgg16_voc_cvpr", suites=("published",))
def fcn8s_vgg16_voc_cvpr() -> Experiment:
    """FCN-8s of 2014: 62.7 mIoU on a part of VOC 2011 val, 62.2 on VOC 2012 test (CVPR 2015).

        python -m seg_jax train fcn8s_vgg16_voc_cvpr

    Continues FCN-16s; the paper specifies no further reduction of the rate.
    """
    model = _fcn("pool4", "pool3", upsampling="learned")
    return _cvpr(model, base_lr=1e-6, init="fcn16s_vgg16_voc_cvpr")


def _quick(*skips: Literal["pool4", "pool3"], **recipe: Any) -> Experiment:
    model = FCN(num_classes=CLASSES, skips=skips, fc_channels=0, backbone=trunk(32))
    return quick(family="FCN", paper=PAMI, model=model, **recipe)


@register("fcn32s_resnet14_synthetic", suites=("quick",))
def fcn32s_resnet14_synthetic() -> Experiment:
    """FCN-32s on drawn images: one score every 32 px, which thin parts and small objects escape.

    python -m seg_jax train fcn32s_resnet14_synthetic
    """
    return _quick()


@register("fcn16s_resnet14_synthetic", suites=("quick",))
def fcn16s_resnet14_synthetic() -> Experiment:
    """FCN-16s on drawn images. Continues FCN-32s, as the released network does.

    python -m seg_jax train fcn16s_resnet14_synthetic
    """
    return _quick("pool4", init="fcn32s_resnet14_synthetic")


@register("fcn8s_resnet14_synthetic", suites=("quick",))
def fcn8s_resnet14_synthetic() -> Experiment:
    """FCN-8s on drawn images. Continues FCN-16s, as the released network does.

    python -m seg_jax train fcn8s_resnet14_synthetic
    """
    return _quick("pool4", "pool3", init="fcn16s_resnet14_synthetic")
