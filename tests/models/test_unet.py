"""U-Net against the paper's figure 1, written out in NumPy; its sizes and parameter counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import plain_layers as plain
import pytest

from seg_jax.models.unet import UNet
from seg_jax.nn.norm import Norm


def published_unet(params, image, *, pad):
    """Figure 1 from left to right; pad 0 as published, 1 for padded convolutions; image [h w c]."""

    def conv(x, name):
        return plain.relu(plain.conv(x, params[f"conv_{name}"], pad=pad))

    def up(x, name):
        layer = params[f"upconv_{name}"]
        return plain.relu(plain.deconv(x, layer["kernel"], 2, layer["bias"]))

    def copy_and_crop(x, skip):
        if pad:  # an odd side was pooled up: take the last row or column off again
            x = x[: skip.shape[0], : skip.shape[1]]
        border_y, border_x = (skip.shape[0] - x.shape[0]) // 2, (skip.shape[1] - x.shape[1]) // 2
        skip = skip[border_y : border_y + x.shape[0], border_x : border_x + x.shape[1]]
        return np.concatenate([x, skip], axis=-1)

    d0 = conv(conv(image, "d0a-b"), "d0b-c")
    d1 = conv(conv(plain.max_pool(d0), "d1a-b"), "d1b-c")
    d2 = conv(conv(plain.max_pool(d1), "d2a-b"), "d2b-c")
    d3 = conv(conv(plain.max_pool(d2), "d3a-b"), "d3b-c")
    d4 = conv(conv(plain.max_pool(d3), "d4a-b"), "d4b-c")
    u3 = conv(conv(copy_and_crop(up(d4, "d4c_u3a"), d3), "u3b-c"), "u3c-d")
    u2 = conv(conv(copy_and_crop(up(u3, "u3d_u2a"), d2), "u2b-c"), "u2c-d")
    u1 = conv(conv(copy_and_crop(up(u2, "u2d_u1a"), d1), "u1b-c"), "u1c-d")
    u0 = conv(conv(copy_and_crop(up(u1, "u1d_u0a"), d0), "u0b-c"), "u0c-d")
    return plain.conv(u0, params["conv_u0d-score"], pad=0)


@pytest.mark.parametrize(
    ("padding", "size", "channels", "classes"),
    [("valid", (204, 188), 1, 2), ("same", (37, 54), 3, 5), ("same", (1, 16), 3, 2)],
)
def test_equals_the_published_network(padding, size, channels, classes, rng):
    image = np.float32(rng.normal(size=(*size, channels)))
    model = UNet(num_classes=classes, width=1 / 16, padding=padding)
    params = plain.random_params(model, (1, *image.shape), rng)
    out = plain.quick_jit(lambda p, x: model.apply({"params": p}, x, train=False))(
        params, image[None]
    )
    expected = published_unet(params, np.float64(image), pad=int(padding == "same"))
    assert out["out"].dtype == jnp.float32
    plain.assert_close(out["out"][0], expected)


def shapes(model, *image_shape):
    """Shapes of the output and, by name, of every intermediate result."""
    image = jax.ShapeDtypeStruct(image_shape, jnp.float32)

    def run(key, image):
        variables = model.init(key, image, train=False)
        out, state = model.apply(variables, image, train=False, capture_intermediates=True)
        return out, state, variables

    out, state, variables = jax.eval_shape(run, jax.random.key(0), image)
    return out["out"].shape, state["intermediates"], variables


def test_sizes_of_figure_1():
    out, layers, _ = shapes(UNet(), 1, 572, 572, 1)
    sides = {
        name: layers[name]["__call__"][0].shape[1] for name in layers if name.startswith("conv")
    }
    assert sides == {
        "conv_d0a-b": 570, "conv_d0b-c": 568, "conv_d1a-b": 282, "conv_d1b-c": 280,
        "conv_d2a-b": 138, "conv_d2b-c": 136, "conv_d3a-b": 66, "conv_d3b-c": 64,
        "conv_d4a-b": 30, "conv_d4b-c": 28, "conv_u3b-c": 54, "conv_u3c-d": 52,
        "conv_u2b-c": 102, "conv_u2c-d": 100, "conv_u1b-c": 198, "conv_u1c-d": 196,
        "conv_u0b-c": 390, "conv_u0c-d": 388, "conv_u0d-score": 388,
    }  # fmt: skip
    assert out == (1, 388, 388, 2)
    assert sum(name.startswith(("conv", "upconv")) for name in layers) == 23


@pytest.mark.parametrize(
    ("channels", "classes", "count"), [(1, 2, 31_030_658), (3, 21, 31_033_045)]
)
def test_parameter_count(channels, classes, count):
    _, _, variables = shapes(UNet(num_classes=classes), 1, 188, 188, channels)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count


@pytest.mark.parametrize("size", [(188, 188), (572, 204), (700, 1004)])
def test_margin(size):
    model = UNet(width=1 / 16)
    assert model.margin == 92
    assert shapes(model, 2, *size, 3)[0] == (2, size[0] - 184, size[1] - 184, 2)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_margin_and_legal_sizes_at_every_depth(depth):
    """The stated sizes are those at which every pooled map is even, found by walking the layers."""
    model = UNet(depth=depth, width=1 / 64)

    def walk(side):
        skips = []
        for _ in range(depth):
            side -= 4
            skips.append(side)
            if side % 2:
                return None
            side //= 2
        side -= 4
        for skip in reversed(skips):
            side = 2 * side
            if side <= 0 or side > skip:
                return None
            side -= 4
        return side if side > 0 else None

    legal = {side: walk(side) for side in range(1, 500) if walk(side)}
    for side, out in legal.items():
        if out >= 4:  # a single pixel or two exist at depth 1 only
            assert model.legal_sizes(side) == (side,)
            assert side - out == 2 * model.margin
    for side in range(1, 400):
        for option in model.legal_sizes(side):
            assert option in legal
    side = next(iter(side for side, out in legal.items() if out >= 4))
    assert shapes(model, 1, side, side, 1)[0][1] == legal[side]


@pytest.mark.parametrize(
    ("height", "message"),
    [
        (573, "image height 573 px .* nearest that do: 572, 588"),
        (172, "image height 172 px .* nearest that do: 188"),
        (572, "image width 500 px .* nearest that do: 492, 508"),
    ],
)
def test_illegal_size_names_the_nearest(height, message):
    with pytest.raises(ValueError, match=message):
        shapes(UNet(width=1 / 16), 1, height, 500 if height == 572 else 572, 1)


@pytest.mark.parametrize("size", [(1, 1), (17, 30), (366, 500)])
@pytest.mark.parametrize("norm", [None, Norm()])
def test_same_padding_takes_any_size(size, norm):
    model = UNet(num_classes=21, width=1 / 8, padding="same", norm=norm)
    out, _, variables = shapes(model, 2, *size, 3)
    assert (out, model.margin) == ((2, *size, 21), 0)
    assert ("batch_stats" in variables) == (norm is not None)


def test_shifted_image_gives_shifted_logits(rng):
    """16 px, the deepest map's step: without padding both see the very same pixels."""
    model = UNet(width=1 / 16)
    image = np.float32(rng.normal(size=(1, 204, 204, 1)))
    params = plain.random_params(model, image.shape, rng)
    run = plain.quick_jit(lambda x: model.apply({"params": params}, x, train=False)["out"])
    whole = run(image)
    part = run(image[:, 16:, :188])
    np.testing.assert_allclose(part, whole[:, 16:, :4], atol=1e-5)


