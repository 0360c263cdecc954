"""Networks taken apart, against arithmetic by hand and against the networks themselves."""

import dataclasses
import math

import flax.linen as nn
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from seg_jax import analysis, checks
from seg_jax.analysis import network
from seg_jax.backbones.vgg import VGG
from seg_jax.models.fcn import FCN
from seg_jax.models.unet import UNet
from seg_jax.nn import pool, resize
from seg_jax.nn.blocks import ConvNorm, SeparableConv
from seg_jax.nn.conv import AtrousConv, Conv, DepthwiseConv, TransposedConv


class Stack(nn.Module):
    """Layers one after the other: ("conv" | "pool", kernel, stride, rate)."""

    layers: tuple

    @nn.compact
    def __call__(self, image, *, train):
        for index, (kind, kernel, stride, rate) in enumerate(self.layers):
            if kind == "conv":
                image = Conv(2, kernel, stride, rate, padding=0, name=f"conv{index}")(image)
            else:
                image = pool.max_pool(image, window=kernel, stride=stride)
        return {"out": image}


class Pieces(nn.Module):
    """One of each kind of layer, with an auxiliary head that only training has."""

    @nn.compact
    def __call__(self, image, *, train):
        x = ConvNorm(6, stride=2, name="stem")(image, train=train)
        y, places = pool.max_pool_with_indices(x, rounding="ceil")
        y = SeparableConv(4, rate=2, name="separable")(y, train=train)
        coarse = pool.average_pool(y, window=3, stride=2, padding=1)
        context = ConvNorm(4, 1, name="context")(pool.global_average_pool(y), train=train)
        bins = Conv(4, 1, name="bins")(pool.adaptive_average_pool(y, 3))
        y = AtrousConv(4, 3, name="atrous")(y) + resize.resize_half_pixel(coarse, y.shape[1:3])
        y = y + context + resize.resize_align_corners(bins, y.shape[1:3])
        y = Conv(6, 1, name="fuse")(y)
        y = pool.max_unpool(y, places, x.shape[1:3])
        out = {"out": TransposedConv(3, 4, 2, padding=1, name="up")(y)}
        if train or self.is_initializing():
            out["aux"] = DepthwiseConv(name="aux")(x)
        return out


@pytest.fixture(scope="module")
def pieces():
    return analysis.analyse(Pieces(), (80, 72, 3))


