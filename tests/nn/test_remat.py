"""Rematerialisation: what a gradient keeps of a network's forward pass, counted."""

import math

import jax
import numpy as np
import pytest
from jax._src import ad_checkpoint

from seg_jax.backbones.mobilenet_v2 import MobileNetV2
from seg_jax.backbones.resnet import ResNet
from seg_jax.backbones.vgg import VGG
from seg_jax.backbones.xception import Xception
from seg_jax.models.deeplab_v2 import DeepLabV2
from seg_jax.models.segnet import SegNet, SegNetBasic
from seg_jax.models.unet import UNet
from seg_jax.nn import remat
from seg_jax.nn.norm import Norm

KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


def kept(model, kind, image):
    """MB of the forward pass that the gradient keeps, without parameters and image; and outputs."""
    variables = jax.eval_shape(lambda: model.init(KEYS, image, train=False))

    def loss(params):
        others = {k: v for k, v in zeros.items() if k != "params"}
        with remat.using(kind):
            out, changed = model.apply(
                {**others, "params": params}, image, train=True, mutable=["batch_stats"], rngs=KEYS
            )
        return sum(leaf.sum() for leaf in jax.tree.leaves(out)), changed

    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    found = ad_checkpoint.saved_residuals(lambda params: loss(params)[0], zeros["params"])
    sizes = [math.prod(a.shape) * a.dtype.itemsize for a, why in found if "argument" not in why]
    return sum(sizes) / 2**20, jax.eval_shape(loss, zeros["params"])


def check(model, side=64, *, most):
    image = np.zeros((2, side, side, 3), np.float32)
    (plain, out), *others = (kept(model, kind, image) for kind in ("none", "stages", "blocks"))
    for part, out_again in others:
        assert jax.tree.structure(out) == jax.tree.structure(out_again)
        assert 0 < part < most * plain, (part, plain)


def test_less_is_kept_of_u_net():
    check(UNet(padding="same", norm=Norm(), depth=2, width=1 / 16), 32, most=0.6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        ResNet(26, width=1 / 8), MobileNetV2(width=1 / 4), VGG(width=1 / 8), SegNet(width=1 / 8),
        Xception(41, middle_units=2, width=1 / 8), SegNetBasic(width=1 / 8, dropout_at="central"),
        DeepLabV2(backbone=ResNet(14, variant="msra", output_stride=8, width=1 / 8)),
    ],
    ids=lambda model: type(model).__name__,
)  # fmt: skip
def test_less_is_kept_of_every_network(model):
    # Most of what is kept of this one are the scores of its heads, at three scales.
    check(model, 65, most=0.95 if isinstance(model, DeepLabV2) else 0.75)
