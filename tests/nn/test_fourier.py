"""Fourier's form of a convolution against XLA's convolution: values and both gradients."""

import jax
import pytest
from jax import numpy as jnp
from test_lowering import assert_rounds_as_xla, assert_same, geometry, lax_conv, normal, same

from seg_jax.nn import fourier, lowering

SEVEN = geometry(padding=((3, 3), (3, 3)))


@pytest.mark.parametrize("at_a_time", [2**30, 2**12])  # one part an image; single rows of tiles
@pytest.mark.parametrize(
    "kernel, g",
    [
        ((7, 7), SEVEN),
        ((7, 7), geometry()),
        ((5, 3), geometry(padding=((1, 4), (0, 2)))),
        ((1, 15), geometry(padding=((0, 0), (7, 7)))),
        ((16, 2), geometry(padding=((3, 9), (1, 0)))),
    ],
)
def test_value_and_gradients(rng, monkeypatch, kernel, g, at_a_time):
    monkeypatch.setattr(fourier, "AT_A_TIME", at_a_time)
    monkeypatch.setattr(fourier, "OF_KERNEL", 0)
    x, kernel = normal(rng, 2, 25, 19, 3), normal(rng, *kernel, 3, 5)
    assert_same(lambda x, k: fourier.conv(x, k, g), lambda x, k: lax_conv(x, k, g), x, kernel)


def test_loops_over_images(rng):
    """A loop holds one image's transforms at a time, and so do those of the two gradients."""
    x, kernel = normal(rng, 3, 11, 8, 3), normal(rng, 7, 7, 3, 5)
    square = lambda x, k: (fourier.conv(x, k, SEVEN) ** 2).sum()  # noqa: E731
    assert str(jax.make_jaxpr(jax.grad(square, (0, 1)))(x, kernel)).count("scan[") == 3


def test_products(rng):
    """529 products for 10 x 10 outputs of 49 taps, and more for tiles that stick out."""
    assert fourier.share((30, 20), (7, 7), SEVEN) == pytest.approx(529 / 4900)
    assert fourier.share((26, 16), (7, 7), geometry()) == pytest.approx(529 / 4900)
    assert fourier.share((11, 10), (7, 7), SEVEN) == pytest.approx(529 / 4900 * 20 / 11)
    assert fourier.share((14, 32), (3, 1), geometry()) == pytest.approx(23 * 23 * 2 / (12 * 3 * 32))


def test_rounding_errors(rng):
    """As the sum of 49 x 64 products in float32: against float64, at most three times XLA's."""
    x, kernel = normal(rng, 1, 30, 30, 64), normal(rng, 7, 7, 64, 64) / 56
    assert_rounds_as_xla(fourier.conv, x, kernel, SEVEN)


def test_large_layers_of_many_taps_are_done_so_in_float32(rng):
    def choose(size, geometry, channels=(64, 64), kernel=(7, 7)):
        return lowering.choose_conv(size, (*kernel, *channels), geometry)

    assert choose((65, 65), SEVEN) is lowering.conv_fourier
    assert choose((360, 480), SEVEN) is lowering.conv_fourier
    assert choose((33, 33), SEVEN) is lowering.conv_blocks  # too few products
    assert choose((360, 480), SEVEN, (3, 64)) is lowering.conv_blocks  # too few channels
    assert choose((65, 65), SEVEN, (512, 4096)) is lowering.conv_blocks  # too large a kernel
    assert choose((65, 65), same(1), kernel=(3, 3)) is lowering.conv_blocks
    assert choose((65, 65), geometry((2, 2), padding=((3, 3), (3, 3)))) is lowering.conv_blocks
    assert choose((65, 65), geometry(rate=(2, 2), padding=((6, 6), (6, 6)))) is lowering.conv_blocks
    with lowering.for_platform("gpu"):
        assert choose((65, 65), SEVEN) is lowering.conv_xla
    x, kernel = normal(rng, 1, 9, 9, 2), normal(rng, 7, 7, 2, 3)
    for dtype, form in ((jnp.float32, "dot_general"), (jnp.bfloat16, "conv_general_dilated")):
        run = lambda x, k: lowering.conv_fourier(x, k, SEVEN)  # noqa: E731
        found = str(jax.make_jaxpr(run)(x.astype(dtype), kernel.astype(dtype)))
        found = set(found.replace("[", " ").split())
        assert {form} == {"dot_general", "conv_general_dilated"} & found
