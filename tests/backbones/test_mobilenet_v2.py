"""MobileNetV2: strides and rates of the release, sizes, counts, and features against NumPy's."""

import jax
import numpy as np
import plain_layers as plain
import plain_xception
import pytest

from seg_jax.backbones.mobilenet_v2 import MobileNetV2, from_torchvision, torchvision_layer
from seg_jax.checks import UserError

# Of the 17 bottlenecks of the paper's Table 2: strides; and rates at output strides 16 and 8.
STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)
RATES = {
    32: (1,) * 17,
    16: (1,) * 14 + (2,) * 3,
    8: (1,) * 7 + (2,) * 7 + (4,) * 3,
}
CHANNELS = (16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)
# Google's DeepLab weights of half the width: channels of the projections and of the expansions.
HALF = (8, 12, 12, 16, 16, 16, 32, 32, 32, 32, 48, 48, 48, 80, 80, 80, 160)
HALF_EXPANDED = (48, 72, 72, 96, 96, 96, 192, 192, 192, 192, 288, 288, 288, 480, 480, 480)


def evaluate_shapes(model, size=(65, 65)):
    image = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
    return jax.eval_shape(
        lambda key, x: model.init_with_output(key, x, train=False), jax.random.key(0), image
    )


@pytest.mark.parametrize("output_stride", RATES)
def test_strides_and_rates(output_stride):
    units = MobileNetV2(output_stride).units()
    assert tuple(unit.rate for unit in units) == RATES[output_stride]
    assert np.prod([2, *(unit.stride for unit in units)]) == output_stride
    assert tuple(unit.channels for unit in units) == CHANNELS
    for unit, stride in zip(units, STRIDES, strict=True):
        assert unit.stride in (1, stride)


def test_parameter_count():
    """torchvision's published count less its classifier and its 1x1 convolution to 1280."""
    _, variables = evaluate_shapes(MobileNetV2())
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert count == 3_504_872 - (1280 * 1000 + 1000) - (320 * 1280 + 2 * 1280)


def shapes_of(model, layer):
    params = evaluate_shapes(model)[1]["params"]
    names = ["expanded_conv", *(f"expanded_conv_{number}" for number in range(1, 17))]
    kernels = [params[name][layer]["conv"]["kernel"] for name in names if layer in params[name]]
    return tuple(kernel.shape[-1] for kernel in kernels)


def test_half_width_is_that_of_the_released_deeplab():
    """12 channels where the ImageNet networks of that width, rounded to 8, have 16."""
    model = MobileNetV2(width=0.5)
    assert shapes_of(model, "project") == HALF
    assert shapes_of(model, "expand") == HALF_EXPANDED
    rounded = shapes_of(MobileNetV2(width=0.5, divisor=8), "project")
    assert rounded == tuple(16 if channels == 12 else channels for channels in HALF)


def test_quarter_more_channels_are_not_rounded_down_by_a_tenth():
    """slim's rule: 32 * 0.35 = 11.2 would become 8, which is too few, so 16."""
    params = evaluate_shapes(MobileNetV2(width=0.35, divisor=8))[1]["params"]
    assert params["conv"]["conv"]["kernel"].shape == (3, 3, 3, 16)


@pytest.mark.parametrize(
    ("output_stride", "sides"),
    [(8, (65, 65)), (16, (33, 33)), (32, (33, 17))],
)
def test_sizes_at_the_papers_crop(output_stride, sides):
    features, _ = evaluate_shapes(MobileNetV2(output_stride), (513, 513))
    expected = [(257, 16), (129, 24), (65, 32), (sides[0], 96), (sides[1], 320)]
    assert [features[f"c{i}"].shape[2:] for i in range(1, 6)] == expected
    assert features["low_level"].shape == (1, 129, 129, 144)


def plain_mobilenet(x, variables, strides, rates):
    """Each bottleneck's result, and what enters its projection; epsilon is TensorFlow's 1e-3."""

    def relu6(x):
        return np.minimum(plain.relu(x), 6.0)

    x = relu6(plain_xception.conv_norm(x, plain_xception.pick(variables, "conv"), 1e-3, stride=2))
    results = []
    for number, (stride, rate) in enumerate(zip(strides, rates, strict=True)):
        name = f"expanded_conv_{number}" if number else "expanded_conv"
        unit, y = plain_xception.pick(variables, name), x
        if number:
            y = relu6(plain_xception.conv_norm(y, plain_xception.pick(unit, "expand"), 1e-3))
        part = plain_xception.pick(unit, "depthwise")
        kernel = part["params"]["conv"]["kernel"]
        y = plain_xception.depthwise(y, kernel, stride=stride, rate=rate)
        inner = relu6(plain_xception.norm(y, part, 1e-3))
        y = plain_xception.conv_norm(inner, plain_xception.pick(unit, "project"), 1e-3)
        # Table 2: all but the first of a line have a shortcut.
        x = x + y if number and CHANNELS[number] == CHANNELS[number - 1] else y
        results.append((x, inner))
    return results


@pytest.mark.parametrize(
    ("output_stride", "size"),
    [(8, (33, 49)), pytest.param(16, (46, 34), marks=pytest.mark.slow)],
)
def test_equals_numpy(output_stride, size, rng):
    """Evaluation mode with random running averages; even sizes are padded symmetrically."""
    model = MobileNetV2(output_stride, width=1 / 4)
    image = np.float32(rng.normal(size=(*size, 3)))
    variables = plain.random_variables(model, (1, *size, 3), rng)
    actual = plain.quick_jit(lambda v, x: model.apply(v, x, train=False))(variables, image[None])
    # From the output stride on, a stride is given up: the map keeps its size.
    total, strides = 2, []
    for stride in STRIDES:
        strides.append(stride if total * stride <= output_stride else 1)
        total *= strides[-1]
    maps = plain_mobilenet(np.float64(image), variables, strides, RATES[output_stride])
    for stage, last in {"c1": 0, "c2": 2, "c3": 5, "c4": 12, "c5": 16}.items():
        plain.assert_close(actual[stage][0], maps[last][0])
    plain.assert_close(actual["low_level"][0], maps[2][1])
    assert maps[2][1].min() == 0 and maps[2][1].max() == 6  # after the ReLU6
    assert (maps[16][0] < 0).mean() > 0.1  # bottlenecks are linear


def test_torchvision_names():
    assert torchvision_layer("conv/bn") == "features.0.1"
    assert torchvision_layer("expanded_conv/depthwise/conv") == "features.1.conv.0.0"
    assert torchvision_layer("expanded_conv/project/bn") == "features.1.conv.2"
    assert torchvision_layer("expanded_conv_16/expand/bn") == "features.17.conv.0.1"
    assert torchvision_layer("expanded_conv_16/project/conv") == "features.17.conv.2"
    assert torchvision_layer("logits") is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"output_stride": 64}, "output_stride: unknown name '64'"),
        ({"width": 0.0}, "width must be positive"),
        ({"divisor": 0}, "divisor must be positive"),
    ],
)
def test_errors_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        evaluate_shapes(MobileNetV2(**fields))


def test_other_weights_are_refused():
    state = {"features.18.0.weight": np.zeros(3, np.float32), "fc.bias": np.zeros(3, np.float32)}
    with pytest.raises(UserError, match="missing in the weights: .*; 1 unknown .*: fc.bias$"):
        from_torchvision(MobileNetV2(), state)
