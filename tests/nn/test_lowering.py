"""Every way of carrying out a convolution against XLA's own: values and both gradients."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from seg_jax.nn import depthwise, lowering, products, separable
from seg_jax.nn.conv_geometry import Geometry


def geometry(stride=(1, 1), rate=(1, 1), padding=((0, 0), (0, 0))):
    return Geometry(stride, rate, padding)


def same(rate):
    return geometry(rate=(rate, rate), padding=((rate, rate), (rate, rate)))


def lax_conv(x, kernel, g, groups=1):
    return lax.conv_general_dilated(
        x, kernel, g.stride, g.padding, rhs_dilation=g.rate, feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest",
    )  # fmt: skip


def value_and_gradients(function, x, kernel, rng):
    @jax.jit
    def run(x, kernel, weight):
        y, back = jax.vjp(function, x, kernel)
        return y, *back(weight)

    weight = rng.normal(size=jax.eval_shape(function, x, kernel).shape).astype(x.dtype)
    return run(x, kernel, weight)


def assert_same(ours, theirs, x, kernel):
    for got, expected, name in zip(
        value_and_gradients(ours, x, kernel, np.random.default_rng(1)),
        value_and_gradients(theirs, x, kernel, np.random.default_rng(1)),
        ("value", "gradient of x", "gradient of the kernel"),
        strict=True,
    ):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5, err_msg=name)


def assert_rounds_as_xla(run, x, kernel, g):
    """Against float64, of one image: at most three times the largest error of XLA's convolution."""
    (height, width), size = g.output_size(x.shape[1:3], kernel.shape[:2]), kernel.shape[:2]
    wide = np.pad(np.asarray(x, np.float64), ((0, 0), *g.padding, (0, 0)))
    exact = sum(
        wide[:, i : i + height, j : j + width] @ np.asarray(kernel[i, j], np.float64)
        for i, j in np.ndindex(*size)
    )
    ours, theirs = (np.abs(form(x, kernel, g) - exact).max() for form in (run, lowering.conv_xla))
    assert ours <= 3 * theirs
    assert ours < 1e-5 * exact.std()


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3)])
def test_1x1_as_a_matrix_product(rng, stride):
    g = geometry(stride)
    x, kernel = normal(rng, 2, 7, 6, 5), normal(rng, 1, 1, 5, 4)
    assert_same(lambda x, k: products.one_tap(x, k, g), lambda x, k: lax_conv(x, k, g), x, kernel)


@pytest.mark.parametrize(
    "kernel_size, g",
    [
        ((3, 3), same(1)),
        ((3, 3), same(6)),
        ((3, 3), same(12)),  # only the middle tap sees the image
        ((3, 3), geometry(rate=(2, 3), padding=((1, 4), (0, 5)))),
        ((3, 2), geometry(stride=(2, 3), rate=(3, 2), padding=((4, 5), (3, 1)))),
        ((1, 5), geometry(rate=(1, 3), padding=((0, 0), (6, 6)))),
        ((2, 2), geometry(padding=((9, 9), (9, 9)))),  # outputs that no tap feeds
    ],
)
def test_taps_over_what_is_inside(rng, kernel_size, g):
    x, kernel = normal(rng, 2, 11, 9, 3), normal(rng, *kernel_size, 3, 4)
    assert_same(lambda x, k: products.taps(x, k, g), lambda x, k: lax_conv(x, k, g), x, kernel)


@pytest.mark.parametrize(
    "kernel_size, g",
    [
        ((7, 7), geometry()),  # FCN's fc6
        ((3, 3), same(2)),
        ((3, 2), geometry(stride=(2, 3), rate=(3, 2), padding=((4, 5), (3, 1)))),
    ],
)
def test_one_product_of_patches(rng, kernel_size, g):
    """Whose kernel is read as it is, not tap by tap."""
    x, kernel = normal(rng, 2, 11, 9, 3), normal(rng, *kernel_size, 3, 4)
    assert_same(lambda x, k: products.patches(x, k, g), lambda x, k: lax_conv(x, k, g), x, kernel)
    text = str(jax.make_jaxpr(lambda x, k: products.patches(x, k, g))(x, kernel))
    assert text.count("dot_general[") == 1


