"""FCN against the authors' nets, written out in NumPy; its crops, sizes and parameter counts."""

import jax
import jax.numpy as jnp
import numpy as np
import plain_layers as plain
import pytest

from seg_jax.backbones.vgg import VGG
from seg_jax.models.fcn import FCN

SKIPS = {"32s": (), "16s": ("pool4",), "8s": ("pool4", "pool3")}
# At 96 px a pool5 of 5 cells and a score map of 3: the released geometry, eight times cheaper.
SMALL = {"fc6_kernel": 3, "width": 1 / 16}


def small_backbone(**fields):
    return VGG(**{"width": 1 / 16, "conv1_1_padding": 33, **fields})


def released_fcn(params, image, *, skips, scales):
    """The released train.prototxt files, layer by layer; image [h w c]."""
    vgg, x, pools = params["backbone"], image, {}
    for stage, depth in enumerate((2, 2, 3, 3, 3), start=1):
        for layer in range(1, depth + 1):
            pad = 100 if stage == layer == 1 else 1
            x = plain.relu(plain.conv(x, vgg[f"conv{stage}_{layer}"], pad=pad))
        pools[f"pool{stage}"] = x = plain.max_pool(x)
    x = plain.relu(plain.conv(x, params["fc6"], pad=0))
    x = plain.relu(plain.conv(x, params["fc7"], pad=0))
    score = plain.conv(x, params["score_fr"], pad=0)
    for skip, crop in (("pool4", 5), ("pool3", 9)):
        if skip in skips:
            score = plain.bilinear_deconv(score, 4, 2)
            fine = plain.conv(scales[skip] * pools[skip], params[f"score_{skip}"], pad=0)
            score += fine[crop : crop + score.shape[0], crop : crop + score.shape[1]]
    stride = {0: 32, 1: 16, 2: 8}[len(skips)]
    crop = {32: 19, 16: 27, 8: 31}[stride]
    score = plain.bilinear_deconv(score, 2 * stride, stride)
    return score[crop : crop + image.shape[0], crop : crop + image.shape[1]]


@pytest.mark.parametrize(
    ("variant", "scales"), [("32s", (1, 1)), ("16s", (1, 1)), ("8s", (1, 1)), ("8s", (0.5, 0.25))]
)
def test_equals_the_released_network(variant, scales, rng):
    image = np.float32(rng.normal(size=(37, 50, 3)))
    model = FCN(
        skips=SKIPS[variant],
        pool4_scale=scales[0],
        pool3_scale=scales[1],
        width=1 / 16,
        backbone=VGG(width=1 / 16, conv1_1_padding=100),
    )
    params = plain.random_params(model, (1, 37, 50, 3), rng)
    out = plain.quick_jit(lambda p, x: model.apply({"params": p}, x, train=False))(
        params, image[None]
    )
    expected = released_fcn(
        params,
        np.float64(image),
        skips=SKIPS[variant],
        scales=dict(zip(("pool4", "pool3"), scales, strict=True)),
    )
    assert out["out"].dtype == jnp.float32
    plain.assert_close(out["out"][0], expected)


@pytest.mark.parametrize(
    ("variant", "offsets"),
    [
        ("32s", {"score": 19}),
        ("16s", {"pool4": 5, "score": 27}),
        ("8s", {"pool4": 5, "pool3": 9, "score": 31}),
    ],
)
def test_crops_are_the_released_ones(variant, offsets):
    assert FCN(skips=SKIPS[variant]).crop_offsets == offsets


def shapes(model, *image_shape):
    """Shapes of the output and, by name, of every intermediate result."""
    image = jax.ShapeDtypeStruct(image_shape, jnp.float32)

    def run(key, image):
        variables = model.init(key, image, train=False)
        return model.apply(variables, image, train=False, capture_intermediates=True)

    out, state = jax.eval_shape(run, jax.random.key(0), image)
    return out["out"].shape, state["intermediates"]


def test_sizes_at_500_px():
    out, state = shapes(FCN(), 1, 500, 500, 3)
    pools = state["backbone"]["__call__"][0]
    assert [pools[f"c{stage}"].shape[1] for stage in range(1, 6)] == [349, 175, 88, 44, 22]
    assert state["backbone"]["conv1_1"]["__call__"][0].shape[1] == 698
    assert state["score_fr"]["__call__"][0].shape[1:] == (16, 16, 21)
    assert out == (1, 500, 500, 21)


@pytest.mark.parametrize("variant", SKIPS)
@pytest.mark.parametrize("size", [(1, 1), (31, 65), (366, 500), (513, 200)])
def test_any_size_in_the_same_size_out(variant, size):
    assert shapes(FCN(skips=SKIPS[variant]), 2, *size, 3)[0] == (2, *size, 21)


@pytest.mark.parametrize(
    ("variant", "count"), [("32s", 134_346_581), ("16s", 134_357_354), ("8s", 134_362_751)]
)
def test_parameter_count(variant, count):
    assert parameter_count(FCN(skips=SKIPS[variant])) == count


def test_learned_upsampling_adds_its_kernels():
    fixed, learned = parameter_count(FCN()), parameter_count(FCN(upsampling="learned"))
    assert learned - fixed == 2 * 4 * 4 * 21 * 21


