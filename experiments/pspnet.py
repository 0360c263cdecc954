"""PSPNet on ResNet-50 and ResNet-101: the paper's recipe for VOC, and a quick run.

Where the paper, its Caffe release and the first author's later PyTorch release (semseg) differ, the
paper and Caffe are followed; the variants "_semseg" follow semseg (config/voc2012, tool/train.py):

    paper and Caffe                                       semseg, "_semseg"
    losses at the scores' resolution, 1/8                 on upsampled scores, at all pixels
    conv6's bias has 20 times the learning rate           10 times
    norms do not decay                                    all weights decay
    norm momentum 0.95                                    0.9
    the rate multiplies before the momentum (Caffe)       after (--optim.optimizer sgd_torch)
    BGR minus the mean                                    RGB, mean and deviation of PyTorch
    padded at the bottom and right, then mirrored         mirrored first, padded on all sides
    mirror image's logits added, longer side 513          its probabilities averaged, 512
    single elements are dropped                           whole channels (Dropout2d)
    30,000 steps                                          50 epochs, 33,050

What "_semseg" does not follow: semseg averages the losses of its 8 devices, each over its own valid
pixels, and pads images at evaluation on all sides.

The authors' ImageNet ResNets with the 3x3 stem are not in the catalogue. The recipes start from the
DeepLab release's, whose shapes are the same; their stride 2 is in the last unit of a block, not in
the first of the next.
"""

from dataclasses import replace

from seg_jax.experiments.quick import CLASSES, quick, trunk

from seg_jax.backbones.resnet import Depth, ResNet
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import PSPNET_CAFFE, TORCH
from seg_jax.experiment import EvalConfig, Experiment, TrainConfig, register
from seg_jax.losses import LossConfig
from seg_jax.models.pspnet import PSPNet, PyramidPooling
from seg_jax.nn.norm import Norm
from seg_jax.optim import OptimConfig, Rule, Schedule

PAPER = "Zhao, Shi, Qi, Wang & Jia, CVPR 2017, arXiv:1612.01105"
CAFFE_NORM = Norm(momentum=0.95, epsilon=1e-5)
# The release's prototxt: new layers have ten times the learning rate.
RULES = (
    Rule("(out|aux)_head/score/bias", lr=20.0),
    Rule("(pyramid|out_head|aux_head)/.*/kernel", lr=10.0),
    Rule("(pyramid|out_head|aux_head)/.*/bn/.*", lr=10.0, decay=0.0),
    Rule("backbone/.*/bn/.*", decay=0.0),
    Rule("backbone/.*/kernel"),
)
# The auxiliary loss has weight 0.4 (sections 4 and 5.2).
LOSSES = LossConfig(heads=(("out", 1.0), ("aux", 0.4)), label_grids=((0, 8), (0, 8)))
TRAINAUG = 10_582  # images


def _pspnet(depth: Depth, norm: Norm, *, width: float = 1.0) -> PSPNet:
    return PSPNet(
        num_classes=21,
        norm=norm,
        width=width,
        pyramid=PyramidPooling(norm=norm),
        backbone=ResNet(depth, "semseg", "3x3", output_stride=8, norm=norm, width=width),
    )


def _voc(depth: Depth) -> Experiment:
    """Sections 5.1 and 5.3: 30,000 steps of 16 crops, synchronised norms.

    An image is rotated by up to 10 degrees with probability 0.5 and blurred with probability 0.5,
    as in semseg; the paper gives no probabilities. Evaluated as released, in 473 px windows that
    overlap by a third, and mirrored; scores on the test server also use six scales (`evaluate RUN
    --protocol sliding473_scales`).
    """
    return Experiment(
        family="PSPNet",
        paper=PAPER,
        model=_pspnet(depth, CAFFE_NORM),
        data=DataConfig(
            dataset="voc2012",
            augmentation=Augmentation(crop=(473, 473), scale=(0.5, 2.0), rotate=0.5, blur=0.5),
            preprocessing=PSPNET_CAFFE,
            train_split="trainaug",
        ),
        loss=LOSSES,
        optim=OptimConfig(
            base_lr=0.01,
            weight_decay=1e-4,
            schedule=Schedule("poly", power=0.9),
            rules=RULES,
        ),
        train=TrainConfig(
            steps=30_000,
            batch_size=16,
            init=f"google_resnet{depth}_beta_imagenet",
            evaluate_every=5000,
        ),
        evaluation=EvalConfig(
            mode="sliding",
            canvas=(473, 473),
            long_side=513,
            flip=True,
            fusion="mirror_logits",
        ),
    )


@register("pspnet_resnet50_voc", suites=("published", "voc"))
def pspnet_resnet50_voc() -> Experiment:
    """PSPNet-50. The paper has no score of it; the later semseg reaches 77.05 mIoU on val.

        python -m seg_jax train pspnet_resnet50_voc

    Starts from ImageNet's ResNet-50 with the 3x3 stem; weights with the 7x7 stem do not fit.
    """
    return _voc(50)


@register("pspnet_resnet101_voc", suites=("published", "voc"))
def pspnet_resnet101_voc() -> Experiment:
    """PSPNet-101: 82.6 mIoU on VOC 2012 test; the later semseg reaches 79.07 on val.

        python -m seg_jax train pspnet_resnet101_voc

    Starts from ImageNet's ResNet-101 with the 3x3 stem; weights with the 7x7 stem do not fit.
    """
    return _voc(101)


def _semseg(depth: Depth) -> Experiment:
    """Return semseg's recipe, see the table above."""
    caffe, norm = _voc(depth), Norm()
    return replace(
        caffe,
        model=_pspnet(depth, norm).clone(dropped="channels"),
        data=replace(
            caffe.data,
            augmentation=replace(caffe.data.augmentation, pad="centre"),
            preprocessing=TORCH,
        ),
        loss=replace(LOSSES, label_grids=()),
        optim=replace(
            caffe.optim,
            optimizer="sgd_torch",
            rules=(Rule("(pyramid|out_head|aux_head)/.*", lr=10.0), Rule("backbone/.*")),
        ),
        # Of each epoch the last images, which fill no batch, are left out.
        train=replace(caffe.train, steps=50 * (TRAINAUG // 16)),
        evaluation=replace(caffe.evaluation, long_side=512, fusion="probabilities"),
    )


@register("pspnet_resnet50_voc_semseg", suites=("published",))
def pspnet_resnet50_voc_semseg() -> Experiment:
    """PSPNet-50 as semseg trains it: 77.05 mIoU on val with mirror images (semseg's README).

    python -m seg_jax train pspnet_resnet50_voc_semseg
    """
    return _semseg(50)


@register("pspnet_resnet101_voc_semseg", suites=("published",))
def pspnet_resnet101_voc_semseg() -> Experiment:
    """PSPNet-101 as semseg trains it: 79.07 mIoU on val with mirror images (semseg's README).

    python -m seg_jax train pspnet_resnet101_voc_semseg
    """
    return _semseg(101)


@register("pspnet_resnet14_synthetic", suites=("quick",))
def pspnet_resnet14_synthetic() -> Experiment:
    """PSPNet on drawn images: an eighth of the head's channels.

        python -m seg_jax train pspnet_resnet14_synthetic

    The pyramid covers the whole crop, including the horizon, which tells buses from trains.
    """
    norm = Norm()
    model = PSPNet(
        num_classes=CLASSES,
        norm=norm,
        width=1 / 8,
        pyramid=PyramidPooling(norm=norm),
        backbone=trunk(8),
    )
    return quick(family="PSPNet", paper=PAPER, model=model, heads=LOSSES.heads)
