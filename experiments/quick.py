"""The common recipe of the suite `quick`, which makes its results comparable.

It is not from a paper: small networks learn from random weights in minutes on two CPU cores. It
uses AdamW, 8 crops of the synthetic images per step, and a lower weight for the background, which
has four times as many pixels as the objects.
"""

from typing import Any

from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import TF_SYMMETRIC
from seg_jax.experiment import EvalConfig, Experiment, TrainConfig
from seg_jax.losses import LossConfig
from seg_jax.optim import OptimConfig, Schedule

CLASS_WEIGHTS = (0.3,) + (1.0,) * 20


def quick(
    *,
    family: str,
    paper: str,
    model: Any,
    align_corners: bool = False,
    steps: int = 150,
    base_lr: float = 3e-3,
    init: str = "",
    **loss: Any,
) -> Experiment:
    """Return the experiment of a small model on the built-in synthetic data set.

    Args:
      family: the architecture's name.
      paper: source of the architecture.
      model: the network, with 21 classes.
      align_corners: the network takes sides of k * output stride + 1: crops of 97 px, not 96.
      steps: number of updates.
      base_lr: learning rate; deep networks with a norm after every layer learn faster at 1e-2.
      init: experiment whose weights it starts from.
      **loss: fields of LossConfig.
    """
    rest = 1 if align_corners else 0
    return Experiment(
        family=family,
        paper=paper,
        model=model,
        data=DataConfig(
            dataset="synthetic_voc",
            augmentation=Augmentation(crop=(96 + rest, 96 + rest)),
            preprocessing=TF_SYMMETRIC,
        ),
        loss=LossConfig(class_weights=CLASS_WEIGHTS, **loss),
        optim=OptimConfig(
            base_lr=base_lr,
            optimizer="adamw",
            weight_decay=1e-4,
            schedule=Schedule("poly", warmup=20),
            clip_norm=5.0,
        ),
        train=TrainConfig(steps=steps, batch_size=8, init=init, checkpoint_every=100),
        evaluation=EvalConfig(
            canvas=(128 + rest, 128 + rest),
            scaling="align_corners" if align_corners else "half_pixel",
            batch_size=8,
        ),
    )
