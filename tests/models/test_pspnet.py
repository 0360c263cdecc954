"""PSPNet against the release written out in NumPy; its pyramid, sizes and parameter counts."""

import jax
import jax.numpy as jnp
import numpy as np
import plain_layers as plain
import plain_resnet
import pytest

from seg_jax.backbones.resnet import ResNet
from seg_jax.models.pspnet import PSPNet, PyramidPooling
from seg_jax.nn.fcn_head import FCNHead

# Of ResNet-14, one unit a block: ((stride of conv1, of conv2), rate), as in PSPNet's prototxt.
PLAN = [[((1, 1), 1)], [((1, 2), 1)], [((1, 1), 2)], [((1, 1), 4)]]


def small(**fields):
    return PSPNet(
        num_classes=5, width=1 / 16, backbone=ResNet(14, "semseg", "3x3", 8, width=1 / 16), **fields
    )


def shapes(model, size, *, train=True):
    """Outputs of a training step, variables, and intermediates."""

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


@pytest.mark.parametrize(
    ("depth", "aux", "count"),
    [
        (50, False, 46_716_373),
        (50, True, 49_081_578),
        pytest.param(101, False, 65_708_501, marks=pytest.mark.slow),
        pytest.param(101, True, 68_073_706, marks=pytest.mark.slow),
    ],
)
def test_parameter_count(depth, aux, count):
    model = PSPNet(aux=aux, backbone=ResNet(depth, "semseg", "3x3", output_stride=8))
    _, params, _ = shapes(model, (57, 57))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_sizes_at_473_px():
    outputs, _, state = shapes(PSPNet(), (473, 473))
    assert state["backbone"]["__call__"][0]["c5"].shape == (2, 60, 60, 2048)
    assert state["pyramid"]["bins6"]["__call__"][0].shape == (2, 6, 6, 512)
    assert state["pyramid"]["__call__"][0].shape == (2, 60, 60, 4096)
    assert state["aux_head"]["conv"]["__call__"][0].shape == (2, 60, 60, 256)
    assert {name: logits.shape for name, logits in outputs.items()} == {
        "out": (2, 473, 473, 21),
        "aux": (2, 473, 473, 21),
    }


def test_auxiliary_head_is_for_training():
    outputs, params, _ = shapes(small(), (57, 57), train=False)
    assert set(outputs) == {"out"} and "aux_head" in params


@pytest.mark.parametrize(("side", "nearest"), [(512, "505, 513"), (380, "377, 385")])
def test_sides_off_the_grid_name_the_nearest(side, nearest):
    with pytest.raises(ValueError, match=f"image width {side} px .*: {nearest}"):
        shapes(small(), (473, side))


def pyramid(x, variables):
    """Caffe's: windows of a bin's share of the map, 1x1 convolutions, Interp back."""
    maps = [x]
    for bins in (1, 2, 3, 6):
        (h, w), cells = x.shape[:2], np.empty((bins, bins, x.shape[2]))
        for i in range(bins):
            for j in range(bins):
                # PyTorch's cells; where bins divides the side they are Caffe's windows.
                rows = slice(i * h // bins, -(-(i + 1) * h // bins))
                columns = slice(j * w // bins, -(-(j + 1) * w // bins))
                cells[i, j] = x[rows, columns].mean((0, 1))
        own = plain_resnet.layer(variables, f"bins{bins}")
        maps.append(plain.interp(plain.relu(plain_resnet.conv_bn(cells, own)), (h, w)))
    return np.concatenate(maps, -1)


def head(x, variables):
    x = plain.relu(plain_resnet.conv_bn(x, plain_resnet.layer(variables, "conv")))
    return plain.conv(x, variables["params"]["score"], pad=0)


@pytest.mark.parametrize("size", [(41, 49), (89, 97)])  # maps of 6x7 and 12x13
def test_equals_numpy(size, rng):
    model = small(aux=False)
    image = np.float32(rng.normal(size=(*size, 3)))
    variables = plain.random_variables(model, (1, *size, 3), rng)
    actual = plain.quick_jit(lambda v, x: model.apply(v, x, train=False)["out"])(
        variables, image[None]
    )
    backbone = plain_resnet.pick(variables, "backbone")
    maps, _ = plain_resnet.features(np.float64(image), backbone, PLAN)
    x = pyramid(maps[-1], plain_resnet.pick(variables, "pyramid"))
    expected = plain.interp(head(x, plain_resnet.pick(variables, "out_head")), size)
    plain.assert_close(actual[0], expected)


def test_windows_are_caffes_where_bins_divide_the_map(rng):
    """60x60 at 473 px: windows of 60, 30, 20 and 10, none of which share a pixel."""
    x = np.float32(rng.normal(size=(1, 60, 60, 8)))
    module = PyramidPooling()
    variables = plain.random_variables(module, x.shape, rng)
    _, state = plain.quick_jit(
        lambda v, x: module.apply(v, x, train=False, capture_intermediates=True)
    )(variables, x)
    for bins in (1, 2, 3, 6):
        k = 60 // bins
        cells = np.float64(x[0]).reshape(bins, k, bins, k, 8).mean((1, 3))
        own = plain_resnet.layer(variables, f"bins{bins}")
        expected = plain.relu(plain_resnet.conv_bn(cells, own))
        plain.assert_close(state["intermediates"][f"bins{bins}"]["__call__"][0][0], expected)


def test_every_logit_sees_the_whole_image(rng):
    """Not the convolutions, whose field is smaller than 353 px on ResNet-14, but the pyramid."""
    model = small(aux=False)
    image = np.float32(rng.normal(size=(1, 353, 65, 3)))
    variables = plain.random_variables(model, image.shape, rng)

    def corner(image):
        return model.apply(variables, image, train=False)["out"][0, 0, 0].sum()

    seen = np.any(np.asarray(plain.quick_jit(jax.grad(corner))(image)), axis=(0, 2, 3))
    assert seen[-8:].any()


@pytest.mark.parametrize("dropped", ["elements", "channels"])
def test_dropout_of_single_elements_and_of_whole_channels(dropped):
    head = FCNHead(num_classes=3, channels=32, dropout=0.5, dropped=dropped)
    image = jnp.ones((2, 6, 7, 4))
    variables = head.init({"params": jax.random.key(0)}, image, train=False)
    _, seen = head.apply(
        variables,
        image,
        train=True,
        rngs={"dropout": jax.random.key(1)},
        mutable=["intermediates", "batch_stats"],
        capture_intermediates=True,
    )
    (before,), (after,) = (seen["intermediates"][name]["__call__"] for name in ("conv", "dropout"))
    live = np.asarray(before) != 0
    kept = np.asarray(after) != 0
    factor = np.asarray(after)[kept] / np.asarray(before)[kept]
    np.testing.assert_allclose(factor, 2.0)  # what is kept is divided by 1 - 0.5
    share = [
        kept[n, ..., c].sum() / live[n, ..., c].sum()
        for n in range(2)
        for c in range(32)
        if live[n, ..., c].any()
    ]
    if dropped == "channels":  # all or nothing, of each image on its own
        assert set(share) == {0.0, 1.0}
        assert (kept.any((1, 2))[0] != kept.any((1, 2))[1]).any()
    else:
        assert any(0 < part < 1 for part in share)
