"""Xception: strides and rates of the release, sizes, counts, and features against NumPy's."""

import jax
import numpy as np
import plain_layers as plain
import plain_xception
import pytest

from seg_jax.backbones.xception import Xception

# (stride, rate) of entry blocks, one middle unit and both exit blocks, from the release's tables.
PLANS = {
    (65, 32): [(2, 1), (2, 1), (2, 1), (1, 1), (2, 1), (1, 1)],
    (65, 16): [(2, 1), (2, 1), (2, 1), (1, 1), (1, 1), (1, 2)],
    (65, 8): [(2, 1), (2, 1), (1, 1), (1, 2), (1, 2), (1, 4)],
    (41, 8): [(2, 1), (2, 1), (1, 1), (1, 2), (1, 2), (1, 4)],
    (71, 16): [(2, 1), (1, 1), (2, 1), (1, 1), (2, 1), (1, 1), (1, 1), (1, 2)],
    (71, 8): [(2, 1), (1, 1), (2, 1), (1, 1), (1, 1), (1, 2), (1, 2), (1, 4)],
}
SHORTCUTS = ("conv", "sum", "conv", "none")  # entry flow, middle flow, exit flow


def plan_of(model):
    return [(unit.name, unit.stride, unit.rate) for unit in model.units()]


def evaluate_shapes(model, size):
    image = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
    return jax.eval_shape(
        lambda key, x: model.init_with_output(key, x, train=False), jax.random.key(0), image
    )


@pytest.mark.parametrize(("depth", "output_stride"), PLANS)
def test_strides_and_rates(depth, output_stride):
    """The middle flow's rate 2 at an output stride of 8 is not in the paper."""
    units = Xception(depth, output_stride, middle_units=1).units()
    assert [(unit.stride, unit.rate) for unit in units] == PLANS[depth, output_stride]
    full = Xception(depth, output_stride).units()
    middle = [unit for unit in full if unit.name.startswith("middle")]
    assert len(middle) == (8 if depth == 41 else 16)
    assert len({(unit.stride, unit.rate) for unit in middle}) == 1


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_parameter_count(output_stride):
    _, variables = evaluate_shapes(Xception(65, output_stride), (65, 65))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 37_867_312
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["batch_stats"])) == 185_200


def test_depths_differ_in_middle_units_and_entry_blocks():
    """A middle unit: three times 9 * 728 + 2 * 728 + 728^2 + 2 * 728."""
    counts = {}
    for depth in (41, 65, 71):
        _, variables = evaluate_shapes(Xception(depth), (65, 65))
        counts[depth] = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert counts[65] - counts[41] == 8 * 3 * (13 * 728 + 728**2)

    def block(c_in, c):
        """Three separable convolutions and the shortcut's, each with its norms."""
        pairs = ((c_in, c), (c, c), (c, c))
        return sum(11 * a + a * b + 2 * b for a, b in pairs) + c_in * c + 2 * c

    assert counts[71] - counts[65] == block(256, 256) + block(728, 728)


@pytest.mark.parametrize(
    ("depth", "output_stride", "sides", "channels"),
    [
        (65, 16, (257, 129, 65, 33, 33), (64, 128, 256, 728, 2048)),
        (65, 8, (257, 129, 65, 65, 65), (64, 128, 256, 728, 2048)),
        (71, 32, (257, 129, 65, 33, 17), (64, 256, 728, 728, 2048)),
    ],
)
def test_sizes_at_the_papers_crop(depth, output_stride, sides, channels):
    features, _ = evaluate_shapes(Xception(depth, output_stride), (513, 513))
    expected = zip(sides, channels, strict=True)
    assert [features[f"c{i}"].shape[2:] for i in range(1, 6)] == list(expected)
    assert features["low_level"].shape == (1, 129, 129, 256)


@pytest.mark.parametrize(
    ("depth", "output_stride", "size"), [(65, 16, (33, 49)), (65, 8, (34, 46)), (71, 8, (33, 33))]
)
def test_equals_numpy(depth, output_stride, size, rng):
    """Evaluation mode, random running averages, at even sizes too: padding is symmetric."""
    model = Xception(depth, output_stride, middle_units=1, width=1 / 32)
    image = np.float32(rng.normal(size=(*size, 3)))
    variables = plain.random_variables(model, (1, *size, 3), rng)
    actual = plain.quick_jit(lambda v, x: model.apply(v, x, train=False))(variables, image[None])
    entry = len(PLANS[depth, output_stride]) - 3
    shortcuts = ("conv",) * entry + SHORTCUTS[1:]
    plan = [(*unit, shortcut) for unit, shortcut in zip(plan_of(model), shortcuts, strict=True)]
    maps = plain_xception.xception(np.float64(image), variables, plan)
    stages = {"c4": "middle_flow_block1_unit1", "c5": "exit_flow_block2_unit1"}
    stages["c2"] = f"entry_flow_block{1 if depth == 65 else 2}_unit1"
    for stage, unit in stages.items():
        plain.assert_close(actual[stage][0], maps[unit][0])
    low_level = maps[f"entry_flow_block{2 if depth == 65 else 3}_unit1"][1]
    plain.assert_close(actual["low_level"][0], low_level)
    assert (low_level < 0).mean() > 0.1  # before the ReLU
    assert (maps["middle_flow_block1_unit1"][0] < 0).mean() > 0.1  # sums end in none
    assert maps["exit_flow_block2_unit1"][0].min() == 0  # the exit does


def test_receptive_field_ends_where_the_kernels_do(rng):
    """Exactly zero gradient outside the field that strides and rates add up to."""
    model = Xception(65, 8, middle_units=1, width=1 / 64)
    # conv1_1 1, conv1_2 2; block 1 3 * 2; block 2 3 * 4; block 3 3 * 8; then three convolutions of
    # rate 2, 2 and 4 a unit, 8 px apart. On either side of the middle.
    half = 1 + 2 + 6 + 12 + 24 + 48 + 48 + 96
    image = np.float32(rng.normal(size=(1, 577, 17, 3)))
    variables = plain.random_variables(model, image.shape, rng)
    cell = 36  # its centre is pixel 288

    def value(image):
        return model.apply(variables, image, train=False)["c5"][0, cell, 1].sum()

    seen = np.flatnonzero(np.any(np.asarray(plain.quick_jit(jax.grad(value))(image)), (0, 2, 3)))
    assert 288 - half <= seen.min() and seen.max() <= 288 + half
    assert seen.min() <= 288 - half + 32 and seen.max() >= 288 + half - 32  # it does see that far


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 39}, "depth: unknown name '39'"),
        ({"output_stride": 4}, "output_stride: unknown name '4'"),
        ({"middle_units": 0}, "middle_units must be positive"),
    ],
)
def test_errors_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        Xception(**fields).units()