def parameter_count(model):
    image = np.zeros((1, 64, 64, 3), np.float32)
    variables = jax.eval_shape(lambda key: model.init(key, image, train=False), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def initial_params(model, size, layers):
    """Parameters of some layers before training; the others are not computed."""
    image = jnp.ones((1, *size, 3))

    @plain.quick_jit
    def init(key):
        params = model.init(key, image, train=False)["params"]
        return {name: params[name] for name in layers}

    return init(jax.random.key(0))


def test_scores_start_at_zero():
    scores = ("score_fr", "score_pool4", "score_pool3")
    model = FCN(**SMALL, backbone=small_backbone())
    params = initial_params(model, (64, 64), (*scores, "fc7"))
    assert not any(np.any(params[name]["kernel"]) for name in scores)
    assert np.any(params["fc7"]["kernel"])


def test_learned_upsampling_starts_as_the_fixed_one(rng):
    backbone = small_backbone(depths=(1, 1, 1, 1, 1))
    learned = FCN(upsampling="learned", **SMALL, backbone=backbone)
    fixed = learned.clone(upsampling="fixed")
    image = np.float32(rng.normal(size=(1, 64, 80, 3)))
    params = {
        **plain.random_params(fixed, image.shape, rng),
        **initial_params(learned, image.shape[1:3], ("upscore2", "upscore_pool4")),
    }
    expected, actual = (
        plain.quick_jit(lambda p, model=model: model.apply({"params": p}, image, train=False))(
            params
        )
        for model in (fixed, learned)
    )
    plain.assert_close(actual["out"], expected["out"], 1e-6)


def test_shifted_image_gives_shifted_logits(rng):
    """Without biases black stays black, so padding is not seen and a shift is exact."""
    model = FCN(num_classes=3, **SMALL, backbone=small_backbone(depths=(1, 1, 1, 1, 1)))
    spot = np.float32(rng.normal(size=(9, 7, 3)))
    images = np.zeros((2, 256, 256, 3), np.float32)
    images[0, 100:109, 90:97] = images[1, 132:141, 122:129] = spot  # 32 px down and right
    params = plain.random_params(model, images.shape, rng)
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * 0 if path[-1].key == "bias" else leaf, params
    )
    first, second = plain.quick_jit(lambda p, x: model.apply({"params": p}, x, train=False)["out"])(
        params, images
    )
    assert abs(first).max() > 0.01
    np.testing.assert_allclose(first[:-32, :-32], second[32:, 32:], atol=1e-6)


def test_receptive_field(rng):
    """A pixel of the logits sees the input windows of the score cells around it, nothing else."""
    model = FCN(num_classes=2, skips=(), **SMALL, backbone=small_backbone(depths=(1, 1, 1, 1, 1)))
    image = np.float32(rng.normal(size=(1, 320, 320, 3)))
    params = plain.random_params(model, image.shape, rng)
    row, column = 150, 171

    def pixel(image):
        return model.apply({"params": params}, image, train=False)["out"][0, row, column, 0]

    seen = np.flatnonzero(
        np.any(np.asarray(plain.quick_jit(jax.grad(pixel))(image)), axis=(0, 2, 3))
    )
    # Backwards by intervals. Row 150 is row 166 of the upsampled map (crop 33 + 31 - 16 * 3);
    # cell i stamps rows 32 i .. 32 i + 63 there, so cells 4 and 5 reach it.
    low, high = 4, 5 + 2  # fc6: cell i sees pool5's rows i .. i + 2
    for _ in range(4):  # stages 5 to 2: a pool sees rows 2 i and 2 i + 1, a convolution i -+ 1
        low, high = 2 * low - 1, 2 * high + 1 + 1
    low, high = 2 * low - 33, 2 * high + 1 + 2 - 33  # conv1_1 sees rows i - 33 .. i - 31
    assert low <= seen.min() and seen.max() <= high
    assert seen.max() - seen.min() > 100  # and it does see far


@pytest.mark.parametrize("size", [(60, 70), (97, 65), (128, 128)])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 17), (3, 33), (4, 40), (5, 60)])
def test_other_paddings_stay_aligned(kernel, padding, size):
    backbone = VGG(width=1 / 16, conv1_1_padding=padding)
    model = FCN(fc6_kernel=kernel, width=1 / 16, backbone=backbone)
    assert shapes(model, 1, *size, 3)[0] == (1, *size, 21)
    assert min(model.crop_offsets.values()) >= 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"skips": ("pool3",)}, r"skips \('pool3',\) must be"),
        ({"fc6_kernel": 1}, "fc6_kernel 1 leaves nothing"),
        ({"backbone": VGG()}, "conv1_1_padding 1 .* needs at least 81"),
        ({"backbone": VGG(conv1_1_padding=100, pool_rounding="floor")}, "pool_rounding"),
        ({"fc6_kernel": 3, "backbone": VGG(conv1_1_padding=17)}, "at least 33 px"),
    ],
)
def test_errors_say_what_to_change(fields, message):
    with pytest.raises(ValueError, match=message):
        shapes(FCN(**fields), 1, 32, 32, 3)
