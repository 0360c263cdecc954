"""SegNet, SegNet-Basic and the decoders of the paper's Table 1, written out in NumPy from the
authors' released networks; sizes, parameter counts, dropout and its Monte Carlo samples.
"""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import plain_layers as plain
import pytest

from seg_jax.models import segnet
from seg_jax.models.segnet import SegNet, SegNetBasic

VGG16, SHORT = (2, 2, 3, 3, 3), (1, 2, 1, 1, 2)
DECODERS = get_args(segnet.Decoder)
COUNTS = (1_416_587, 1_416_587, 626_315, 613_003, 646_124, 643_979, 1_661_579, 1_661_579)


def apply(model, variables, image):
    return jax.jit(lambda v, x: model.apply(v, x, train=False)["out"])(variables, image[None])[0]


def conv_norm(x, variables, name, pad):
    x = plain.conv(x, variables["params"][name], pad=pad)
    norm = (variables[kind][f"{name}_bn"] for kind in ("params", "batch_stats"))
    return plain.batch_norm(x, *norm, epsilon=1e-9)


def released_segnet(variables, x, depths):
    """segnet_train.prototxt, layer by layer; x [h w c]."""
    masks = []
    for stage, depth in enumerate(depths, start=1):
        for layer in range(1, depth + 1):
            x = plain.relu(conv_norm(x, variables, f"conv{stage}_{layer}", pad=1))
        masks.append((plain.max_pool_2x2_places(x), x.shape[:2]))
        x = plain.max_pool(x)
    for stage in (5, 4, 3, 2, 1):
        x = plain.unpool(x, *masks[stage - 1])
        for layer in range(depths[stage - 1], 0, -1):
            if (stage, layer) == (1, 1):
                return plain.conv(x, variables["params"]["conv1_1_D"], pad=1)
            x = plain.relu(conv_norm(x, variables, f"conv{stage}_{layer}_D", pad=1))


def plain_basic(variables, x, decoder):
    """segnet_basic_train.prototxt with the decoders of the paper, section 3.2; x [h w 3]."""
    params = variables["params"]
    # LRN over 5 channels: each of the 3 sees all of them.
    x = x / (1 + 1e-4 / 5 * (x**2).sum(-1, keepdims=True)) ** 0.75
    pools = []
    for stage in (1, 2, 3, 4):
        x = plain.relu(conv_norm(x, variables, f"conv{stage}", pad=3))
        places, size = plain.max_pool_2x2_places(x), x.shape[:2]
        x = plain.max_pool(x)
        pools.append((x, places, size))
    if decoder in ("segnet", "encoder_addition", "single_channel"):
        for stage in (4, 3, 2, 1):
            x = plain.unpool(x, *pools[stage - 1][1:])
            name = f"conv_decode{stage}"
            if decoder == "single_channel":
                x = depthwise_norm(x, variables, name)
            else:
                x = conv_norm(x, variables, name, pad=3)
            if decoder == "encoder_addition" and stage > 1:
                x = x + pools[stage - 2][0]
        return plain.conv(x, params["conv_classifier"], pad=0)
    for stage in (4, 3, 2, 1):
        if stage == 4 and "reduce4" in params:
            x = plain.conv(x, params["reduce4"], pad=0)
        if decoder == "bilinear":
            x, border = plain.bilinear_deconv(x, 4, 2), 1
        else:
            x, border = plain.deconv(x, params[f"upsample{stage}"]["kernel"], 2), 3
        size = pools[stage - 1][2]
        x = x[border : border + size[0], border : border + size[1]]
        if decoder in ("fcn", "fcn_no_reduction") and stage > 1:
            fine = pools[stage - 2][0]
            if decoder == "fcn":
                fine = plain.conv(fine, params[f"reduce{stage - 1}"], pad=0)
            x = x + fine
    return plain.conv(x, params["conv_classifier"], pad=0) if "conv_classifier" in params else x


def depthwise_norm(x, variables, name):
    kernel = np.asarray(variables["params"][name]["kernel"])
    dense = np.zeros((7, 7, kernel.shape[-1], kernel.shape[-1]))
    dense[:, :, range(kernel.shape[-1]), range(kernel.shape[-1])] = kernel[:, :, 0]
    params = {**variables["params"], name: {**variables["params"][name], "kernel": dense}}
    return conv_norm(x, {**variables, "params": params}, name, pad=3)


