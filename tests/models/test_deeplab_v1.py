"""DeepLab v1 against the authors' networks, written out in NumPy; sizes, counts, alignment."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import plain_layers as plain
import pytest

from seg_jax.backbones.vgg import DEEPLAB_POOLS, DEEPLAB_RATES, VGG
from seg_jax.models.deeplab_v1 import POOLS_2X2, DeepLabV1

BRANCHES = ("data", "pool1", "pool2", "pool3", "pool4")
NO_POOL5A = {"pool5a": "none", "backbone": VGG(pools=POOLS_2X2, rates=DEEPLAB_RATES)}
VARIANTS = {
    "4x4": DeepLabV1(fc6_kernel=4, fc6_rate=4, fc_channels=4096, **NO_POOL5A),
    "4x4 large": DeepLabV1(fc6_kernel=4, fc6_rate=8, fc_channels=4096, **NO_POOL5A),
    "7x7": DeepLabV1(fc6_kernel=7, fc6_rate=4, fc_channels=4096, **NO_POOL5A),
    "LargeFOV": DeepLabV1(),
    "MSc-LargeFOV": DeepLabV1(branches=BRANCHES),
}


def small(model, **fields):
    backbone = dataclasses.replace(model.backbone, width=1 / 16, parent=None)
    return model.clone(num_classes=4, width=1 / 128, backbone=backbone, **fields)


def released(variant, params, x):
    """The released train.prototxt files, layer by layer; returns the scores (fc8 or fc_fusion)."""
    largefov = "LargeFOV" in variant
    ms, fine = [], {"data": x}
    for stage, depth in enumerate((2, 2, 3, 3, 3), start=1):
        rate = 2 if stage == 5 else 1
        for layer in range(1, depth + 1):
            conv = params["backbone"][f"conv{stage}_{layer}"]
            x = plain.relu(plain.conv(x, conv, pad=rate, rate=rate))
        if stage <= 3:
            x = plain.max_pool_padded(x, window=3 if largefov else 2, stride=2, pad=1)
        elif stage == 4 and not largefov:
            x = plain.max_pool_padded(x, window=2, stride=1, pad=0)
        else:
            x = plain.max_pool_padded(x, window=3, stride=1, pad=1)
        fine[f"pool{stage}"] = x
    if variant.startswith("MSc"):
        for name, stride in zip(BRANCHES, (8, 4, 2, 1, 1), strict=True):
            y = plain.relu(plain.conv(fine[name], params[f"{name}_conv"], pad=1, stride=stride))
            y = plain.relu(plain.conv(y, params[f"{name}_fc"], pad=0))
            ms.append(plain.conv(y, params[f"{name}_ms"], pad=0))
    if largefov:
        x = plain.average_pool_3x3(x)
    rate, pad = {"4x4": (4, 6), "4x4 large": (8, 12), "7x7": (4, 12)}.get(variant, (12, 12))
    x = plain.relu(plain.conv(x, params["fc6"], pad=pad, rate=rate))
    x = plain.relu(plain.conv(x, params["fc7"], pad=0))
    return plain.conv(x, params["fc8"], pad=0) + sum(ms)


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_the_released_network(variant, rng):
    """The scores stand at the label's pixels that the release looks at, bilinear between them.

    LargeFOV has pool5a, whose average counts the padding; its successors in v2 have none.
    """
    model = small(VARIANTS[variant])
    first = 0 if "LargeFOV" in variant else 1
    size = (41 + first, 65 + first)
    params = plain.random_params(model, (1, *size, 3), rng)
    image = np.float32(rng.normal(size=(*size, 3)))
    scores = released(variant, params, np.float64(image))
    assert scores.shape == (6, 9, 4)

    out = jax.jit(lambda p, x: model.apply({"params": p}, x, train=False)["out"])(
        params, image[None]
    )[0]
    assert out.dtype == jnp.float32 and out.shape == (*size, 4)
    # label_shrink: a factor of 8, with pad_beg -1 in the networks of 2x2 pools.
    plain.assert_close(out[first::8, first::8], scores)
    plain.assert_close(out[first:, first:], plain.interp(scores, (41, 65)))
    np.testing.assert_array_equal(out[0], out[first])
    np.testing.assert_array_equal(out[:, 0], out[:, first])


def shapes(model, size):
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)

    def run(key, image):
        variables = model.init(key, image, train=False)
        out = model.apply(variables, image, train=False, capture_intermediates=True)
        return out, variables

    (out, state), variables = jax.eval_shape(run, jax.random.key(0), image)
    state, params = state["intermediates"], variables["params"]
    sides = [state["backbone"]["__call__"][0][f"c{stage}"].shape[1] for stage in range(1, 6)]
    scores = state["fc8"]["__call__"][0].shape[1:]
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return {"out": out["out"].shape, "sides": sides, "scores": scores, "count": count}


@pytest.mark.parametrize(
    ("variant", "size", "sides", "count"),
    [
        ("4x4", 306, [154, 78, 40, 39, 39], 65_140_565),
        ("4x4 large", 306, [154, 78, 40, 39, 39], 65_140_565),
        ("7x7", 514, [258, 130, 66, 65, 65], 134_346_581),
        ("LargeFOV", 321, [161, 81, 41, 41, 41], 20_505_429),
        ("MSc-LargeFOV", 513, [257, 129, 65, 65, 65], 21_711_550),
    ],
)
def test_sizes_and_parameter_count(variant, size, sides, count):
    expected = {"out": (1, size, size, 21), "sides": sides, "count": count}
    expected["scores"] = (sides[-1], sides[-1], 21)
    assert shapes(VARIANTS[variant], size) == expected


@pytest.mark.parametrize(
    ("variant", "side", "legal"),
    [
        ("LargeFOV", 320, "313, 321"),
        ("LargeFOV", 514, "513, 521"),
        ("4x4", 321, "314, 322"),
        ("4x4", 1, "2"),
        ("7x7", 513, "506, 514"),
    ],
)
def test_illegal_sizes_name_the_nearest_legal_ones(variant, side, legal):
    message = f"image height {side} px does not fit .* the nearest that do: {legal}\n"
    with pytest.raises(ValueError, match=message):
        shapes(VARIANTS[variant], side)
    for size in map(int, legal.split(", ")):
        shapes(VARIANTS[variant], size)


def test_the_releases_sizes_are_legal():
    """32 k - 31 with windows of 3, 8 k + 2 with windows of 2."""
    for k in range(1, 20):
        assert VARIANTS["LargeFOV"].legal_sizes(32 * k - 31) == (32 * k - 31,)
        assert VARIANTS["4x4"].legal_sizes(8 * k + 2) == (8 * k + 2,)


@pytest.mark.slow
def test_branches_start_as_released():
    """N(0, 0.001) before a branch's scores, N(0, 0.01) for them; pool4_fc and pool3_ms differ."""
    model = DeepLabV1(num_classes=50, branches=BRANCHES, width=1 / 4)

    @jax.jit  # which leaves out what is not returned
    def init(key):
        params = model.init(key, jnp.ones((1, 9, 9, 3)), train=False)["params"]
        return {name: params[name] for name in params if name.startswith((*BRANCHES, "fc8"))}

    params = init(jax.random.key(0))
    for name in BRANCHES:
        for suffix, deviation in (("conv", 0.001), ("fc", 0.001), ("ms", 0.01)):
            deviation = {"pool4_fc": 0.005, "pool3_ms": 0.0}.get(f"{name}_{suffix}", deviation)
            kernel = params[f"{name}_{suffix}"]["kernel"]
            np.testing.assert_allclose(np.std(kernel), deviation, rtol=0.15)
    np.testing.assert_allclose(np.std(params["fc8"]["kernel"]), 0.01, rtol=0.1)


def test_errors_say_what_to_change():
    with pytest.raises(ValueError, match="fc6_kernel 4 at fc6_rate 3 has no centre on the map"):
        shapes(DeepLabV1(fc6_kernel=4, fc6_rate=3), 33)
    with pytest.raises(ValueError, match="branches: unknown name 'pool5'"):
        shapes(DeepLabV1(branches=("pool5",)), 33)
    with pytest.raises(ValueError, match="no stride aligns them; use backbone.pools=DEEPLAB_POOLS"):
        shapes(VARIANTS["7x7"].clone(branches=("pool1",)), 34)
    with pytest.raises(ValueError, match="rates .* must be five, one for each stage"):
        shapes(DeepLabV1(backbone=VGG(pools=DEEPLAB_POOLS, rates=(1, 1, 1, 1))), 33)
