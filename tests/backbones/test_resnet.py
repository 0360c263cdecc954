"""ResNet: the four variants' strides and rates, sizes, counts, and features against NumPy's."""

import jax
import numpy as np
import plain_layers as plain
import plain_resnet
import pytest

from seg_jax.backbones.resnet import ResNet
from seg_jax.nn.norm import Norm

# Of ResNet-26, two units a block: (stride, rate) by unit, written from the releases' definitions.
PLANS = {
    # Caffe: res3a strides; res4 and res5 have dilation 2 and 4 in every unit.
    ("msra", 8): [[(1, 1), (1, 1)], [(2, 1), (1, 1)], [(1, 2), (1, 2)], [(1, 4), (1, 4)]],
    ("semseg", 8): [[(1, 1), (1, 1)], [(2, 1), (1, 1)], [(1, 2), (1, 2)], [(1, 4), (1, 4)]],
    ("semseg", 16): [[(1, 1), (1, 1)], [(2, 1), (1, 1)], [(2, 1), (1, 1)], [(1, 2), (1, 2)]],
    # torchvision: a stage's first unit keeps the dilation of the stage before.
    ("torchvision", 8): [[(1, 1), (1, 1)], [(2, 1), (1, 1)], [(1, 1), (1, 2)], [(1, 2), (1, 4)]],
    ("torchvision", 16): [[(1, 1), (1, 1)], [(2, 1), (1, 1)], [(2, 1), (1, 1)], [(1, 1), (1, 2)]],
    ("torchvision", 32): [[(1, 1), (1, 1)], [(2, 1), (1, 1)], [(2, 1), (1, 1)], [(2, 1), (1, 1)]],
    # slim: blocks 1 to 3 stride in their last unit; from the target stride on the rate multiplies.
    ("slim", 8): [[(1, 1), (2, 1)], [(1, 1), (1, 1)], [(1, 2), (1, 2)], [(1, 4), (1, 4)]],
    ("slim", 16): [[(1, 1), (2, 1)], [(1, 1), (2, 1)], [(1, 1), (1, 1)], [(1, 2), (1, 2)]],
    ("slim", 32): [[(1, 1), (2, 1)], [(1, 1), (2, 1)], [(1, 1), (2, 1)], [(1, 1), (1, 1)]],
}


def plan_of(model):
    blocks = {}
    for unit in model.units():
        blocks.setdefault(unit.block, []).append((unit.stride, unit.rate))
    return list(blocks.values())


@pytest.mark.parametrize(("variant", "output_stride"), PLANS)
def test_strides_and_rates(variant, output_stride):
    model = ResNet(26, variant=variant, output_stride=output_stride)
    assert plan_of(model) == PLANS[variant, output_stride]


@pytest.mark.parametrize(
    ("output_stride", "rates"), [(16, (2, 4, 8)), (8, (4, 8, 16)), (32, (1, 2, 4))]
)
def test_multi_grid_multiplies_the_rate(output_stride, rates):
    """DeepLab v3, section 3.2.1: rates 2 x (1, 2, 4) at output stride 16."""
    model = ResNet(101, variant="slim", output_stride=output_stride, multi_grid=(1, 2, 4))
    assert tuple(rate for _, rate in plan_of(model)[3]) == rates
    assert {rate for _, rate in plan_of(model)[2]} == {2 if output_stride == 8 else 1}


def test_cascade_doubles_on():
    """DeepLab v3, Figure 3 (b): at output stride 16 blocks 4 to 7 have rates 2, 4, 8 and 16."""
    fields = {"variant": "slim", "cascade": 3, "multi_grid": (1, 2, 1)}
    plan = plan_of(ResNet(50, output_stride=16, **fields))
    assert [rate for _, rate in plan[3]] == [2, 4, 2]
    assert [block[0][1] for block in plan[3:]] == [2, 4, 8, 16]
    # (a): without atrous convolution block 7 is at 256.
    plan = plan_of(ResNet(50, output_stride=256, **fields))
    assert 4 * np.prod([stride for block in plan for stride, _ in block]) == 256
    assert [block[0][1] for block in plan] == [1] * 7


