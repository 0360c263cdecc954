"""GCN: counts of its tables, what a global convolution is, sizes, fusion against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import plain_layers as plain
import plain_resnet
import pytest

from seg_jax.backbones.resnet import Bottleneck, ResNet, Unit
from seg_jax.models.gcn import GCN
from seg_jax.nn.global_conv import GlobalConv
from seg_jax.nn.norm import Norm

# torchvision's ResNet of one unit a block: ((stride of conv1, of conv2), rate).
PLAN = [[((1, 1), 1)], [((1, 2), 1)], [((1, 2), 1)], [((1, 2), 1)]]


def small(**fields):
    backbone = ResNet(14, width=1 / 16)
    return GCN(**{"num_classes": 3, "kernel_size": 3, "backbone": backbone, **fields})


def parameters(model, size=(64, 64)):
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    run = lambda key, x: model.init(key, x, train=False)  # noqa: E731
    return jax.eval_shape(run, jax.random.key(0), image)["params"]


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("depth", "total"), [(50, 26_052_308), (101, 45_044_436), (152, 60_688_084)]
)
def test_parameter_count(depth, total):
    params = parameters(GCN(backbone=ResNet(depth)))
    assert count(params) == total
    assert count(params) - count(params["backbone"]) == 2_544_276
    assert sum(name.startswith("refine_") for name in params) == 9


@pytest.mark.parametrize(
    ("fields", "thousands"),
    [
        # Table 2: the scores of block 4's map, weights without biases, by kernel size.
        ({"kernel_size": 3}, 260),
        ({"kernel_size": 5}, 434),
        ({"kernel_size": 7}, 608),
        ({"kernel_size": 9}, 782),
        ({"kernel_size": 3, "context": "plain"}, 387),
        ({"kernel_size": 5, "context": "plain"}, 1075),
        ({"kernel_size": 7, "context": "plain"}, 2107),
        ({"kernel_size": 9, "context": "plain"}, 3483),  # printed as 3484
        # Table 4: stacks at k = 7, by the channels between.
        ({"kernel_size": 7, "context": "stacked", "stacked_channels": 210}, 4307),
        ({"kernel_size": 7, "context": "stacked", "stacked_channels": 1024}, 28505),
        ({"kernel_size": 7, "context": "stacked", "stacked_channels": 2048}, 75884),  # 75885
    ],
)
def test_parameters_of_the_ablations(fields, thousands):
    params = parameters(GCN(backbone=ResNet(14), **fields))
    weights = [
        leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if path[0].key.startswith(f"{fields.get('context', 'gcn')}_c5") and path[-1].key == "kernel"
    ]
    assert sum(weights) // 1000 == thousands


def test_sizes_at_512_px():
    model = GCN(backbone=ResNet(50))

    def run(key, image):
        variables = model.init(key, image, train=False)
        return model.apply(variables, image, train=False, capture_intermediates=True)

    image = jax.ShapeDtypeStruct((1, 512, 512, 3), jnp.float32)
    outputs, state = jax.eval_shape(run, jax.random.key(0), image)
    state = state["intermediates"]
    sides = [state[f"gcn_c{i}"]["__call__"][0].shape[1] for i in (2, 3, 4, 5)]
    assert sides == [128, 64, 32, 16]  # k = 15 spans nearly all of 16x16
    assert state["refine_stride2"]["__call__"][0].shape == (1, 256, 256, 21)
    assert outputs["out"].shape == (1, 512, 512, 21)


@pytest.mark.parametrize(("stride", "rate"), [(1, 1), (2, 1), (1, 2)])
def test_global_convolution_is_a_dense_one_of_two_terms(stride, rate, rng):
    """Its k x k kernel: for each pair of channels a sum of columns times rows, from either path."""
    k, x = 5, np.float32(rng.normal(size=(1, 13, 12, 3)))
    module = GlobalConv(4, k, stride=stride, rate=rate)
    variables = plain.random_variables(module, x.shape, rng)
    params = {
        name: {"kernel": np.float64(layer["kernel"]), "bias": 0 * layer["bias"]}
        for name, layer in variables["params"].items()
    }
    actual = jax.jit(lambda p: module.apply({"params": p}, x, train=False))(
        jax.tree.map(np.float32, params)
    )
    left = np.einsum(
        "iab,jbc->ijac", params["left_column"]["kernel"][:, 0], params["left_row"]["kernel"][0]
    )
    right = np.einsum(
        "jab,ibc->ijac", params["right_row"]["kernel"][0], params["right_column"]["kernel"][:, 0]
    )
    dense = {"kernel": left + right}
    expected = plain.conv(np.float64(x[0]), dense, pad=rate * (k // 2), stride=stride, rate=rate)
    plain.assert_close(actual[0], expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_unit_of_resnet_gcn_equals_numpy(stride, rng):
    """Norm and ReLU after each of the four convolutions; then as a bottleneck's."""
    unit = Bottleneck(Unit(2, 1, 16, stride, 1), "conv2", "gcn", Norm(), 1.0)
    x = np.float32(rng.normal(size=(1, 9, 8, 6)))
    variables = plain.random_variables(unit, x.shape, rng)
    actual, residual = plain.quick_jit(lambda v: unit.apply(v, x, train=False))(variables)
    cross = plain_resnet.pick(variables, "gcn")

    def along(x, name):
        params, statistics = plain_resnet.layer(cross, name)
        conv, column = params["conv"], name.endswith("column")
        kernel = np.zeros((5, 5, *conv["kernel"].shape[2:]))
        kernel[(slice(None), 2) if column else 2] = np.squeeze(conv["kernel"], 1 if column else 0)
        x = plain.conv(x, {"kernel": kernel}, pad=2)
        x = x[::stride] if column else x[:, ::stride]
        return plain.relu(plain.batch_norm(x, params["bn"], statistics["bn"], plain_resnet.EPSILON))

    x = np.float64(x[0])
    y = along(along(x, "left_column"), "left_row") + along(along(x, "right_row"), "right_column")
    y = plain_resnet.conv_bn(y, plain_resnet.layer(variables, "conv3"))
    plain.assert_close(residual[0], y)
    shortcut = plain_resnet.layer(variables, "shortcut")
    plain.assert_close(actual[0], plain.relu(y + plain_resnet.conv_bn(x, shortcut, stride=stride)))


