"""The suite `quick`: every head of the line on one small trunk and drawn images, in ten minutes.

None of these is a paper's experiment: they show on two CPU cores what each step of the line was
for. `trunk_resnet14_synthetic` is trained first, and the others start from its weights, as the
papers' networks do from ImageNet's; only U-Net and SegNet-Basic, which have encoders of their own,
start from random weights. Common to all are the images, AdamW with a polynomial rate, batches of 8
crops, and a lower weight for the background, which has more pixels than all objects together.
"""

from typing import Any

from seg_jax.backbones.resnet import ResNet
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import TF_SYMMETRIC
from seg_jax.experiment import EvalConfig, Experiment, TrainConfig, register
from seg_jax.losses import LossConfig
from seg_jax.models.deeplab_v3 import DeepLabV3
from seg_jax.nn.norm import Norm
from seg_jax.optim import OptimConfig, Schedule

TRUNK = "trunk_resnet14_synthetic"
CLASSES = 8
CLASS_WEIGHTS = (0.3,) + (1.0,) * (CLASSES - 1)


def trunk(output_stride: int) -> ResNet:
    """Return the backbone that all heads share: one unit a block, a quarter of the channels.

    As in the variant "torchvision", the maps at output stride 32 are every fourth sample of those
    at 8, so that weights trained at one stride fit all.
    """
    return ResNet(14, "torchvision", "3x3", output_stride=output_stride, width=1 / 4)


def quick(
    *,
    family: str,
    paper: str,
    model: Any,
    steps: int = 80,
    base_lr: float = 3e-3,
    init: str = TRUNK,
    **loss: Any,
) -> Experiment:
    """Return the experiment of a small model on the built-in synthetic data set.

    Args:
      family: the architecture's name.
      paper: source of the architecture.
      model: the network, with 8 classes.
      steps: number of updates.
      base_lr: learning rate.
      init: experiment whose weights it starts from; empty: random weights.
      **loss: fields of LossConfig.
    """
    return Experiment(
        family=family,
        paper=paper,
        model=model,
        data=DataConfig(
            dataset="synthetic_voc",
            augmentation=Augmentation(crop=(97, 97)),
            preprocessing=TF_SYMMETRIC,
        ),
        loss=LossConfig(class_weights=CLASS_WEIGHTS, **loss),
        optim=OptimConfig(
            base_lr=base_lr,
            optimizer="adamw",
            weight_decay=1e-4,
            schedule=Schedule("poly", warmup=10),
            clip_norm=5.0,
        ),
        train=TrainConfig(steps=steps, batch_size=8, init=init, checkpoint_every=100),
        evaluation=EvalConfig(
            canvas=(113, 113),  # of k * stride + 1, as the crop: several networks align corners
            scaling="align_corners",
            batch_size=8,
        ),
    )


@register(TRUNK, suites=("quick",))
def trunk_resnet14_synthetic() -> Experiment:
    """The trunk of the suite `quick`: a small ResNet of output stride 8, scored by one layer.

    python -m seg_jax train trunk_resnet14_synthetic
    """
    model = DeepLabV3(num_classes=CLASSES, aspp=None, norm=Norm(), backbone=trunk(8))
    return quick(
        family="trunk",
        paper="He, Zhang, Ren & Sun, CVPR 2016, arXiv:1512.03385",
        model=model,
        steps=300,
        base_lr=1e-2,
        init="",
    )
