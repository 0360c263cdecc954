"""FCN on dilated ResNets: torchvision's reference training, on VOC instead of COCO.

torchvision reports scores on COCO's val2017 with VOC's classes, with the shorter side resized to
520 px: they are not comparable with scores on VOC. There is no quick run: PSPNet's includes this
network.
"""

from dataclasses import replace

from seg_jax.backbones.resnet import Depth, ResNet
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import TORCH
from seg_jax.experiment import Experiment, TrainConfig, register
from seg_jax.losses import LossConfig
from seg_jax.models.fcn_resnet import FCNResNet
from seg_jax.optim import OptimConfig, Rule, Schedule

SOURCE = (
    "Long, Shelhamer & Darrell, CVPR 2015, arXiv:1411.4038; torchvision, references/segmentation"
)
TRAINAUG = 10_582  # images


def _voc(depth: Depth) -> Experiment:
    """torchvision's train.py and README: 30 epochs, 8 GPUs with 4 images each, learning rate 0.02.

    The auxiliary head has weight 0.5 and ten times the rate; all weights decay; norms are
    synchronised. torchvision resizes the shorter side to 260 to 1040 px; VOC's is mostly 333 or 375
    px, hence the scales. Images are mirrored, then padded with black at the bottom and right, as in
    its transforms.py.
    """
    return Experiment(
        family="FCN",
        paper=SOURCE,
        model=FCNResNet(num_classes=21, backbone=ResNet(depth, "torchvision", output_stride=8)),
        data=DataConfig(
            dataset="voc2012",
            augmentation=Augmentation(crop=(480, 480), scale=(0.7, 2.8), pad="end_after_flip"),
            preprocessing=replace(TORCH, padding="black"),
            train_split="trainaug",
        ),
        loss=LossConfig(heads=(("out", 1.0), ("aux", 0.5))),
        optim=OptimConfig(
            base_lr=0.02,
            optimizer="sgd_torch",
            weight_decay=1e-4,
            schedule=Schedule("poly", power=0.9),
            rules=(Rule("aux_head/.*", lr=10.0), Rule(".*")),
        ),
        train=TrainConfig(
            steps=30 * TRAINAUG // 32,
            batch_size=32,
            init=f"torchvision_resnet{depth}_imagenet",
            evaluate_every=2000,
        ),
    )


@register("fcn_resnet50_voc", suites=("published", "voc"))
def fcn_resnet50_voc() -> Experiment:
    """FCN on ResNet-50, output stride 8. Starts from ImageNet's weights.

    python -m seg_jax train fcn_resnet50_voc
    """
    return _voc(50)


@register("fcn_resnet101_voc", suites=("published", "voc"))
def fcn_resnet101_voc() -> Experiment:
    """FCN on ResNet-101, output stride 8. Starts from ImageNet's weights.

    python -m seg_jax train fcn_resnet101_voc
    """
    return _voc(101)