@pytest.mark.parametrize(
    "kernel_size, g",
    [
        ((15, 1), geometry(padding=((7, 7), (0, 0)))),  # GCN's
        ((3, 3), same(6)),  # DeepLab v2's
        ((3, 3), same(12)),  # only the middle tap sees the image
        ((2, 3), geometry(rate=(2, 3), padding=((1, 2), (0, 5)))),
    ],
)
def test_one_product_for_all_taps(rng, kernel_size, g):
    x, kernel = normal(rng, 2, 11, 9, 32), normal(rng, *kernel_size, 32, 2)
    chosen = lowering.choose_conv((11, 9), kernel.shape, g)
    assert chosen is products.shifted
    assert_same(lambda x, k: chosen(x, k, g), lambda x, k: lax_conv(x, k, g), x, kernel)


@pytest.mark.parametrize("cin, cout", [(21, 21), (11, 13), (3, 9), (16, 21), (21, 16)])
@pytest.mark.parametrize("g", [same(1), geometry(), geometry((2, 2), padding=((1, 1), (0, 2)))])
def test_whole_packets_of_channels(rng, cin, cout, g):
    x, kernel = normal(rng, 2, 9, 8, cin), normal(rng, 3, 3, cin, cout)
    assert_same(
        lambda x, k: lowering.conv_blocks(x, k, g), lambda x, k: lax_conv(x, k, g), x, kernel
    )


@pytest.mark.parametrize(
    "kernel_size, g",
    [
        ((3, 3), geometry()),
        ((4, 2), geometry(stride=(2, 3), rate=(2, 1))),
        ((11, 9), geometry()),  # one output
    ],
)
def test_a_row_of_padding_more(rng, kernel_size, g):
    x, kernel = normal(rng, 2, 11, 9, 3), normal(rng, *kernel_size, 3, 4)
    assert_same(
        lambda x, k: lowering.conv_padded(x, k, g), lambda x, k: lax_conv(x, k, g), x, kernel
    )


@pytest.mark.parametrize(
    "kernel_size, g, beyond",
    [
        ((3, 3), geometry(padding=((7, 5), (2, 4))), ((5, 3), (0, 2))),
        ((2, 3), geometry(rate=(3, 2), padding=((3, 9), (4, 4))), ((0, 6), (0, 0))),
        ((1, 1), geometry(padding=((1, 0), (2, 3))), ((1, 0), (2, 3))),
    ],
)
def test_outputs_of_padding_only_are_padding(rng, kernel_size, g, beyond):
    assert g.beyond(kernel_size) == beyond
    x, kernel = normal(rng, 2, 6, 5, 3), normal(rng, *kernel_size, 3, 4)
    assert_same(
        lambda x, k: lowering.conv_trimmed(x, k, g), lambda x, k: lax_conv(x, k, g), x, kernel
    )


@pytest.mark.parametrize(
    "kernel_size, g",
    [
        ((7, 7), geometry(stride=(2, 2), padding=((3, 3), (3, 3)))),  # ResNet's stem
        ((3, 3), geometry(stride=(2, 2), padding=((0, 1), (0, 1)))),  # MobileNetV2's
        ((2, 5), geometry(stride=(3, 2), padding=((1, 2), (0, 0)))),
        ((1, 1), geometry(stride=(2, 1))),
    ],
)
def test_strided_convolution_of_pictures_on_tpu(rng, kernel_size, g):
    x, kernel = normal(rng, 2, 11, 10, 3), normal(rng, *kernel_size, 3, 4)
    with lowering.for_platform("tpu"):
        ours = lowering.choose_conv((11, 10), kernel.shape, g)
    assert_same(lambda x, k: ours(x, k, g), lambda x, k: lax_conv(x, k, g), x, kernel)
    (shape,) = {
        tuple(equation.invars[0].aval.shape)
        for equation in jax.make_jaxpr(lambda x, k: ours(x, k, g))(x, kernel).eqns
        if equation.primitive.name == "conv_general_dilated"
    }
    assert shape[3] == 3 * g.stride[0] * g.stride[1]  # lanes


