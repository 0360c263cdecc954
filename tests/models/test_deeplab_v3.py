"""DeepLab v3: counts, rates by output stride, image pooling, the cascade, and logits in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import plain_layers as plain
import plain_resnet
import pytest

from seg_jax.backbones.resnet import ResNet
from seg_jax.models.deeplab_v3 import ASPP, DeepLabV3, torchvision_layer, torchvision_network


def slim(depth, **fields):
    return ResNet(depth, "slim", **{"output_stride": 16, "multi_grid": (1, 2, 4), **fields})


def small(*, aspp=None, **backbone):
    """Two units a block, 1/16 of the channels."""
    net = slim(26, **{"multi_grid": (1, 2), "width": 1 / 16, **backbone})
    return DeepLabV3(num_classes=5, aspp=aspp, backbone=net)


def shapes(model, size, *, train=False):
    """Outputs, parameters and intermediates."""

    def run(key, image):
        variables = model.init(key, image, train=False)
        outputs, state = model.apply(
            variables,
            image,
            train=train,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=True,
            rngs={"dropout": key},
        )
        return outputs, variables["params"], state["intermediates"]

    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    return jax.eval_shape(run, jax.random.key(0), image)


COUNTS = {
    "ResNet-50": (DeepLabV3(backbone=slim(50)), 39_048_533),
    "ResNet-101": (DeepLabV3(backbone=slim(101)), 58_040_661),
    "ResNet-101, 3x3 stem": (DeepLabV3(backbone=slim(101, stem="3x3")), 58_164_437),
    "ResNet-101, output stride 8": (DeepLabV3(backbone=slim(101, output_stride=8)), 58_040_661),
    # num_params of torchvision's COCO_WITH_VOC_LABELS_V1, with the auxiliary head
    "torchvision, ResNet-50": (torchvision_network(50), 42_004_074),
    "torchvision, ResNet-101": (torchvision_network(101), 60_996_202),
    # The ResNet, three blocks of three more units, each 2048 -> 512 -> 512 -> 2048 with norms and
    # without a projection; the scores.
    "cascade": (
        DeepLabV3(aspp=None, backbone=slim(50, cascade=3)),
        23_508_032
        + 9 * (2048 * 512 + 9 * 512 * 512 + 512 * 2048 + 2 * (512 + 512 + 2048))
        + 2048 * 21 + 21,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_count(name):
    model, count = COUNTS[name]
    _, params, _ = shapes(model, (65, 65))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize(("output_stride", "side"), [(16, 33), (8, 65), (32, 17)])
def test_sizes_at_513_px(output_stride, side):
    outputs, _, state = shapes(
        DeepLabV3(backbone=slim(101, output_stride=output_stride)), (513, 513)
    )
    aspp = state["aspp"]
    assert aspp["image_pooling"]["__call__"][0].shape == (2, 1, 1, 256)
    assert aspp["aspp3"]["__call__"][0].shape == (2, side, side, 256)
    assert outputs["out"].shape == (2, 513, 513, 21)


@pytest.mark.parametrize(
    ("output_stride", "rates"), [(16, (6, 12, 18)), (8, (12, 24, 36)), (32, (3, 6, 9))]
)
def test_rates_reach_as_far_in_the_image_at_every_output_stride(output_stride, rates, rng):
    """Section 3.3: "the rates are doubled when output_stride = 8". Seen in the gradient."""
    aspp = ASPP(channels=4, image_pooling="none", dropout=0.0)
    side = 2 * rates[-1] + 1
    x = np.float32(rng.normal(size=(1, side, side, 3)))
    variables = jax.eval_shape(
        lambda key: aspp.init(key, x, output_stride=output_stride, train=False), jax.random.key(0)
    )
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), variables)

    def middle(x):
        y = aspp.apply(variables, x, output_stride=output_stride, train=False)
        return y[0, side // 2, side // 2].sum()

    seen = np.any(np.asarray(plain.quick_jit(jax.grad(middle))(abs(x))), axis=(0, 2, 3))
    expected = {0, *rates, *(-rate for rate in rates)}
    assert set(np.flatnonzero(seen) - side // 2) == expected


def test_rates_that_are_no_whole_number_of_samples():
    with pytest.raises(ValueError, match=r"rates \(6, 9, 18\) do not scale .* stride 16 to 32"):
        shapes(
            DeepLabV3(aspp=ASPP(rates=(6, 9, 18)), backbone=slim(50, output_stride=32)), (65, 65)
        )


def aspp_in_numpy(x, variables, rates, windows):
    """Tables of the release: image pooling, 1x1, rates; concatenated in this order."""

    def conv(x, name, rate=1):
        return plain.relu(plain_resnet.conv_bn(x, plain_resnet.layer(variables, name), rate=rate))

    h, w = x.shape[:2]
    height, width = (min(a, b) for a, b in zip(windows, (h, w), strict=True))
    means = [
        [x[i : i + height, j : j + width].mean((0, 1)) for j in range(w - width + 1)]
        for i in range(h - height + 1)
    ]
    pooled = plain.interp(conv(np.array(means), "image_pooling"), (h, w))
    maps = [pooled, conv(x, "aspp0")]
    maps += [conv(x, f"aspp{n}", rate) for n, rate in enumerate(rates, start=1)]
    return conv(np.concatenate(maps, -1), "concat_projection")


# slim's strides and rates of two units a block; multi-grid (1, 2) multiplies the last block's.
PLANS = {
    16: [[(1, 1), (2, 1)], [(1, 1), (2, 1)], [(1, 1), (1, 1)], [(1, 2), (1, 4)]],
    8: [[(1, 1), (2, 1)], [(1, 1), (1, 1)], [(1, 2), (1, 2)], [(1, 4), (1, 8)]],
}


@pytest.mark.parametrize(
    ("output_stride", "image_pooling", "rates"), [(16, "whole", (1, 2)), (8, "crop", (2, 4))]
)
def test_equals_numpy(output_stride, image_pooling, rates, rng):
    aspp = ASPP(rates=(1, 2), image_pooling=image_pooling, crop=(33, 49), width=1 / 32)
    model = small(aspp=aspp, output_stride=output_stride)
    size = (49, 65)
    image = np.float32(rng.normal(size=(*size, 3)))
    variables = plain.random_variables(model, (1, *size, 3), rng)
    actual = plain.quick_jit(lambda v, x: model.apply(v, x, train=False)["out"])(
        variables, image[None]
    )
    plan = [[((1, stride), rate) for stride, rate in units] for units in PLANS[output_stride]]
    backbone = plain_resnet.pick(variables, "backbone")
    maps, _ = plain_resnet.features(np.float64(image), backbone, plan)
    # The crop of 33x49 px has 5x7 samples at output stride 8, the image 7x9.
    windows = {"whole": (99, 99), "crop": (5, 7)}[image_pooling]
    x = aspp_in_numpy(maps[-1], plain_resnet.pick(variables, "aspp"), rates, windows)
    expected = plain.interp(plain.conv(x, variables["params"]["logits"], pad=0), size)
    plain.assert_close(actual[0], expected)


def test_image_pooling_depends_on_the_size_it_was_trained_for(rng):
    """On images of the training crop both kinds are the same; on larger ones the average of the
    whole image is another than that of any crop: scores change with the size of the canvas.
    """
    logits = {}
    for side in (65, 97):
        x = np.float32(rng.normal(size=(1, side // 16 + 1, side // 16 + 1, 8)))
        for kind in ("whole", "crop"):
            aspp = ASPP(channels=8, rates=(), image_pooling=kind, crop=(65, 65))
            variables = jax.tree.map(
                lambda leaf: np.linspace(0.1, 1, leaf.size, dtype=np.float32).reshape(leaf.shape),
                jax.eval_shape(
                    lambda key, aspp=aspp, x=x: aspp.init(key, x, output_stride=16, train=False),
                    jax.random.key(0),
                ),
            )
            logits[side, kind] = plain.quick_jit(
                lambda v, x, aspp=aspp: aspp.apply(v, x, output_stride=16, train=False)
            )(variables, x)
    np.testing.assert_allclose(logits[65, "whole"], logits[65, "crop"], rtol=1e-5)
    assert abs(logits[97, "whole"] - logits[97, "crop"]).max() > 1e-2


def test_a_rate_beyond_the_map_leaves_the_middle_tap(rng):
    """Figure 4: towards the map's size a 3x3 convolution degenerates to a 1x1 one."""
    x = np.float32(rng.normal(size=(1, 7, 7, 3)))
    aspp = ASPP(channels=4, rates=(7,), image_pooling="none", dropout=0.0)
    shape = jax.eval_shape(
        lambda key: aspp.init(key, x, output_stride=16, train=False), jax.random.key(0)
    )
    variables = jax.tree.map(lambda leaf: rng.uniform(0.5, 1, leaf.shape).astype(leaf.dtype), shape)
    _, state = plain.quick_jit(
        lambda v: aspp.apply(v, x, output_stride=16, train=False, capture_intermediates=True)
    )(variables)
    actual = state["intermediates"]["aspp1"]["conv"]["__call__"][0]
    middle = variables["params"]["aspp1"]["conv"]["kernel"][1, 1]
    plain.assert_close(actual, x @ middle, 1e-6)