def test_receptive_field(rng):
    model = UNet(depth=2, width=1 / 16, num_classes=2)
    image = np.float32(rng.normal(size=(1, 76, 76, 1)))
    params = plain.random_params(model, image.shape, rng)
    assert model.margin == 20
    row, column = 17, 18  # of logits 36 x 36

    def pixel(image):
        return model.apply({"params": params}, image, train=False)["out"][0, row, column, 0]

    seen = np.flatnonzero(
        np.any(np.asarray(plain.quick_jit(jax.grad(pixel))(image)), axis=(0, 2, 3))
    )

    # Backwards by intervals along the deepest way: what the pixel sees of each map.
    low, high = row, row
    for _ in range(2):  # two convolutions, then the up-convolution: pixel i came from i // 2
        low, high = low // 2, (high + 4) // 2
    low, high = low, high + 4  # the deepest map's two convolutions
    for _ in range(2):
        low, high = 2 * low, 2 * high + 1 + 4
    assert low <= seen.min() and seen.max() <= high
    assert seen.max() - seen.min() > 30


def test_initial_deviation_is_that_of_section_3():
    model = UNet(padding="same", depth=1, width=1 / 2)
    # N: 9 times the channels below; but an output of the up-convolution, of stride 2 and kernel
    # 2x2, is made of a single pixel.
    incoming = {"conv_d0b-c": 9 * 32, "conv_u0b-c": 9 * 64, "upconv_d1c_u0a": 64}

    @plain.quick_jit
    def init(key):
        params = model.init(key, jnp.ones((1, 4, 4, 3)), train=False)["params"]
        return {name: params[name] for name in incoming}

    for name, layer in init(jax.random.key(0)).items():
        expected = (2 / incoming[name]) ** 0.5
        assert np.std(layer["kernel"]) == pytest.approx(expected, rel=0.03)
        assert not np.any(layer["bias"])


def test_dropout_acts_on_the_two_deepest_levels_in_training(rng):
    model = UNet(padding="same", depth=2, width=1 / 16)
    image = np.float32(rng.normal(size=(1, 16, 16, 1)))
    params = plain.random_params(model, image.shape, rng)
    run = functools.partial(model.apply, train=True, capture_intermediates=True)
    rngs = {"dropout": jax.random.key(0)}
    _, state = plain.quick_jit(lambda p: run({"params": p}, image, rngs=rngs))(params)
    layers = state["intermediates"]
    assert sorted(name for name in layers if "dropout" in name) == ["dropout_d1c", "dropout_d2c"]
    alive = np.asarray(layers["conv_d2b-c"]["__call__"][0]) > 0
    dropped = np.asarray(layers["dropout_d2c"]["__call__"][0]) == 0
    assert 0.4 < np.mean(dropped[alive]) < 0.6