def evaluate_shapes(model, size):
    image = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
    return jax.eval_shape(
        lambda key, x: model.init_with_output(key, x, train=False), jax.random.key(0), image
    )


@pytest.mark.parametrize(
    ("depth", "stem", "count"),
    [  # torchvision's published counts less the classifier's 2048 * 1000 + 1000
        (50, "7x7", 25_557_032 - 2_049_000),
        pytest.param(101, "7x7", 44_549_160 - 2_049_000, marks=pytest.mark.slow),
        pytest.param(152, "7x7", 60_192_808 - 2_049_000, marks=pytest.mark.slow),
        # 3x3x(3*64 + 64*64 + 64*128) weights and 2*(64+64+128) of norms for 7x7x3x64 and 2*64;
        # block 1 reads 128 channels twice, in its first unit's conv1 and in its shortcut
        (50, "3x3", 25_557_032 - 2_049_000 + 112_320 + 512 - 9_408 - 128 + 64 * (64 + 256)),
    ],
)
def test_parameter_count(depth, stem, count):
    _, variables = evaluate_shapes(ResNet(depth, stem=stem), (65, 65))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count


def test_running_statistics_of_deeplab_v2():
    _, variables = evaluate_shapes(ResNet(101, variant="msra"), (65, 65))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["batch_stats"])) == 105_344


