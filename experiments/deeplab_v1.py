"""DeepLab v1 on VGG-16: the released recipes for VOC, and a quick run on synthetic images.

All start from VGG-16 trained on ImageNet; LargeFOV subsamples its fc6 and fc7 to 3x3 and 1024
channels. With random weights these learning rates are too small.

The scores on val are of the first stage. The second, `..._trainval`, is the authors' training for
the test server: it includes val, so a score on val is not meaningful.

`evaluate RUN` applies the paper's dense CRF with the constants of the release (scores "with CRF");
`evaluate RUN --crf none` does not. The authors searched the constants for each network and did not
publish all of them: `python -m seg_jax crf search RUN` repeats the search. MSc-LargeFOV has those
of LargeFOV. For DeepLab the release's SetupEnv.m has 5, 50 px and 10 grey levels ("not optimized
well"), its run_densecrf.sh the 10, 60 px and 20 that are taken here.
"""

from dataclasses import replace

from seg_jax.experiments.quick import CLASSES, quick, trunk

from seg_jax.backbones.vgg import DEEPLAB_RATES, VGG
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import DEEPLAB_CAFFE
from seg_jax.experiment import Builder, EvalConfig, Experiment, TrainConfig, register
from seg_jax.kernels.crf import presets
from seg_jax.losses import LossConfig
from seg_jax.models.deeplab_v1 import POOLS_2X2, DeepLabV1
from seg_jax.models.deeplab_v1_crfrnn import CrfRnn, DeepLabV1CrfRnn
from seg_jax.optim import CAFFE_RULES, OptimConfig, Rule, Schedule

PAPER = "Chen, Papandreou, Kokkinos, Murphy & Yuille, ICLR 2015, arXiv:1412.7062"
# fc8 learns ten times as fast (section 4.1), its bias twice as fast as that.
RULES = (
    Rule("fc8/kernel", lr=10.0),
    Rule("fc8/bias", lr=20.0, decay=0.0),
    *CAFFE_RULES,
)


def _voc(
    model: DeepLabV1,
    *,
    crop: int,
    batch_size: int,
    rules: tuple = RULES,
    init: str = "oxford_vgg16_imagenet",
    constants: str = "deeplab_v1_largefov",
) -> Experiment:
    """Section 4.1 and the released train.prototxt and solver.prototxt.

    Augmentation: crops and mirror images, no scaling. The loss is computed at the resolution of the
    scores: the label is subsampled ("shrunk") by 8. At evaluation the image is placed at the top
    left of a canvas.
    """
    return Experiment(
        family="DeepLab v1",
        paper=PAPER,
        model=model,
        data=DataConfig(
            dataset="voc2012",
            augmentation=Augmentation(crop=(crop, crop)),
            preprocessing=DEEPLAB_CAFFE,
            train_split="trainaug",
        ),
        loss=LossConfig(label_grids=((model.first_pixel, 8),)),
        optim=OptimConfig(
            base_lr=1e-3,
            weight_decay=5e-4,
            schedule=Schedule("step", every=2000, factor=0.1),
            rules=rules,
        ),
        train=TrainConfig(steps=6000, batch_size=batch_size, init=init),
        evaluation=EvalConfig(
            canvas=(513 + model.first_pixel, 513 + model.first_pixel),
            scaling="align_corners",
            crf=presets.get(constants),
        ),
    )


def _first(kernel: int, rate: int) -> Experiment:
    """Return a network with VGG-16's 2x2 pools and its 4096 channels; crops of 8 k + 2 px."""
    model = DeepLabV1(
        num_classes=21,
        fc6_kernel=kernel,
        fc6_rate=rate,
        fc_channels=4096,
        pool5a="none",
        backbone=VGG(pools=POOLS_2X2, rates=DEEPLAB_RATES),
    )
    return _voc(model, crop=306, batch_size=20, constants="deeplab_v1_vgg16")