@pytest.mark.parametrize("images, block, most", [(2, 100, 8), (2, 40, 3), (5, 60, 3), (1, 1, 99)])
@pytest.mark.parametrize(
    "kernel_size, g",
    [
        ((3, 3), same(1)),
        ((3, 3), geometry()),
        ((3, 3), same(4)),
        ((2, 4), geometry(rate=(3, 1), padding=((1, 3), (0, 2)))),
        ((3, 3), geometry(stride=(2, 2), padding=((1, 1), (1, 1)))),
    ],
)
def test_the_kernels_gradient_in_blocks(rng, monkeypatch, kernel_size, g, images, block, most):
    monkeypatch.setattr(lowering, "BLOCK", block)
    monkeypatch.setattr(lowering, "MOST_BLOCKS", most)
    x, kernel = normal(rng, images, 11, 9, 3), normal(rng, *kernel_size, 3, 4)
    blocks = lambda x, k: lowering.conv_blocks(x, k, g)  # noqa: E731
    assert_same(blocks, lambda x, k: lax_conv(x, k, g), x, kernel)
    back = jax.make_jaxpr(lambda x, k, y: jax.vjp(blocks, x, k)[1](y))(x, kernel, blocks(x, kernel))
    convolutions = str(back).count("conv_general_dilated[")
    if g.stride != (1, 1):
        assert convolutions == 3  # forward, both gradients
    elif most == 3:
        assert 3 + 2 <= convolutions <= 2 + 2 * 3  # a group of images, then bands of rows


def test_only_what_is_asked_for_is_differentiated(rng, monkeypatch):
    """Neither a frozen kernel nor the first layer's image costs a convolution; jvp works too."""
    monkeypatch.setattr(lowering, "BLOCK", 10**9)
    g, x, kernel = same(1), normal(rng, 1, 5, 5, 2), normal(rng, 3, 3, 2, 3)
    run = lambda x, k: lowering.conv_blocks(x, k, g)  # noqa: E731
    for argument in range(2):
        one = jax.make_jaxpr(jax.grad(lambda *a: run(*a).sum(), argument))(x, kernel)
        assert str(one).count("conv_general_dilated[") == 2
    theirs = jax.jvp(lambda x, k: lax_conv(x, k, g), (x, kernel), (2 * x, kernel))
    ours = jax.jvp(run, (x, kernel), (2 * x, kernel))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-5)


PLAIN = (same(1), geometry(padding=((0, 1), (2, 0))))


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize(
    "kernel_size, g",
    [
        ((3, 3), same(1)),
        ((3, 3), same(4)),
        ((2, 3), PLAIN[1]),
        ((3, 3), geometry(stride=(2, 2), padding=((1, 1), (1, 1)))),
        ((2, 5), geometry(stride=(3, 1), rate=(2, 1), padding=((0, 3), (2, 2)))),
    ],
)
def test_depthwise_as_shifted_images(rng, kernel_size, g, multiplier):
    x, kernel = normal(rng, 2, 9, 8, 3), normal(rng, *kernel_size, 1, 3 * multiplier)
    theirs = lambda x, k: lax_conv(x, k, g, groups=3)  # noqa: E731
    assert_same(lambda x, k: depthwise.shifts(x, k, g), theirs, x, kernel)
    np.testing.assert_array_equal(lowering.depthwise_xla(x, kernel, g), theirs(x, kernel))


@pytest.mark.parametrize(
    "kernel_size, stride, padding",
    [
        ((2, 2), (2, 2), ((0, 0), (0, 0))),  # U-Net's
        ((4, 4), (2, 2), ((1, 1), (1, 1))),
        ((16, 16), (8, 8), ((0, 0), (0, 0))),  # FCN-8s's
        ((3, 5), (2, 1), ((0, 2), (3, 1))),
        ((2, 1), (3, 2), ((0, 0), (0, 0))),  # a kernel smaller than its stride leaves gaps
    ],
)
def test_transposed_as_blocks_of_taps(rng, kernel_size, stride, padding):
    x, kernel = normal(rng, 2, 4, 3, 5), normal(rng, *kernel_size, 5, 3)
    assert_same(
        lambda x, k: products.transposed(x, k, stride, padding),
        lambda x, k: lowering.transposed_xla(x, k, stride, padding),
        x,
        kernel,
    )