def random_stacks(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield tuple(
            ("conv", int(rng.integers(1, 5)), int(rng.integers(1, 3)), int(rng.integers(1, 4)))
            if rng.random() < 0.7
            else ("pool", int(rng.integers(2, 4)), int(rng.integers(1, 4)), 1)
            for _ in range(4)
        )


@pytest.mark.parametrize("layers", list(random_stacks(6)), ids=str)
def test_stacks_follow_the_closed_form(layers):
    """r = 1 + sum_l (k_l - 1) rate_l prod_(i<l) s_i; j = prod_l s_l (Le and Borji 2017, eq. 2)."""
    found = analysis.analyse(Stack(layers), (300, 300, 1))
    field, jump = 1, 1
    for layer, (kind, kernel, stride, rate) in zip(found.layers, layers, strict=True):
        field += (kernel - 1) * rate * jump
        jump *= stride
        assert layer.receptive_field == (field, field)
        assert layer.output_stride == jump
        assert layer.kernel == (kernel, kernel)
        assert layer.stride == (stride, stride)
        if kind == "pool":
            assert layer.kind == "max pool"
        else:
            assert layer.kind == ("atrous" if rate > 1 else "conv")
            assert layer.rate == (rate, rate)
    assert found.receptive_field == (field, field)
    assert found.output_stride == max(layer.output_stride for layer in found.layers)


def test_vgg16_has_the_textbook_field():
    """conv5_3 sees 196 px, pool5 212, fc7 404: 212 + (7 - 1) * 32."""
    found = analysis.analyse(FCN(skips=()), (500, 500, 3))
    fields = {layer.path: layer.receptive_field[0] for layer in found.layers}
    assert (fields["backbone/conv5_3"], fields["fc6"], fields["fc7"]) == (196, 404, 404)
    assert [layer.receptive_field[0] for layer in found.layers if layer.kind == "max pool"] == [
        6, 16, 44, 100, 212,
    ]  # fmt: skip
    sizes = [layer.output[0] for layer in found.layers if layer.kind == "max pool"]
    assert sizes == [349, 175, 88, 44, 22]
    assert found.parameters == 134_346_581
    assert found.output_stride == 32
    # A pixel between two score cells sees both: 404 + 32.
    assert found.receptive_field == (436, 436)


def test_multiply_adds_by_hand(pieces):
    count = {layer.path: layer.multiply_adds for layer in pieces.layers}
    assert count["stem/conv"] == 40 * 36 * 9 * 3 * 6
    assert count["separable/depthwise/conv"] == 20 * 18 * 9 * 6
    assert count["separable/pointwise/conv"] == 20 * 18 * 6 * 4
    assert count["context/conv"] == 4 * 4
    assert count["bins"] == 3 * 3 * 4 * 4
    assert count["up"] == 40 * 36 * 16 * 6 * 3  # every input pixel meets every tap
    assert pieces.multiply_adds == sum(count.values())


def test_kinds_sizes_and_parameters(pieces):
    rows = [
        (layer.path, layer.kind, layer.output, layer.parameters, layer.output_stride)
        for layer in pieces.layers
        if layer.kind != "norm"
    ]
    assert rows == [
        ("stem/conv", "conv", (40, 36), 9 * 3 * 6, 2),
        ("max_pool_with_indices", "max pool", (20, 18), 0, 4),
        ("separable/depthwise/conv", "depthwise", (20, 18), 9 * 6, 4),
        ("separable/pointwise/conv", "conv", (20, 18), 6 * 4, 4),
        ("average_pool", "average pool", (10, 9), 0, 8),
        ("global_average_pool", "global pool", (1, 1), 0, None),
        ("context/conv", "conv", (1, 1), 4 * 4, None),
        ("adaptive_average_pool", "adaptive pool", (3, 3), 0, None),
        ("bins", "conv", (3, 3), 4 * 4 + 4, None),
        ("atrous", "atrous", (20, 18), 9 * 4 * 4 + 4, 4),
        ("resize_half_pixel", "resize", (20, 18), 0, 4),
        ("resize_align_corners", "resize", (20, 18), 0, None),
        ("fuse", "conv", (20, 18), 4 * 6 + 6, None),
        ("max_unpool", "unpool", (40, 36), 0, None),
        ("up", "transposed", (80, 72), 16 * 6 * 3 + 3, None),
    ]
    norms = {layer.path: layer.parameters for layer in pieces.layers if layer.kind == "norm"}
    assert norms == {
        "stem/bn": 12, "separable/depthwise/bn": 12, "separable/pointwise/bn": 8, "context/bn": 8,
    }  # fmt: skip
    assert pieces.statistics == 40


def test_totals_by_hand(pieces):
    convs = 162 + 54 + 24 + 16 + 20 + 148 + 30 + 291
    norms = 12 + 12 + 8 + 8
    assert sum(layer.parameters for layer in pieces.layers) == convs + norms
    assert pieces.unused == ("aux/kernel",)
    assert pieces.parameters == convs + norms + 9 * 6
    assert pieces.output_stride == 8


def test_whole_image_is_not_a_number(pieces):
    assert pieces.receptive_field == (None, None)
    fields = {layer.path: layer.receptive_field for layer in pieces.layers}
    # 3x3: 3 px; pool over 2 px: 5; 5 px wide (rate 2) of 4 px: 21; 3 of 4 px: 29; 7 of 4 px: 45.
    assert fields["separable/pointwise/conv"] == (21, 21)
    assert fields["average_pool"] == (29, 29)
    assert fields["atrous"] == (45, 45)
    assert fields["global_average_pool"] == fields["fuse"] == (None, None)
    assert not pieces.unknown


def test_shared_weights_count_once():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, image, *, train):
            shared = ConvNorm(3, name="shared")
            return {"out": shared(shared(image, train=train), train=train)}

    found = analysis.analyse(Twice(), (32, 32, 3))
    assert [layer.path for layer in found.layers] == ["shared/conv", "shared/bn"] * 2
    assert [layer.parameters for layer in found.layers] == [81, 6, 0, 0]
    assert [layer.receptive_field[0] for layer in found.layers] == [3, 3, 5, 5]
    assert found.parameters == 87
    assert found.multiply_adds == 2 * 32 * 32 * 81


def positive(variables):
    """Weights that average, and a norm that does nothing: every path carries, none cancels."""

    def fill(path, leaf):
        name = path[-1].key
        if name == "kernel":
            return np.full(leaf.shape, 1 / math.prod(leaf.shape[:-1]), np.float32)
        return np.full(leaf.shape, float(name in ("scale", "var")), np.float32)

    return jax.tree_util.tree_map_with_path(fill, variables)