@register("deeplab_v1_vgg16_voc", suites=("published", "voc"))
def deeplab_v1_vgg16_voc() -> Experiment:
    """DeepLab: 59.80 mIoU on val, 63.74 with CRF (Table 1).

        python -m seg_jax train deeplab_v1_vgg16_voc

    The release (vgg128_noup) pads pool4 by one pixel more in testing than in training. Here both
    use the network of training, whose first score lies one pixel after the image's first.
    """
    return _first(kernel=4, rate=4)


@register("deeplab_v1_4x4_vgg16_voc", suites=("published",))
def deeplab_v1_4x4_vgg16_voc() -> Experiment:
    """DeepLab with a 4x4 fc6 at rate 8, a field of view of 224 px: 67.14 mIoU with CRF (Table 2).

    python -m seg_jax train deeplab_v1_4x4_vgg16_voc
    """
    return _first(kernel=4, rate=8)


@register("deeplab_v1_7x7_vgg16_voc", suites=("published",))
def deeplab_v1_7x7_vgg16_voc() -> Experiment:
    """DeepLab with VGG-16's 7x7 fc6 at rate 4: 64.38 mIoU on val (Table 1).

    python -m seg_jax train deeplab_v1_7x7_vgg16_voc
    """
    return _first(kernel=7, rate=4)


@register("deeplab_v1_largefov_vgg16_voc", suites=("published", "voc"))
def deeplab_v1_largefov_vgg16_voc() -> Experiment:
    """DeepLab-LargeFOV: 62.25 mIoU on val, 67.64 with CRF (Table 1).

        python -m seg_jax train deeplab_v1_largefov_vgg16_voc

    Where the sources disagree: the batch size is 30, as in the release and in DeepLab v2's paper on
    this score (v1's paper: 20); the learning rate drops every 2000 steps, as in the paper (the
    released solver: 1000, but 2000 for every other network).
    """
    return _voc(DeepLabV1(num_classes=21), crop=321, batch_size=30)


@register("deeplab_v1_msc_largefov_vgg16_voc", suites=("published", "voc"))
def deeplab_v1_msc_largefov_vgg16_voc() -> Experiment:
    """DeepLab-MSc-LargeFOV: 64.21 mIoU on val, 68.70 with CRF (Table 1).

        python -m seg_jax train deeplab_v1_msc_largefov_vgg16_voc

    The trained LargeFOV with five additional branches on the image and the pools; only the branches
    are trained (section 4.3).
    """
    return _voc(
        DeepLabV1(num_classes=21, branches=("data", "pool1", "pool2", "pool3", "pool4")),
        crop=321,
        batch_size=30,
        rules=(Rule("backbone/.*", lr=0.0), Rule("fc[678]/.*", lr=0.0), *CAFFE_RULES),
        init="deeplab_v1_largefov_vgg16_voc",
    )


@register("deeplab_v1_msc_vgg16_voc", suites=("published",))
def deeplab_v1_msc_vgg16_voc() -> Experiment:
    """DeepLab-MSc: 61.30 mIoU on val, 65.21 with CRF (Table 1).

        python -m seg_jax train deeplab_v1_msc_vgg16_voc

    The trained DeepLab with the same five branches. In the released network its pools have windows
    of 3x3 and its crops 321 px, as LargeFOV's have, which aligns the branches with the scores; fc6
    keeps its 4x4 kernel at rate 4, so the backbone's weights are those of 2x2 pools. The
    backbone, fc6 and fc7 are frozen, and fc8 learns at half the rate.
    """
    model = DeepLabV1(
        num_classes=21,
        fc6_kernel=4,
        fc6_rate=4,
        fc_channels=4096,
        pool5a="none",
        branches=("data", "pool1", "pool2", "pool3", "pool4"),
    )
    return _voc(
        model,
        crop=321,
        batch_size=20,
        rules=(
            Rule("backbone/.*", lr=0.0),
            Rule("fc[67]/.*", lr=0.0),
            Rule("fc8/kernel", lr=0.5),
            Rule("fc8/bias", lr=0.5, decay=0.0),
            *CAFFE_RULES,
        ),
        init="deeplab_v1_vgg16_voc",
        constants="deeplab_v1_msc",
    )


