"""FCN on VGG-16: the released "heavy" recipe, CVPR 2015's, and quick runs on synthetic images.

The released networks form a chain: FCN-32s starts from ImageNet's VGG-16, FCN-16s from the trained
FCN-32s, FCN-8s from FCN-16s. `train.init` names the experiment whose weights are taken over.

Where all of them deviate: trained on train_aug (10,582 images), not on SBD's train (8,498), which
overlaps with VOC 2012 val; scored on all of val (1,449 images), not on seg11valid (736), each image
padded to sides of a multiple of 64 px with the mean colour, which the authors' nets see as zeros
too: it is what conv1_1 pads with.
"""

from typing import Any, Literal

from seg_jax.experiments.quick import quick

from seg_jax.backbones.vgg import VGG
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import FCN_CAFFE
from seg_jax.experiment import Experiment, TrainConfig, register
from seg_jax.losses import LossConfig
from seg_jax.models.fcn import FCN
from seg_jax.optim import OptimConfig

CVPR = "Long, Shelhamer & Darrell, CVPR 2015, arXiv:1411.4038"
PAMI = "Shelhamer, Long & Darrell, PAMI 2017, arXiv:1605.06211"
TRAINAUG = 10_582  # images: VOC's train, and SBD's that are not in VOC's val


def _fcn(*skips: Literal["pool4", "pool3"], **fields: Any) -> FCN:
    return FCN(num_classes=21, skips=skips, backbone=VGG(conv1_1_padding=100), **fields)


def _voc() -> DataConfig:
    """Whole images, unchanged. No VOC image is larger than 500x500; smaller ones are padded with
    the mean and IGNORE, so that one compilation serves all: neither adds to the loss.
    """
    return DataConfig(
        dataset="voc2012",
        augmentation=Augmentation(crop=(500, 500), flip=0.0),
        preprocessing=FCN_CAFFE,
        train_split="trainaug",
    )


def _heavy(model: FCN, *, base_lr: float, steps: int = 100_000, init: str = "") -> Experiment:
    """The released solver.prototxt and solve.py: one image a step, a momentum of 0.99 in place of
    a batch, and a loss summed over the pixels, which is why the rates are so small.
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

    Starts from VGG-16 of ImageNet: from random weights these rates train nothing.
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
    """FCN-8s, heavy: 65.5 mIoU on seg11valid, 67.2 on VOC 2012 test (release's README). Continues
    FCN-16s.

    python -m seg_jax train fcn8s_vgg16_voc
    """
    return _heavy(_fcn("pool4", "pool3"), base_lr=1e-14, init="fcn16s_vgg16_voc")


@register("fcn8s_atonce_vgg16_voc", suites=("published", "voc"))
def fcn8s_atonce_vgg16_voc() -> Experiment:
    """FCN-8s trained at once from VGG-16, heavy: 65.4 mIoU on seg11valid (release's README).

        python -m seg_jax train fcn8s_atonce_vgg16_voc

    Without the stages, pool4 and pool3 are scaled down before they are scored, which conditions
    the optimisation better (release's README).
    """
    model = _fcn("pool4", "pool3", pool4_scale=1e-2, pool3_scale=1e-4)
    return _heavy(model, base_lr=1e-10, steps=300_000)


def _cvpr(model: FCN, *, base_lr: float, init: str = "") -> Experiment:
    """CVPR 2015, section 4.3: batches of 20, a momentum of 0.9, learned x2 upsampling.

    The paper leaves open: the loss's normalisation (mean here: 1e-4 is no rate for a sum over 20
    images), and the number of steps ("at least 175 epochs" in Table 1, taken for every stage).
    """
    return Experiment(
        family="FCN",
        paper=CVPR,
        model=model,
        data=_voc(),
        optim=OptimConfig(base_lr=base_lr, momentum=0.9, weight_decay=5e-4),
        train=TrainConfig(steps=175 * TRAINAUG // 20, batch_size=20, init=init),
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

    Continues FCN-16s; the paper names no further drop of the rate.
    """
    model = _fcn("pool4", "pool3", upsampling="learned")
    return _cvpr(model, base_lr=1e-6, init="fcn16s_vgg16_voc_cvpr")


def _quick(*skips: Literal["pool4", "pool3"], **recipe: Any) -> Experiment:
    """A quarter of VGG-11's channels without its second layers. A pool5 of 5x5 cells takes an fc6
    of 3x3; the padding of 33 px keeps the released margin, 16 px of score beyond the image.
    """
    backbone = VGG(width=1 / 4, depths=(1, 1, 1, 1, 1), conv1_1_padding=33)
    model = FCN(skips=skips, fc6_kernel=3, dropout=0.0, width=1 / 32, backbone=backbone)
    return quick(family="FCN", paper=PAMI, model=model, **recipe)


@register("fcn32s_vgg16_synthetic", suites=("quick",))
def fcn32s_vgg16_synthetic() -> Experiment:
    """FCN-32s on synthetic images: misses thin parts and small objects.

    python -m seg_jax train fcn32s_vgg16_synthetic
    """
    return _quick(steps=200)


@register("fcn16s_vgg16_synthetic", suites=("quick",))
def fcn16s_vgg16_synthetic() -> Experiment:
    """FCN-16s on synthetic images. Continues FCN-32s, as the released network does.

    python -m seg_jax train fcn16s_vgg16_synthetic
    """
    return _quick("pool4", init="fcn32s_vgg16_synthetic", steps=120)


@register("fcn8s_vgg16_synthetic", suites=("quick",))
def fcn8s_vgg16_synthetic() -> Experiment:
    """FCN-8s on synthetic images. Continues FCN-16s, as the released network does.

    python -m seg_jax train fcn8s_vgg16_synthetic
    """
    return _quick("pool4", "pool3", init="fcn16s_vgg16_synthetic", steps=120)