SIZES = {  # network: its image side, and those of c1 to c5
    "DeepLab v2": (
        ResNet(101, "msra", output_stride=8, pool_rounding="ceil"), 321, (161, 81, 41, 41, 41),
    ),
    "PSPNet": (ResNet(50, "semseg", "3x3", output_stride=8), 473, (237, 119, 60, 60, 60)),
    "GCN": (ResNet(152), 512, (256, 128, 64, 32, 16)),
    "DeepLab v3, OS 16": (ResNet(101, "slim", output_stride=16), 513, (257, 65, 33, 33, 33)),
    "DeepLab v3, OS 8": (ResNet(101, "slim", output_stride=8), 513, (257, 65, 65, 65, 65)),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_sizes_at_the_papers_crops(name):
    model, side, expected = SIZES[name]
    features, _ = evaluate_shapes(model, (side, side))
    assert tuple(features[f"c{i}"].shape[1] for i in range(1, 6)) == expected
    assert [features[f"c{i}"].shape[3] for i in range(2, 6)] == [256, 512, 1024, 2048]
    # DeepLab v3+ decodes at stride 4 in every variant.
    assert features["low_level"].shape == (1, (side + 3) // 4, (side + 3) // 4, 256)


def test_ceil_and_floor_of_the_pool_differ_at_even_maps():
    """Caffe's pool of 321 px, 161 -> 81, is floor's; of 500 px, 250 -> 126 where floor has 125."""
    for side, sizes in ((321, (81, 81)), (500, (126, 125))):
        for rounding, expected in zip(("ceil", "floor"), sizes, strict=True):
            features, _ = evaluate_shapes(ResNet(14, pool_rounding=rounding), (side, side))
            assert features["c2"].shape[1] == expected


# Of each variant the network and an image size. NumPy's pool rounds up; 60 px is a side where that
# differs from rounding down.
CASES = {
    "msra": (ResNet(26, "msra", "7x7", 8, pool_rounding="ceil"), (45, 60)),
    "semseg": (ResNet(26, "semseg", "3x3", 8), (41, 65)),
    "slim": (ResNet(26, "slim", "3x3", 16, (1, 2)), (49, 65)),
    "torchvision": (ResNet(26, "torchvision", "7x7", 16), (49, 65)),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_numpy(name, rng):
    """Evaluation mode with random running averages, at 1/16 of the channels."""
    model, size = CASES[name]
    model = model.clone(width=1 / 16)
    image = np.float32(rng.normal(size=(*size, 3)))
    variables = plain.random_variables(model, (1, *size, 3), rng)
    actual = plain.quick_jit(lambda v, x: model.apply(v, x, train=False))(variables, image[None])
    plan = [
        [((stride, 1) if name == "msra" else (1, stride), rate) for stride, rate in units]
        for units in PLANS[name, model.output_stride]
    ]
    if model.multi_grid:
        plan[3] = [(s, r * grid) for (s, r), grid in zip(plan[3], model.multi_grid, strict=True)]
    maps, low_level = plain_resnet.features(np.float64(image), variables, plan)
    for stage, expected in enumerate(maps, start=2):
        plain.assert_close(actual[f"c{stage}"][0], expected)
    plain.assert_close(actual["low_level"][0], low_level)
    # Before the ReLU and the shortcut, as released: ports that take block 1's output have no such.
    assert (low_level < 0).mean() > 0.1


def test_frozen_norms_train_nothing_of_themselves(rng):
    """DeepLab v2: running averages, scale and bias stay, kernels learn; the output is that of
    evaluation.
    """
    model = ResNet(14, norm=Norm(statistics="frozen"), width=1 / 16)
    image = np.float32(rng.normal(size=(1, 33, 33, 3)))
    variables = plain.random_variables(model, image.shape, rng)

    def total(params):
        state = {**variables, "params": params}
        out, changed = model.apply(state, image, train=True, mutable=["batch_stats"])
        return out["c5"].sum(), changed["batch_stats"]

    compute = plain.quick_jit(jax.value_and_grad(total, has_aux=True))
    (trained, statistics), gradients = compute(variables["params"])
    evaluated = plain.quick_jit(lambda: model.apply(variables, image, train=False)["c5"].sum())()
    np.testing.assert_allclose(trained, evaluated, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, statistics, variables["batch_stats"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.any(leaf) == (path[-1].key == "kernel"), path


def test_receptive_field_ends_where_the_kernels_do(rng):
    """Exactly zero gradient outside the field that kernels, strides and rates add up to."""
    model = ResNet(14, "semseg", output_stride=8, width=1 / 16)
    # conv1 7; pool 2 * 2; 3x3 of blocks 1 and 2 at strides 4 and 4; blocks 3 and 4 at rates 2, 4
    # and stride 8. Half of it on either side of the middle.
    half = 3 + 2 + 4 + 4 + 2 * 8 + 4 * 8
    image = np.float32(rng.normal(size=(1, 193, 193, 3)))
    variables = plain.random_variables(model, image.shape, rng)
    cell = 12  # its centre is pixel 96

    def value(image):
        return model.apply(variables, image, train=False)["c5"][0, cell, cell].sum()

    seen = np.flatnonzero(np.any(np.asarray(plain.quick_jit(jax.grad(value))(image)), (0, 2, 3)))
    assert 96 - half <= seen.min() and seen.max() <= 96 + half
    assert seen.min() <= 96 - half + 8 and seen.max() >= 96 + half - 8  # and it does see that far


def test_units_of_global_convolutions_weigh_about_as_much():
    """Large Kernel Matters, section 4.1: the sizes are chosen for a similar cost."""
    counts = []
    for unit in ("bottleneck", "gcn"):
        features, variables = evaluate_shapes(ResNet(50, unit=unit), (64, 64))
        assert features["c5"].shape == (1, 2, 2, 2048)
        counts.append(sum(leaf.size for leaf in jax.tree.leaves(variables["params"])))
    assert abs(counts[1] / counts[0] - 1) < 0.1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 34}, "depth: unknown name '34'"),
        ({"output_stride": 64}, "output_stride: unknown name '64'"),
        ({"variant": "caffe"}, "variant: unknown name 'caffe'"),
        ({"multi_grid": (1, 2)}, r"multi_grid \(1, 2\) must have 3 rates"),
        ({"cascade": 4}, "cascade"),
    ],
)
def test_errors_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**fields).units()