@pytest.mark.parametrize("channels", [1, 5])  # few against the width: no copies of the matrix
def test_separable_as_batches_of_products(rng, channels):
    x, vertical, horizontal = normal(rng, 3, 6, 7, channels), normal(rng, 4, 6), normal(rng, 9, 7)
    assert_same(
        lambda x, v: separable.batched(x, v, horizontal),
        lambda x, v: jnp.einsum("ah,bw,nhwc->nabc", v, horizontal, x),
        x,
        vertical,
    )
    once = separable.einsum(x, vertical, horizontal)
    np.testing.assert_allclose(
        separable.batched(x, vertical, horizontal), once, rtol=1e-5, atol=1e-5
    )


def test_partial_sums_are_kept_in_float32(rng):
    """In bfloat16 every lowering is as near to the float32 result as XLA's own convolution."""
    x, kernel = normal(rng, 1, 9, 9, 64), normal(rng, 3, 3, 64, 8)
    stride, pads = (2, 2), ((0, 0), (0, 0))

    def ours(x, kernel):
        each = depthwise.shifts(x, kernel[:, :, :1].repeat(8, axis=3), same(1))
        return (
            products.taps(x, kernel, same(3)),
            each,
            products.transposed(x, kernel, stride, pads),
        )

    def theirs(x, kernel):
        thin = kernel[:, :, :1].repeat(8, axis=3)
        return (
            lax_conv(x, kernel, same(3)),
            lax_conv(x, thin, same(1), 64),
            lowering.transposed_xla(x, kernel, stride, pads),
        )

    narrow = [jnp.asarray(value, jnp.bfloat16) for value in (x, kernel)]
    wide = [jnp.asarray(value, jnp.float32) for value in narrow]
    for got, expected in zip(jax.jit(ours)(*narrow), jax.jit(theirs)(*wide), strict=True):
        assert got.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(got), expected, rtol=2**-8, atol=1e-5)
    gradient = jax.eval_shape(jax.grad(lambda x, k: sum(y.sum() for y in ours(x, k))), *narrow)
    assert gradient.dtype == jnp.bfloat16


@pytest.mark.parametrize("rate, taps", [(12, 6.9), (24, 5.1), (36, 3.6)])
def test_share_of_work_inside_the_image(rate, taps):
    """At 65x65, nine taps do the work of so many; counted tap by tap and pixel by pixel."""
    seen = sum(
        0 <= row + i * rate < 65 and 0 <= column + j * rate < 65
        for row in range(65) for column in range(65) for i in (-1, 0, 1) for j in (-1, 0, 1)
    )  # fmt: skip
    share = same(rate).inside_share((65, 65), (3, 3))
    assert share == pytest.approx(seen / (9 * 65 * 65))
    assert 9 * share == pytest.approx(taps, abs=0.05)


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((2, 0), (5, 7))])
def test_the_gradients_geometry(rng, padding):
    """The gradient is the convolution with the kernel turned round and its channels exchanged."""
    g = geometry(rate=(2, 1), padding=padding)
    x, kernel = normal(rng, 1, 9, 8, 2), normal(rng, 3, 4, 2, 3)
    y, back = jax.vjp(lambda x: lax_conv(x, kernel, g), x)
    cotangent = normal(rng, *y.shape)
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    ours = lax_conv(cotangent, turned, g.transposed((3, 4)))
    np.testing.assert_allclose(ours, back(cotangent)[0], rtol=1e-5, atol=1e-5)


def test_the_kind_of_tpu_chooses_how_statistics_are_read():
    """The compiler for v6e ends with a segmentation fault of sums that are not kept apart."""
    for platform, kind, passes in (
        ("tpu", "TPU v5 lite", "one_pass"),
        ("tpu", "", "one_pass"),
        ("tpu", "TPU v6 lite", "apart"),
        ("gpu", "NVIDIA H100", "two_passes"),
    ):
        with lowering.for_platform(platform, kind):
            assert lowering.choose_statistics() == passes
    assert lowering.choose_statistics() == "two_passes"  # this CPU