@pytest.mark.parametrize(("size", "depths"), [((37, 50), VGG16), ((23, 30), SHORT)])
def test_equals_the_released_network(size, depths, rng):
    """At odd sizes every pool rounds up somewhere: 37, 19, 10, 5, 3, 2."""
    model = SegNet(num_classes=5, width=1 / 16, depths=depths)
    variables = plain.random_variables(model, (1, *size, 3), rng)
    image = np.float32(rng.normal(size=(*size, 3)))
    out = apply(model, variables, image)
    assert out.dtype == jnp.float32
    plain.assert_close(out, released_segnet(variables, np.float64(image), depths))


@pytest.mark.parametrize("decoder", DECODERS)
def test_basic_equals_the_papers_text(decoder, rng):
    model = SegNetBasic(num_classes=5, width=1 / 16, decoder=decoder)
    variables = plain.random_variables(model, (1, 29, 38, 3), rng)
    image = np.float32(rng.integers(0, 256, (29, 38, 3)))
    expected = plain_basic(variables, np.float64(image), decoder)
    plain.assert_close(apply(model, variables, image), expected)


def test_flat_areas_go_back_to_the_first_pixel_of_their_window():
    """After a ReLU whole windows are zero, or equal: the first of the equal ones wins."""
    model = SegNet(num_classes=1, width=1 / 16, depths=SHORT)
    variables = plain.random_variables(model, (1, 32, 32, 3), np.random.default_rng(3))
    image = np.full((32, 32, 3), 0.7, np.float32)
    expected = released_segnet(variables, np.float64(image), SHORT)
    plain.assert_close(apply(model, variables, image), expected)


def shapes(model, size, **fields):
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)

    def run(key, image):
        variables = model.init(key, image, train=False)
        out = model.apply(variables, image, train=False, capture_intermediates=True, **fields)
        return out, variables

    (out, state), variables = jax.eval_shape(run, jax.random.key(0), image)
    return out["out"].shape, state["intermediates"], variables["params"]


def height_and_width(state, layer):
    return state[layer]["__call__"][0].shape[1:3]


def test_sizes_at_camvids_360x480():
    out, state, _ = shapes(SegNet(num_classes=11), (360, 480))
    expected = {
        "conv1_1": (360, 480), "conv2_1": (180, 240), "conv3_1": (90, 120), "conv4_1": (45, 60),
        "conv5_1": (23, 30), "conv5_3_D": (23, 30), "conv4_3_D": (45, 60), "conv3_3_D": (90, 120),
        "conv2_2_D": (180, 240), "conv1_2_D": (360, 480), "conv1_1_D": (360, 480),
    }  # fmt: skip
    assert {name: height_and_width(state, name) for name in expected} == expected
    assert out == (1, 360, 480, 11)


@pytest.mark.parametrize("model", [SegNet(width=1 / 16), SegNetBasic(width=1 / 16)], ids=type)
@pytest.mark.parametrize("size", [(1, 1), (33, 2), (224, 224), (375, 500)])
def test_any_size_in_the_same_size_out(model, size):
    assert shapes(model, size)[0] == (1, *size, model.num_classes)


def parameter_count(model):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(model, (64, 64))[2]))


@pytest.mark.parametrize(("num_classes", "count"), [(21, 29_455_125), (11, 29_449_355)])
def test_parameter_count(num_classes, count):
    assert parameter_count(SegNet(num_classes=num_classes)) == count


@pytest.mark.parametrize(("decoder", "count"), list(zip(DECODERS, COUNTS, strict=True)))
def test_parameter_count_of_basic(decoder, count):
    assert parameter_count(SegNetBasic(decoder=decoder)) == count
    assert f"{count:,}" in SegNetBasic.__doc__


def test_biases_are_what_the_paper_says_is_not_there():
    """The release's convolutions have biases: without those of the decoder 1,416,331."""
    _, _, params = shapes(SegNetBasic(), (64, 64))
    decoder = [params[f"conv_decode{stage}"]["bias"].size for stage in (1, 2, 3, 4)]
    assert parameter_count(SegNetBasic()) - sum(decoder) == 1_416_331


def test_norms_start_and_add_as_released():
    norm = segnet._norm(SegNet().norm, "conv1_1")
    params = norm.init(jax.random.key(0), jnp.ones((1, 2, 2, 3)), train=False)["params"]
    np.testing.assert_array_equal(params["scale"], 1)
    np.testing.assert_array_equal(params["bias"], np.float32(0.001))
    assert (norm.name, norm.norm.epsilon) == ("conv1_1_bn", 1e-9)


