"""U-Net: as published on ISBI 2012, on VOC, where its authors never ran it, and a quick run.

Paper and release say nothing of the rate, the weight decay and the number of steps; those are ours.
"""

from seg_jax.experiments.quick import quick

from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import TF_SYMMETRIC, Preprocessing
from seg_jax.experiment import EvalConfig, Experiment, TrainConfig, register
from seg_jax.models.unet import UNet
from seg_jax.nn.norm import Norm
from seg_jax.optim import OptimConfig, Schedule

PAPER = "Ronneberger, Fischer & Brox, MICCAI 2015, arXiv:1505.04597"
TILE = (572, 572)  # figure 1: 388x388 px are predicted of it
MARGIN_PX = 92  # what is lost on every side: (572 - 388) / 2
GREY = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5), order="grey")


@register("unet_isbi2012", suites=("published",))
def unet_isbi2012() -> Experiment:
    """U-Net on electron-microscopy sections: warping error 0.000353, Rand error 0.0382 (Table 1).

        python -m seg_jax train unet_isbi2012

    Section 3: one large tile a step with a momentum of 0.99, the border weight map, elastic
    deformations of 10 px. Trained on tiles of the image continued by mirroring, as it is
    evaluated, so that its border is learnt too. One grey channel: the readers deliver grey as RGB.
    The paper names rotations and grey-value changes without figures: 10 degrees and 10 % are ours.
    The paper's figures are of the hidden test
    sections, averaged over seven rotations of the input, after training on all 30 sections
    (`--data.train-split trainval`); here the last six are kept for validation.
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
    """The published U-Net on VOC, from scratch; its authors published no figure for VOC.

        python -m seg_jax train unet_voc

    Sizes: valid convolutions take sides of 16 b + 124 px, VOC's are of any size up to 500. So
    every image is continued by mirroring by the 92 px that are lost, and cropped or padded to
    572 = 16 * 28 + 124; at evaluation it is cut into such tiles. No border weights: they are to
    keep touching cells of one class apart, and VOC's void band covers the borders.
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
    """U-Net on synthetic images: an eighth of its channels, padded convolutions, batch norm.

        python -m seg_jax train unet_synthetic

    Padding and norm are not the paper's: they are how U-Net is mostly used today.
    """
    model = UNet(num_classes=21, depth=3, width=1 / 4, padding="same", norm=Norm(), dropout=0.0)
    return quick(family="U-Net", paper=PAPER, model=model)