def reference(image, variables, plan, *, refine):
    """Figure 2 A, for k = 3 and bilinear upsampling."""
    params = variables["params"]

    def score(x, name):
        own = params[f"gcn_{name}"]

        def along(x, layer, axis):
            kernel = np.zeros((3, 3, *own[layer]["kernel"].shape[2:]))
            kernel[(slice(None), 1) if axis == 0 else 1] = np.squeeze(
                own[layer]["kernel"], 1 - axis
            )
            return plain.conv(x, {"kernel": kernel, "bias": own[layer]["bias"]}, pad=1)

        left = along(along(x, "left_column", 0), "left_row", 1)
        return left + along(along(x, "right_row", 1), "right_column", 0)

    def refined(x, name):
        if not refine:
            return x
        own = params[f"refine_{name}"]
        return x + plain.conv(plain.relu(plain.conv(x, own["conv1"], pad=1)), own["conv2"], pad=1)

    def twice(x):
        # A 4x4 bilinear kernel with stride 2 on a map continued beyond its border.
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
        return plain.bilinear_deconv(padded, 4, 2)[3:-3, 3:-3]

    backbone = plain_resnet.pick(variables, "backbone")
    maps, _ = plain_resnet.features(image, backbone, plan, pool_rounding="floor")
    total = None
    for name, x in zip(("c5", "c4", "c3", "c2"), maps[::-1], strict=True):
        own = refined(score(x, name), name)
        total = own if total is None else refined(twice(total) + own, f"{name}_sum")
    for name in ("stride2", "stride1"):
        total = refined(twice(total), name)
    return total


@pytest.mark.parametrize("refinement", [True, False])
def test_equals_numpy(refinement, rng):
    model = small(refinement=refinement)
    image = np.float32(rng.normal(size=(64, 96, 3)))
    variables = plain.random_variables(model, (1, 64, 96, 3), rng)
    actual = plain.quick_jit(lambda v, x: model.apply(v, x, train=False)["out"])(
        variables, image[None]
    )
    plain.assert_close(actual[0], reference(np.float64(image), variables, PLAN, refine=refinement))


def test_learned_upsampling_can_be_bilinear(rng):
    """With the kernels it starts from, but for the border, where a transposed convolution has no
    map beyond it.
    """
    fixed, learned = (small(upsampling=name, refinement=False) for name in ("bilinear", "learned"))
    image = np.float32(rng.normal(size=(1, 128, 128, 3)))
    variables = plain.random_variables(learned, image.shape, rng)
    profile = np.array([0.25, 0.75, 0.75, 0.25])
    kernel = np.float32(np.einsum("i,j,ab->ijab", profile, profile, np.eye(3)))
    names = [f"up_{name}" for name in ("c4", "c3", "c2", "stride2", "stride1")]
    learned_params = {**variables["params"], **{name: {"kernel": kernel} for name in names}}
    fixed_params = {k: v for k, v in variables["params"].items() if k not in names}
    logits = [
        plain.quick_jit(lambda v, m=model: m.apply(v, image, train=False)["out"])(
            {**variables, "params": params}
        )
        for model, params in ((learned, learned_params), (fixed, fixed_params))
    ]
    plain.assert_close(logits[0][:, 48:-48, 48:-48], logits[1][:, 48:-48, 48:-48], 1e-5)
    assert abs(logits[0] - logits[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("fields", "size", "message"),
    [
        ({}, (64, 500), "image width 500 px .*: 480, 512"),
        ({}, (16, 64), "image height 16 px .*: 32"),
        ({"kernel_size": 4}, (64, 64), "kernel_size 4 must be odd"),
        ({"kernel_size": 1, "context": "stacked"}, (64, 64), "kernel_size 1: a stack"),
        ({"context": "dense"}, (64, 64), "context: unknown name 'dense'"),
        (
            {"backbone": ResNet(14, output_stride=8)},
            (64, 64),
            "backbone must halve .* strides of .4, 8, 8, 8. px",
        ),
        ({"backbone": ResNet(14, "slim")}, (64, 64), "backbone .* 'slim'"),
        (
            {"backbone": ResNet(14, pool_rounding="ceil")},
            (64, 64),
            "backbone.pool_rounding .* 'ceil'",
        ),
    ],
)
def test_errors_name_the_remedy(fields, size, message):
    with pytest.raises(ValueError, match=message):
        parameters(small(**fields), size)