@pytest.mark.slow
def test_bayesian_segnet_starts_without_a_shift():
    """bayesian_segnet_train.prototxt fills the shifts with 0, segnet_train.prototxt with 0.001."""
    model = SegNet(num_classes=2, width=1 / 64, depths=(1,) * 5, dropout_at="central")
    params = jax.jit(model.init, static_argnames="train")(
        jax.random.key(0), jnp.ones((1, 32, 32, 3)), train=False
    )["params"]
    shifts = [layer["bias"] for name, layer in params.items() if name.endswith("_bn")]
    assert shifts and not any(shift.any() for shift in shifts)


def test_learned_upsampling_starts_bilinear_and_keeps_constants():
    kernel = segnet._bilinear_keeping_constants(None, (8, 8, 3, 3))
    up = plain.deconv(np.ones((6, 6, 3)), kernel, 2)[7:-7, 7:-7]
    np.testing.assert_allclose(up, 1.0)


def dropouts(state):
    return sorted(name for name in state if name.startswith(("before_", "after_")))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (SegNet(), []),
        # bayesian_segnet_train.prototxt: encdrop3..5, decdrop5..3; segnet_pascal.prototxt:
        # pool1..5_drop, upsample5..1_drop; bayesian_segnet_basic_train: encdrop3..4, decdrop4..3.
        (
            SegNet(dropout_at="central"),
            [f"after_{where}{stage}" for where in ("decoder", "pool") for stage in (3, 4, 5)],
        ),
        (
            SegNet(dropout_at="all"),
            [f"before_{where}{stage}" for where in ("pool", "unpool") for stage in range(1, 6)],
        ),
        (
            SegNetBasic(dropout_at="central"),
            [f"after_{where}{stage}" for where in ("decoder", "pool") for stage in (3, 4)],
        ),
    ],
)
def test_dropout_stands_where_the_releases_have_it(model, expected):
    assert dropouts(shapes(model, (32, 32))[1]) == expected


@pytest.fixture(scope="module")
def bayesian():
    rng = np.random.default_rng(1)
    model = SegNetBasic(num_classes=4, width=1 / 16, dropout_at="central")
    variables = plain.random_variables(model, (1, 16, 24, 3), rng)
    return model, variables, np.float32(rng.integers(0, 256, (2, 16, 24, 3)))


@pytest.mark.slow
def test_mc_dropout_is_mean_and_variance_of_the_samples(bayesian):
    model, variables, image = bayesian
    key, samples = jax.random.key(5), 7
    mean, variance = jax.jit(lambda key: segnet.mc_dropout(model, variables, image, key, samples))(
        key
    )
    one = jax.jit(
        lambda key: model.apply(variables, image, train=False, sampling=True, rngs={"dropout": key})
    )
    logits = np.float64([one(k)["out"] for k in jax.random.split(key, samples)])
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities = scores / scores.sum(-1, keepdims=True)
    assert mean.shape == variance.shape == (2, 16, 24, 4)
    np.testing.assert_allclose(mean, probabilities.mean(0), atol=2e-6)
    np.testing.assert_allclose(variance, probabilities.var(0), atol=2e-6)
    assert np.all(variance >= 0) and variance.max() > 1e-3  # the samples do differ


def test_sampling_leaves_the_running_averages_in_use(bayesian):
    """Only dropout is random: with a rate of 0 a sample is the ordinary prediction."""
    model, variables, image = bayesian
    sure = model.clone(dropout=0.0)

    @jax.jit
    def both(key):
        logits = sure.apply(variables, image, train=False)["out"]
        return segnet.mc_dropout(sure, variables, image, key, 2), jax.nn.softmax(logits)

    (mean, variance), expected = both(jax.random.key(0))
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(variance, 0, atol=1e-12)


def test_errors_say_what_to_change(bayesian):
    model, variables, image = bayesian
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="samples must be positive, got 0"):
        segnet.mc_dropout(model, variables, image, key, 0)
    with pytest.raises(ValueError, match='dropout_at is "none": all samples would be equal'):
        segnet.mc_dropout(model.clone(dropout_at="none"), variables, image, key, 3)
    with pytest.raises(ValueError, match=r"depths \(1, 1\) must be five"):
        shapes(SegNet(depths=(1, 1)), (32, 32))
    with pytest.raises(ValueError, match="decoder: unknown name 'segnets'; did you mean segnet"):
        shapes(SegNetBasic(decoder="segnets"), (32, 32))
    with pytest.raises(ValueError, match="dropout_at: unknown name 'centre'; did you mean central"):
        shapes(SegNet(dropout_at="centre"), (32, 32))