def changed_rows(model, shape, places):
    """Return bool [places rows]: which of the 33 middle rows of logits a spike in a row changes.

    The spike stands for a gradient: the gradient of a maximum reaches one pixel of its window only.
    """
    variables = positive(network.shapes(model, shape))

    @jax.jit
    def logits(place):
        spike = jnp.where(jnp.arange(shape[0]) == place, 1e30, 1.0)
        image = jnp.broadcast_to(spike.reshape(1, -1, 1, 1), (1, *shape))
        out = model.apply(variables, image, train=False)["out"]
        return out[0, out.shape[1] // 2 - 16 : out.shape[1] // 2 + 17]

    plain = logits(np.int32(-1))
    return np.array([np.any(logits(np.int32(place)) != plain, axis=(1, 2)) for place in places])


THIN_VGG = VGG(width=1 / 64, conv1_1_padding=100)
THIN = {
    "fcn32s": (FCN(skips=(), width=1 / 512, backbone=THIN_VGG, num_classes=1), (640, 96, 1)),
    "fcn8s": (FCN(width=1 / 512, backbone=THIN_VGG, num_classes=1), (640, 96, 1)),
    "unet": (UNet(width=1 / 32, num_classes=1), (444, 188, 1)),
    "unet, padded": (UNet(width=1 / 32, padding="same", num_classes=1), (320, 128, 1)),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) for name in THIN],
)
def test_field_is_where_the_network_looks(name):
    """Exactly nothing outside the field of each logit, something at both of its ends."""
    model, shape = THIN[name]
    _, value = network._walk(model, network.shapes(model, shape), shape)
    rows = np.arange(value.shape[1] // 2 - 16, value.shape[1] // 2 + 17)
    first = value.bounds[0][0, :, 0, 0][rows]
    last = -value.bounds[1][0, :, 0, 0][rows]
    assert first.min() > 0 and last.max() < shape[0] - 1  # no border is in the way
    places = np.array(sorted({first.min() - 1, *first, *last, last.max() + 1}))[:, None]
    expected = (first <= places) & (places <= last)
    np.testing.assert_array_equal(changed_rows(model, shape, places[:, 0]), expected)
    assert analysis.analyse(model, shape).receptive_field[0] == (last - first).max() + 1


def test_gradient_is_exactly_zero_outside_the_field():
    """The same by gradients, of a network without maxima, with random weights and both axes."""

    class Encoder(nn.Module):
        @nn.compact
        def __call__(self, image, *, train):
            x = Conv(3, (3, 5), stride=2, name="a")(image)
            x = AtrousConv(3, 4, name="b")(x)
            x = TransposedConv(2, 4, 2, padding=1, name="c")(x)
            return {"out": resize.resize_half_pixel(x, image.shape[1:3])}

    model, shape = Encoder(), (96, 90, 2)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), network.shapes(model, shape)
    )
    image = rng.normal(size=(1, *shape)).astype(np.float32)
    _, value = network._walk(model, network.shapes(model, shape), shape)

    @jax.jit
    def gradient(image, row, column):
        return jax.grad(lambda x: model.apply(variables, x, train=False)["out"][0, row, column, 0])(
            image
        )

    for row, column in ((48, 45), (49, 46)):
        touched = np.asarray(gradient(image, row, column) != 0)[0].any(-1)
        for axis, place in ((0, row), (1, column)):
            hit = np.flatnonzero(touched.any(1 - axis))
            low, high = (value.bounds[2 * axis + i].ravel()[place] for i in (0, 1))
            assert (low, -high) == (hit[0], hit[-1])


def test_layers_that_depend_on_the_size_are_refused():
    class Odd(nn.Module):
        @nn.compact
        def __call__(self, image, *, train):
            for index in range(1 if image.shape[1] < 100 else 2):
                image = Conv(1, name=f"conv{index % 1}{0}")(image) if index == 0 else image * 2.0
            return {"out": pool.max_pool(image) if image.shape[1] > 100 else image}

    with pytest.raises(ValueError, match="1 layers at 64x64 and 2 at 4096x4096"):
        analysis.analyse(Odd(), (64, 64, 1))


def test_text_is_aligned_and_complete(pieces):
    lines = analysis.as_text(pieces).splitlines()
    table = lines[2 : lines.index("", 2)]
    assert len(table) == 1 + 15
    assert table[0].split() == [
        "layer", "kind", "kernel", "stride", "rate", "channels", "output", "field", "OS",
        "parameters", "multiply-adds",
    ]  # fmt: skip
    start = table[0].index("kind")
    assert all(line[start - 1] == " " and line[start] != " " for line in table)
    end = table[0].index("field") + len("field")
    assert all(line[end - 1] != " " for line in table)  # right-aligned
    totals = dict(line.split("  ", 1) for line in lines[len(table) + 3 :])
    assert totals["parameters"].strip() == f"{pieces.parameters:,}"
    assert totals["only in training"].strip() == "1 parameters: aux/kernel"
    assert totals["receptive field"].strip() == "image px, of one logit"
    assert totals["statistics"].strip().startswith("40 ")


def test_json_data(pieces):
    data = pieces.to_dict()
    assert data["layers"][0]["path"] == "stem/conv"
    assert set(data) == {field.name for field in dataclasses.fields(analysis.Analysis)}


def test_size_that_a_model_refuses_is_the_users_mistake():
    from seg_jax import experiment

    found = experiment.get("unet_isbi2012")
    crop = dataclasses.replace(found.data.augmentation, crop=(570, 570))
    found = dataclasses.replace(found, data=dataclasses.replace(found.data, augmentation=crop))
    with pytest.raises(checks.UserError, match="unet_isbi2012: .*57"):
        analysis.analyse_experiment(found)