def test_scores_can_be_taken_from_a_cascade():
    model = DeepLabV3(aspp=None, backbone=slim(50, cascade=3, multi_grid=(1, 2, 1)))
    outputs, params, state = shapes(model, (97, 129))
    assert outputs["out"].shape == (2, 97, 129, 21)
    assert state["backbone"]["__call__"][0]["c8"].shape == (2, 7, 9, 2048)
    assert "aspp" not in params


def test_torchvisions_relative_takes_any_size_and_trains_two_heads():
    model = torchvision_network(50)
    outputs, params, _ = shapes(model, (66, 70), train=True)
    assert {name: logits.shape for name, logits in outputs.items()} == {
        "out": (2, 66, 70, 21),
        "aux": (2, 66, 70, 21),
    }
    outputs, _, _ = shapes(model, (66, 70))
    assert set(outputs) == {"out"} and "aux_head" in params


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("aspp/aspp0/conv", "classifier.0.convs.0.0"),
        ("aspp/aspp3/bn", "classifier.0.convs.3.1"),
        ("aspp/image_pooling/conv", "classifier.0.convs.4.1"),
        ("aspp/concat_projection/bn", "classifier.0.project.1"),
        ("head_conv1/conv", "classifier.1"),
        ("head_conv1/bn", "classifier.2"),
        ("logits", "classifier.4"),
        ("aux_head/conv/bn", "aux_classifier.1"),
        ("backbone/block1_unit1/shortcut/conv", "backbone.layer1.0.downsample.0"),
        ("aspp/aspp4/conv", None),
    ],
)
def test_names_of_torchvision(ours, theirs):
    assert torchvision_layer(ours) == theirs


@pytest.mark.parametrize(("output_stride", "nearest"), [(16, "497, 513"), (8, "497, 505")])
def test_sides_off_the_grid_name_the_nearest(output_stride, nearest):
    with pytest.raises(ValueError, match=f"image height 500 px .*: {nearest}"):
        shapes(small(output_stride=output_stride), (500, 513))


def test_unknown_conventions_are_refused():
    with pytest.raises(ValueError, match="upsampling: unknown name 'nearest'"):
        shapes(small().clone(upsampling="nearest"), (65, 65))
    with pytest.raises(ValueError, match="image_pooling: unknown name 'half'"):
        shapes(small(aspp=ASPP(image_pooling="half")), (65, 65))