def _second_stage(
    build: Builder, *, steps: int, base_lr: float = 1e-3, every: int = 2000
) -> Experiment:
    """Continue a trained network on train_aug and val together (the released solver2.prototxt)."""
    first = build()
    return replace(
        first,
        data=replace(first.data, train_split="trainval_aug"),
        optim=replace(first.optim, base_lr=base_lr, schedule=Schedule("step", every=every)),
        train=replace(first.train, steps=steps, init=build.__name__),
    )


@register("deeplab_v1_vgg16_voc_trainval", suites=("published",))
def deeplab_v1_vgg16_voc_trainval() -> Experiment:
    """The second stage of DeepLab: 66.4 mIoU on test with CRF (Table 3).

        python -m seg_jax train deeplab_v1_vgg16_voc_trainval

    Its learning rate is ten times the first stage's, as in the released solver of this network
    only.
    """
    return _second_stage(deeplab_v1_vgg16_voc, steps=12_000, base_lr=0.01, every=3000)


@register("deeplab_v1_largefov_vgg16_voc_trainval", suites=("published",))
def deeplab_v1_largefov_vgg16_voc_trainval() -> Experiment:
    """The second stage of DeepLab-LargeFOV: 70.3 mIoU on test with CRF (Table 3).

    python -m seg_jax train deeplab_v1_largefov_vgg16_voc_trainval
    """
    return _second_stage(deeplab_v1_largefov_vgg16_voc, steps=8000)


@register("deeplab_v1_msc_largefov_vgg16_voc_trainval", suites=("published",))
def deeplab_v1_msc_largefov_vgg16_voc_trainval() -> Experiment:
    """The second stage of DeepLab-MSc-LargeFOV: 71.6 mIoU on test with CRF (Table 3).

    python -m seg_jax train deeplab_v1_msc_largefov_vgg16_voc_trainval
    """
    return _second_stage(deeplab_v1_msc_largefov_vgg16_voc, steps=8000)


@register("deeplab_v1_largefov_resnet14_synthetic", suites=("quick",))
def deeplab_v1_largefov_resnet14_synthetic() -> Experiment:
    """DeepLab-LargeFOV on drawn images: fc6 and fc7 with 128 channels.

        python -m seg_jax train deeplab_v1_largefov_resnet14_synthetic

    fc6 has rate 4 on 13x13 scores: relative to the crop about the same as rate 12 on 41x41.
    """
    model = DeepLabV1(num_classes=CLASSES, fc6_rate=4, dropout=0.0, width=1 / 8, backbone=trunk(8))
    return quick(family="DeepLab v1", paper=PAPER, model=model, label_grids=((0, 8),))


@register("deeplab_v1_crfrnn")
def deeplab_v1_crfrnn() -> Experiment:
    """CRF-as-RNN on synthetic images: the network above and a CRF, trained end to end.

        python -m seg_jax train deeplab_v1_largefov_resnet14_synthetic
        python -m seg_jax train deeplab_v1_crfrnn

    As in Zheng et al. (arXiv:1502.03240), it starts from a network trained without the CRF and
    trains both at a low rate. It learns the weights of both kernels and the compatibility. The CRF
    uses every fourth pixel in each direction: 625 of a crop, where all pairs are cheap.
    """
    trained = deeplab_v1_largefov_resnet14_synthetic()
    crf_rnn = CrfRnn(stride=4, bilateral_px=30.0, bilateral_rgb=15.0, spatial_px=6.0)
    return replace(
        trained,
        model=DeepLabV1CrfRnn(network=trained.model, crf=crf_rnn),
        loss=replace(trained.loss, label_grids=((0, crf_rnn.stride),)),
        optim=replace(
            trained.optim, base_lr=1e-3, rules=(Rule("crf/.*", lr=10.0, decay=0.0), *CAFFE_RULES)
        ),
        train=replace(trained.train, steps=150, init="deeplab_v1_largefov_resnet14_synthetic"),
    )