def test_the_platform_and_the_geometry_choose(monkeypatch):
    def choose(size, kernel_size, geometry, channels=(64, 64)):
        return lowering.choose_conv(size, (*kernel_size, *channels), geometry)

    assert choose((9, 9), (1, 1), geometry((2, 2))) is products.one_tap
    assert choose((9, 9), (1, 1), geometry(padding=((1, 1), (0, 0)))) is lowering.conv_trimmed
    assert choose((9, 9), (3, 3), geometry(padding=((2, 3), (1, 1)))) is lowering.conv_trimmed
    assert choose((65, 65), (3, 3), same(12)) is products.taps
    assert choose((129, 129), (3, 3), same(12)) is lowering.conv_blocks
    assert choose((65, 65), (3, 3), same(1)) is lowering.conv_blocks
    assert choose((65, 65), (3, 3), geometry()) is lowering.conv_blocks
    assert choose((11, 11), (7, 7), geometry()) is products.taps  # because of its gradient
    assert choose((22, 22), (7, 7), geometry(), (512, 4096)) is products.patches
    assert choose((29, 29), (7, 7), geometry(), (512, 4096)) is products.taps
    assert choose((22, 22), (7, 7), same(1), (512, 4096)) is lowering.conv_blocks
    assert choose((40, 40), (7, 7), geometry((4, 4))) is lowering.conv_blocks
    assert choose((12, 12), (7, 7), geometry(padding=((3, 3), (3, 3)))) is lowering.conv_blocks
    assert choose((17, 17), (4, 4), geometry((1, 1), (4, 4), ((6, 6), (6, 6)))) is products.taps
    long = geometry(padding=((7, 7), (0, 0)))
    assert choose((16, 16), (15, 1), long) is lowering.conv_blocks
    assert choose((16, 16), (15, 1), long, (336, 21)) is products.shifted
    assert choose((16, 16), (15, 1), long, (335, 21)) is lowering.conv_blocks
    assert choose((33, 33), (3, 3), same(12), (2048, 21)) is products.shifted
    assert choose((33, 33), (3, 3), geometry((2, 2)), (2048, 21)) is lowering.conv_blocks
    wide = geometry(padding=((8, 8), (8, 8)))  # products of more than four times the image's size
    assert choose((33, 33), (17, 17), wide, (512, 21)) is lowering.conv_blocks
    assert lowering.choose_depthwise() is depthwise.shifts
    assert lowering.choose_transposed() is products.transposed
    assert lowering.choose_separable() is separable.batched
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert choose((65, 65), (3, 3), same(12)) is lowering.conv_xla
    assert lowering.choose_depthwise() is lowering.depthwise_xla
    assert lowering.choose_transposed() is lowering.transposed_xla
    assert lowering.choose_separable() is separable.einsum


def test_the_target_decides_not_the_host():
    """Compiling for a TPU on a CPU takes the TPU's form, and the compiled program shows it."""
    x, kernel = jnp.ones((1, 9, 9, 4)), jnp.ones((1, 1, 4, 8))

    def program() -> str:
        def conv(x, kernel):  # a new function each time: jit keeps what it has traced
            return lowering.choose_conv((9, 9), kernel.shape, geometry())(x, kernel, geometry())

        return jax.jit(conv).trace(x, kernel).lower(lowering_platforms=("tpu",)).as_text()

    assert lowering.platform() == "cpu" and "stablehlo.convolution" not in program()
    with lowering.for_platform("tpu"):
        assert lowering.platform() == "tpu" and "stablehlo.convolution" in program()
        assert lowering.choose_separable() is separable.einsum
    with lowering.for_platform("gpu"):  # does not compile the einsum
        assert lowering.choose_separable() is separable.batched
    assert lowering.platform() == "cpu" and "stablehlo.convolution" not in program()
    with pytest.raises(ValueError, match="did you mean tpu"), lowering.for_platform("tpus"):
        pass


def test_xla_can_be_forced():
    with pytest.raises(RuntimeError), lowering.use("xla"):
        assert lowering.choose_conv((9, 9), (1, 1, 4, 8), geometry()) is lowering.conv_xla
        with lowering.use("auto"):
            assert lowering.choose_depthwise() is depthwise.shifts
        assert lowering.choose_depthwise() is lowering.depthwise_xla
        raise RuntimeError
    assert lowering.choose_conv((9, 9), (1, 1, 4, 8), geometry()) is products.one_tap
    with pytest.raises(ValueError, match="did you mean xla"), lowering.use("xlaa"):
        pass
