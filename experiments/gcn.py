"""GCN on ResNet-50, 101 and 152: the paper's ablation recipe for VOC, and a quick run.

The paper's scores of 80.3 mIoU and more need three stages: COCO (109,892 images padded to 640 px),
VOC and SBD, VOC alone. The ablations of section 4.1 are options: Table 1's kernel sizes
`--model.kernel-size 3`, Table 2's dense kernels `--model.context plain`, Tables 3 and 4's stacks
`--model.context stacked`, no boundary refinement `--model.no-refinement`, and ResNet50-GCN
`--model.backbone.unit gcn`.
"""

from seg_jax.experiments.quick import CLASSES, quick, trunk

from seg_jax.backbones.resnet import Depth, ResNet
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import TORCH
from seg_jax.experiment import EvalConfig, Experiment, TrainConfig, register
from seg_jax.losses import LossConfig
from seg_jax.models.gcn import GCN
from seg_jax.nn.norm import Norm
from seg_jax.optim import OptimConfig

PAPER = "Peng, Zhang, Yu, Luo & Sun, CVPR 2017, arXiv:1703.02719"
FROZEN = Norm(statistics="frozen")


def _voc(depth: Depth) -> Experiment:
    """Section 4: one image per step, padded to 512 px and mirrored, momentum 0.99, decay 5e-4.

    The paper does not specify the learning rate, its schedule and the number of steps. Here they
    are those of FCN's release, which has the same batch size and momentum: a loss summed over the
    pixels and a fixed rate. That rate belongs to a VGG-16 without norms; for a ResNet it is a guess
    without a source. So is the bilinear upsampling: Figure 2 has deconvolutions, which the paper's
    parameter counts leave out (`--model.upsampling learned`). Norms are frozen, because one image
    gives poor statistics. Batch size, momentum and schedule depend on each other: do not change one
    alone. ResNets and preprocessing are torchvision's.
    """
    return Experiment(
        family="GCN",
        paper=PAPER,
        model=GCN(num_classes=21, kernel_size=15, backbone=ResNet(depth, norm=FROZEN)),
        data=DataConfig(
            dataset="voc2012",
            augmentation=Augmentation(crop=(512, 512)),
            preprocessing=TORCH,
            train_split="trainaug",
        ),
        loss=LossConfig(reduction="sum"),
        optim=OptimConfig(base_lr=1e-10, momentum=0.99, weight_decay=5e-4),
        train=TrainConfig(
            steps=100_000,
            batch_size=1,
            init=f"torchvision_resnet{depth}_imagenet",
            evaluate_every=4000,
            checkpoint_every=4000,
        ),
        evaluation=EvalConfig(canvas=(512, 512)),
    )


@register("gcn_resnet50_voc", suites=("published", "voc"))
def gcn_resnet50_voc() -> Experiment:
    """GCN with boundary refinement on ResNet-50: 72.3 mIoU on val. Starts from ImageNet's weights.

    python -m seg_jax train gcn_resnet50_voc
    """
    return _voc(50)


@register("gcn_resnet101_voc", suites=("published", "voc"))
def gcn_resnet101_voc() -> Experiment:
    """GCN with boundary refinement on ResNet-101. Starts from ImageNet's weights.

    python -m seg_jax train gcn_resnet101_voc
    """
    return _voc(101)


@register("gcn_resnet152_voc", suites=("published", "voc"))
def gcn_resnet152_voc() -> Experiment:
    """GCN with boundary refinement on ResNet-152: 74.7 mIoU on val (Table 5; k = 15).

        python -m seg_jax train gcn_resnet152_voc

    Starts from ImageNet's weights.
    """
    return _voc(152)


@register("gcn_resnet14_synthetic", suites=("quick",))
def gcn_resnet14_synthetic() -> Experiment:
    """GCN on drawn images, its maps interpolated between their samples.

        python -m seg_jax train gcn_resnet14_synthetic

    The coarsest map of a 97 px crop is 4x4: kernels of size 7 cover it, as size 15 covers 16x16.
    """
    model = GCN(num_classes=CLASSES, kernel_size=7, alignment="corners", backbone=trunk(32))
    return quick(family="GCN", paper=PAPER, model=model)
