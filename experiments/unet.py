"""U-Net as published for ISBI 2012, on VOC (not in the paper), and a quick run.

Paper and release do not specify learning rate, weight decay and number of steps; the values here
are our choice.
"""

from seg_jax.experiments.quick import CLASSES, quick

from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import TF_SYMMETRIC, Preprocessing
from seg_jax.experiment import EvalConfig, Experiment, TrainConfig, register
from seg_jax.models.unet import UNet
from seg_jax.nn.norm import Norm
from seg_jax.optim import OptimConfig, Schedule

PAPER = "Ronneberger, Fischer & Brox, MICCAI 2015, arXiv:1505.04597"
TILE = (572, 572)  # figure 1: the prediction covers 388x388 px of it
MARGIN_PX = 92  # lost on every side: (572 - 388) / 2
GREY = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5), order="grey")


@register("unet_isbi2012", suites=("published", "camvid_scratch"))
def unet_isbi2012() -> Experiment:
    """U-Net on electron-microscopy sections: warping error 0.000353, Rand error 0.0382 (Table 1).

        python -m seg_jax train unet_isbi2012

    Section 3: one large tile per step with a momentum of 0.99, the border weight map, elastic
    deformations of 10 px. As in evaluation, training tiles are taken from the image extended by
    mirroring, so that its border is learnt too. The network has one grey channel; the readers
    return grey images as RGB. The paper mentions rotations and grey-value changes without
    magnitudes: 10 degrees and 10 % are chosen here; so are mirror images,
    which it does not name. Up-convolutions start with the deviation sqrt(2 / channels in), as a
    ReLU follows here. The paper's scores are on the hidden test sections, averaged over seven
    rotations of the input, after training on all 30 sections (`--data.train-split trainval`); here
    the last six are kept for validation. The paper does not say which rotations: `evaluate RUN
    --protocol tile572_turns` averages over the eight quarter turns and mirror images.
    """
    return Experiment(
        family="U-Net",
        paper=PAPER,
        model=UNet(num_classes=2),
        data=DataConfig(
            dataset="isbi2012",
            augmentation=Augmentation(
                crop=TILE,
                elastic_px=10.0,
                rotate=1.0,
                jitter=(0.1, 0.1, 0.0),
                mirror_px=MARGIN_PX,
            ),
            preprocessing=GREY,
            weight_map="unet_border",
        ),
        optim=OptimConfig(base_lr=1e-4, momentum=0.99),
        train=TrainConfig(steps=60_000, batch_size=1, evaluate_every=5000),
        evaluation=EvalConfig(mode="tile", canvas=TILE),
    )


@register("unet_voc", suites=("voc",))
def unet_voc() -> Experiment:
    """The published U-Net on VOC, from scratch; its authors published no score on VOC.

        python -m seg_jax train unet_voc

    Valid convolutions need sides of 16 b + 124 px, but VOC's images have any size up to 500. So
    every image is extended by mirroring by the 92 px that are lost, and cropped or padded to 572 =
    16 * 28 + 124; at evaluation it is split into such tiles. There are no border weights: their
    purpose is to separate touching cells of one class, and VOC's void band covers the borders.
    """
    return Experiment(
        family="U-Net",
        paper=PAPER,
        model=UNet(num_classes=21),
        data=DataConfig(
            dataset="voc2012",
            augmentation=Augmentation(crop=TILE, mirror_px=MARGIN_PX),
            preprocessing=TF_SYMMETRIC,
            train_split="trainaug",
        ),
        optim=OptimConfig(
            base_lr=1e-4, momentum=0.99, weight_decay=1e-4, schedule=Schedule("poly")
        ),
        train=TrainConfig(steps=200_000, batch_size=1, evaluate_every=20_000),
        evaluation=EvalConfig(mode="tile", canvas=TILE),
    )


@register("unet_synthetic", suites=("quick",))
def unet_synthetic() -> Experiment:
    """U-Net on drawn images: a quarter of its channels, three poolings, padded, with batch norm.

        python -m seg_jax train unet_synthetic

    Padding and batch norm are not in the paper, but usual today. It starts from random weights: its
    contracting path is its own.
    """
    model = UNet(
        num_classes=CLASSES, depth=3, width=1 / 4, padding="same", norm=Norm(), dropout=0.0
    )
    return quick(family="U-Net", paper=PAPER, model=model, steps=150, base_lr=1e-2, init="")
