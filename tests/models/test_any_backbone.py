"""Heads on backbones that their papers did not use."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seg_jax import checks, experiment, losses, optim
from seg_jax.backbones import choose
from seg_jax.backbones.mobilenet_v2 import MobileNetV2
from seg_jax.cli import parsing
from seg_jax.cli.show import ShowOptions
from seg_jax.nn.norm import Norm
from seg_jax.pretrained import initialise
from seg_jax.pretrained.layers import layers_of

HEADS = (
    "fcn32s_vgg16_voc",
    "fcn8s_vgg16_voc",
    "fcn_resnet50_voc",
    "unet_voc",
    "deeplab_v1_largefov_vgg16_voc",
    "deeplab_v2_resnet101_voc",
    "pspnet_resnet50_voc",
    "gcn_resnet50_voc",
    "deeplab_v3_resnet50_voc",
    "deeplab_v3plus_xception65_voc",
)
IMAGENET = "weights/mobilenet_v2_imagenet_uint8/mobilenet_v2_1.0_224_quant.tflite"
SIDE = 65  # of images that all of them take


def on(head, backbone, *, width=1 / 16):
    return experiment.shrink(choose.replace(experiment.get(head).model, backbone), width=width)


def shapes(model, *, train=False):
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    image = jax.ShapeDtypeStruct((2, SIDE, SIDE, 3), jnp.float32)
    return jax.eval_shape(lambda x: model.init_with_output(keys, x, train=train), image)


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "vgg16", "xception41"])
def test_every_head_takes_every_backbone(backbone):
    strides = {}
    # What a head asks of a backbone is the same for all of them: three show that it is there.
    heads = HEADS if backbone == "mobilenet_v2" else (HEADS[1], HEADS[6], HEADS[9])
    for head in heads:
        chosen = experiment.get(head).with_backbone(backbone)
        model = experiment.shrink(chosen.model)
        outputs, variables = shapes(model, train=True)
        for logits in outputs.values():
            assert (logits.shape, logits.dtype) == ((2, SIDE, SIDE, 21), jnp.float32), head
        # Every parameter has a rule in the experiment's own recipe.
        optim.multipliers(chosen.optim, variables["params"])
        strides[head] = model.output_stride
    expected = dict(zip(HEADS, (32, 8, 8, 1, 8, 8, 8, 32, 16, 16), strict=True))
    assert strides == {head: expected[head] for head in heads}


@pytest.mark.slow
@pytest.mark.parametrize("head", ["fcn8s_vgg16_voc", "unet_voc", "gcn_resnet50_voc"])
def test_one_update_is_finite(head, rng):
    model = on(head, "mobilenet_v2", width=1 / 8)
    size = (33, 44)  # odd and even: the last maps are cropped
    image = rng.normal(size=(2, *size, 3)).astype(np.float32)
    label = rng.integers(0, 21, (2, *size)).astype(np.int32)

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def update(key):
        variables = model.init(key, image, train=False)

        def loss(params):
            outputs, _ = model.apply(
                {**variables, "params": params}, image, train=True, mutable=["batch_stats"],
                rngs={"dropout": key},
            )  # fmt: skip
            return losses.loss_sums(outputs, label, losses.LossConfig())[0]

        return jax.value_and_grad(loss)(variables["params"])

    value, gradient = update(jax.random.key(0))
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_the_trunk_of_imagenet_fits_every_head(test_data):
    """Every layer of MobileNetV2 arrives in every head as it is in the file; only heads are new."""
    source = initialise.find(test_data / IMAGENET)
    trunk = layers_of(source.variables)
    for head in HEADS:
        _, abstract = shapes(on(head, "mobilenet_v2", width=1.0))
        variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract)
        found, _ = initialise.initialise(variables, source, preprocessing=source.preprocessing)
        layers = layers_of(found)
        backbone = {name for name in layers if name.startswith("backbone/")}
        assert backbone == {name for name in trunk if name.startswith("backbone/")}, head
        for name in backbone:
            for array, values in layers[name].items():
                np.testing.assert_array_equal(values, trunk[name][array], err_msg=f"{head} {name}")
        heads = [name for name in layers if name not in backbone]
        assert heads and not any(np.any(v) for n in heads for v in layers[n].values()), head


def test_the_own_backbone_changes_nothing():
    for head, own in (
        ("fcn8s_vgg16_voc", "vgg16"),
        ("segnet_vgg16_voc", "vgg16"),
        ("deeplab_v2_resnet101_voc", "resnet101"),
        ("pspnet_resnet50_voc", "resnet50"),
        ("gcn_resnet152_voc", "resnet152"),
        ("deeplab_v3_resnet101_voc_cascade", "resnet101"),
        ("deeplab_v3plus_xception65_voc", "xception65"),
        ("deeplab_v3plus_mobilenetv2_voc", "mobilenet_v2"),
    ):
        model = experiment.get(head).model
        assert choose.replace(model, own) == model, head


def test_what_belongs_to_the_recipe_stays():
    model = choose.replace(experiment.get("gcn_resnet50_voc").model, "mobilenet_v2")
    assert model.backbone.norm == Norm(0.9, 1e-3, "frozen") and model.alignment == "corners"
    model = choose.replace(experiment.get("deeplab_v3_resnet101_voc").model, "resnet50")
    assert (model.backbone.depth, model.backbone.variant) == (50, "slim")
    assert model.backbone.multi_grid == (1, 2, 4)


@pytest.mark.parametrize(
    ("head", "backbone", "reason"),
    [
        ("segnet_vgg16_voc", "mobilenet_v2", "indices of five 2x2 maximum pools"),
        ("segnet_basic_camvid", "resnet50", "has no backbone"),
        ("deeplab_v3_resnet101_voc_cascade", "vgg16", "copies of ResNet's block 4"),
        ("fcn8s_vgg16_voc", "resnet5", "resnet50"),
    ],
)
def test_impossible_pairs_say_why(head, backbone, reason):
    with pytest.raises(checks.UserError, match=reason):
        parsing.parse_experiment([head, "--model.backbone", backbone], "show", ShowOptions)


def test_heads_refuse_maps_of_other_strides():
    for head in ("fcn8s_vgg16_voc", "unet_voc", "gcn_resnet50_voc"):
        model = on(head, "mobilenet_v2")
        model = model.clone(backbone=MobileNetV2(output_stride=16, width=1 / 16))
        with pytest.raises(ValueError, match=r"strides"):
            shapes(model)


def test_the_command_line_takes_names_and_fields():
    words = ["fcn8s_vgg16_voc", "--model.backbone=mobilenet_v2", "--model.backbone.width", "0.5"]
    chosen, _ = parsing.parse_experiment(words, "show", ShowOptions)
    assert chosen.model.backbone == MobileNetV2(output_stride=32, width=0.5)
