"""Convolutions against explicit matrices, SciPy, and the definitions in the papers."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from scipy import signal

from seg_jax.nn import lowering
from seg_jax.nn.conv import (
    AtrousConv,
    Conv,
    DepthwiseConv,
    TransposedConv,
    conv,
    depthwise_conv,
    transposed_conv,
)


@pytest.fixture(params=["auto", "xla"])
def chosen(request):
    with lowering.use(request.param):
        yield


both_lowerings = pytest.mark.usefixtures("chosen")


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def matrix(kernel, size, stride, rate=1, padding=0):
    """The matrix X with conv(x) = X x, entry by entry from the definition; float64."""
    kh, kw, cin, cout = kernel.shape
    extent = [r * (k - 1) + 1 for k, r in zip((kh, kw), rate, strict=True)]
    slack = [n + 2 * p - e for n, p, e in zip(size, padding, extent, strict=True)]
    out = [n // s + 1 for n, s in zip(slack, stride, strict=True)]
    x = np.zeros((*out, cout, *size, cin))
    for row, column, i, j in np.ndindex(*out, kh, kw):
        source = (row * stride[0] + i * rate[0] - padding[0],
                  column * stride[1] + j * rate[1] - padding[1])  # fmt: skip
        if 0 <= source[0] < size[0] and 0 <= source[1] < size[1]:
            x[row, column, :, source[0], source[1], :] = kernel[i, j].T
    return x.reshape(np.prod(out) * cout, -1), (*out, cout)


CASES = [
    # image, kernel, stride, padding
    ((1, 9), (1, 3), (1, 1), (0, 0)),  # one dimension
    ((1, 9), (1, 3), (1, 2), (0, 0)),
    ((1, 8), (1, 4), (1, 2), (0, 1)),
    ((6, 5), (3, 3), (1, 1), (0, 0)),  # two
    ((7, 5), (3, 3), (2, 2), (1, 1)),
    ((8, 9), (2, 3), (2, 3), (0, 0)),
]


@both_lowerings
@pytest.mark.parametrize("size, kernel_size, stride, padding", CASES)
def test_conv_is_a_matrix_and_transposed_conv_its_transpose(
    rng, size, kernel_size, stride, padding
):
    kernel = normal(rng, *kernel_size, 2, 3)
    big_x, out = matrix(np.asarray(kernel), size, stride, (1, 1), padding)
    pads = tuple((p, p) for p in padding)

    @jax.jit
    def run(x):
        y, gradient = jax.vjp(lambda x: conv(x, kernel, stride=stride, padding=pads), x)
        back = transposed_conv(y, kernel.swapaxes(2, 3), stride=stride, padding=pads)
        return y, back, gradient(y)[0]

    x = normal(rng, 1, *size, 2)
    y, back, gradient = run(x)
    assert y.shape == (1, *out)
    assert back.shape == x.shape
    np.testing.assert_allclose(y.ravel(), big_x @ x.ravel(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(back.ravel(), big_x.T @ y.ravel(), rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(back, gradient, rtol=1e-5, atol=2e-5)


@both_lowerings
def test_atrous_conv_is_a_matrix_too(rng):
    kernel, x = normal(rng, 3, 2, 2, 3), normal(rng, 1, 9, 8, 2)
    big_x, out = matrix(np.asarray(kernel), (9, 8), (2, 1), (2, 3), (3, 2))
    y = conv(x, kernel, stride=(2, 1), rate=(2, 3), padding=((3, 3), (2, 2)))
    assert y.shape == (1, *out)
    np.testing.assert_allclose(y.ravel(), big_x @ x.ravel(), rtol=1e-5, atol=1e-5)


@both_lowerings
def test_worked_example_and_the_two_things_called_its_transpose():
    x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    kernel = jnp.asarray([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    y = conv(x, kernel)
    np.testing.assert_array_equal(y[0, :, :, 0], [[37, 47], [67, 77]])

    # X^T y: every value of y spreads a copy of the kernel.
    true = [[37, 121, 94], [178, 500, 342], [201, 499, 308]]
    np.testing.assert_array_equal(transposed_conv(y, kernel, stride=1)[0, :, :, 0], true)

    # Lecture notes print the kernel slid, unflipped, over y with full padding. That is a
    # convolution, and the transpose of another one: of that with the kernel turned by 180 degrees.
    printed = [[148, 299, 141], [342, 640, 278], [134, 221, 77]]
    np.testing.assert_array_equal(conv(y, kernel, padding=1)[0, :, :, 0], printed)
    turned = kernel[::-1, ::-1]
    np.testing.assert_array_equal(transposed_conv(y, turned, stride=1)[0, :, :, 0], printed)


@pytest.mark.parametrize("rate", [1, 2, 7])
def test_atrous_conv_is_its_equation_and_a_zero_stuffed_kernel(rng, rate):
    x, kernel = normal(rng, 1, 1, 20, 1), normal(rng, 1, 3, 1, 1)
    y = conv(x, kernel, rate=(1, rate))[0, 0, :, 0]
    signal_x, w = np.asarray(x).ravel(), np.asarray(kernel).ravel()
    equation = [sum(signal_x[i + rate * k] * w[k] for k in range(3)) for i in range(20 - 2 * rate)]
    np.testing.assert_allclose(y, equation, rtol=1e-5, atol=1e-6)

    image, kernel = normal(rng, 1, 17, 16, 2), normal(rng, 3, 3, 2, 2)
    stuffed = np.zeros((2 * rate + 1, 2 * rate + 1, 2, 2), np.float32)
    stuffed[::rate, ::rate] = kernel
    ordinary = conv(image, jnp.asarray(stuffed), padding="same")
    atrous = jax.jit(lambda x, kernel: conv(x, kernel, rate=rate, padding="same"))(image, kernel)
    np.testing.assert_allclose(atrous, ordinary, rtol=1e-5, atol=1e-5)


@both_lowerings
def test_depthwise_conv_filters_each_channel_by_itself(rng):
    x, kernel = normal(rng, 2, 8, 9, 3), normal(rng, 3, 3, 1, 6)
    y = depthwise_conv(x, kernel, stride=2, padding=1)
    for image, channel in np.ndindex(2, 6):
        full = signal.correlate2d(x[image, :, :, channel // 2], kernel[:, :, 0, channel], "same")
        np.testing.assert_allclose(y[image, :, :, channel], full[::2, ::2], rtol=1e-5, atol=1e-5)


@both_lowerings
def test_same_padding_is_symmetric_at_every_stride(rng):
    x, kernel = normal(rng, 1, 8, 8, 1), normal(rng, 3, 3, 1, 1)
    full = signal.correlate2d(x[0, :, :, 0], kernel[:, :, 0, 0], "same")
    y = conv(x, kernel, stride=2, padding="same")[0, :, :, 0]
    np.testing.assert_allclose(y, full[::2, ::2], rtol=1e-5, atol=1e-6)  # TensorFlow's: [1::2]


@pytest.mark.parametrize(
    "module, shapes, out",
    [
        (Conv(5), {"kernel": (3, 3, 4, 5), "bias": (5,)}, (9, 8, 5)),
        (Conv(5, (1, 7), use_bias=False), {"kernel": (1, 7, 4, 5)}, (9, 8, 5)),
        (Conv(5, 7, stride=2), {"kernel": (7, 7, 4, 5), "bias": (5,)}, (5, 4, 5)),
        (Conv(5, padding=0, rate=2), {"kernel": (3, 3, 4, 5), "bias": (5,)}, (5, 4, 5)),
        (AtrousConv(5, rate=12), {"kernel": (3, 3, 4, 5), "bias": (5,)}, (9, 8, 5)),
        (TransposedConv(5, 2, 2), {"kernel": (2, 2, 4, 5), "bias": (5,)}, (18, 16, 5)),
        (TransposedConv(5, 4, 2, 1, use_bias=False), {"kernel": (4, 4, 4, 5)}, (18, 16, 5)),
        (DepthwiseConv(stride=2, multiplier=2), {"kernel": (3, 3, 1, 8)}, (5, 4, 8)),
    ],
)
def test_modules(module, shapes, out):
    x = jnp.ones((2, 9, 8, 4))
    y, variables = jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), x))
    assert jax.tree.map(lambda leaf: leaf.shape, variables["params"]) == shapes
    assert y.shape == (2, *out)


def test_a_module_is_its_function_plus_bias(rng):
    x = normal(rng, 1, 6, 6, 2)
    bias = jnp.asarray([1.0, -2.0, 3.0])
    kernel = normal(rng, 3, 3, 2, 3)
    params = {"params": {"kernel": kernel, "bias": bias}}
    plain = conv(x, kernel, rate=2, padding="same") + bias.reshape(1, 1, 1, 3)
    np.testing.assert_array_equal(Conv(3, rate=2).apply(params, x), plain)
    np.testing.assert_array_equal(AtrousConv(3, rate=2).apply(params, x), plain)


def test_kernels_start_with_he_variance():
    init = jax.jit(Conv(128, 3).init)
    params = jax.tree.map(np.asarray, init(jax.random.key(0), jnp.ones((1, 3, 3, 64)))["params"])
    assert params["kernel"].std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert not params["bias"].any()


@both_lowerings
def test_dtype_is_kept():
    x, kernel = (jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in [(1, 5, 5, 2), (3, 3, 2, 2)])
    for function in (
        lambda x, kernel: conv(x, kernel, rate=4, padding="same"),
        lambda x, kernel: conv(x, kernel[:1, :1]),
        lambda x, kernel: transposed_conv(x, kernel, stride=2),
        lambda x, kernel: depthwise_conv(x, kernel[:, :, :1], padding=1),
    ):
        assert jax.eval_shape(function, x, kernel).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: conv(x, jnp.ones((3, 3, 5, 2))), "expected .n h w 5."),
        (lambda x: conv(x[0], jnp.ones((3, 3, 4, 2))), "expected .n h w 4."),
        (lambda x: conv(x, jnp.ones((2, 2, 4, 2)), padding="same"), "needs an odd kernel"),
        (lambda x: conv(x, jnp.ones((3, 3, 4, 2)), padding="valid"), "got 'valid'"),
        (lambda x: conv(x, jnp.ones((3, 3, 4, 2)), stride=0), "stride must be positive, got 0"),
        (lambda x: conv(x, jnp.ones((3, 3, 4, 2)), padding=-1), "must not be negative"),
        (lambda x: conv(x, jnp.ones((3, 3, 4, 2)), rate=4), "extent of 9x9"),
        (lambda x: depthwise_conv(x, jnp.ones((3, 3, 4, 4))), "kh kw 1 c.m"),
        (lambda x: transposed_conv(x, jnp.ones((3, 3, 2, 4)), stride=1), "expected .n h w 2."),
        (lambda x: transposed_conv(x, jnp.ones((1, 1, 4, 4)), stride=1, padding=3), "crops"),
    ],
)
def test_errors_name_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((1, 6, 6, 4)))
