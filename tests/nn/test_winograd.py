"""Winograd's form of a 3x3 convolution against XLA's convolution: values and both gradients."""

import jax
import pytest
from jax import numpy as jnp
from test_lowering import assert_rounds_as_xla, assert_same, geometry, lax_conv, normal, same

from seg_jax.nn import lowering, winograd


@pytest.mark.parametrize("at_a_time", [2**30, 2**11, 1])  # no loop; images; single rows of tiles
@pytest.mark.parametrize(
    "g",
    [
        same(1),
        same(2),
        geometry(),
        geometry(rate=(3, 1), padding=((2, 5), (1, 0))),
        geometry(rate=(1, 2), padding=((0, 1), (4, 2))),
    ],
)
def test_value_and_gradients(rng, monkeypatch, g, at_a_time):
    monkeypatch.setattr(winograd, "AT_A_TIME", at_a_time)
    x, kernel = normal(rng, 4, 11, 8, 3), normal(rng, 3, 3, 3, 5)
    assert_same(lambda x, k: winograd.conv(x, k, g), lambda x, k: lax_conv(x, k, g), x, kernel)


@pytest.mark.parametrize("g", [same(1), geometry(rate=(3, 1), padding=((2, 5), (1, 0)))])
def test_the_gradient_of_the_kernel_alone(rng, g):
    """The value and the images' gradient by XLA's convolution: no product of matrices in them, and
    two, of pixels and of taps, in the kernel's gradient.
    """
    x, kernel = normal(rng, 4, 11, 8, 3), normal(rng, 3, 3, 3, 5)

    def run(x, kernel):
        return winograd.conv(x, kernel, g, filtered_by=lowering.conv_xla)

    assert_same(run, lambda x, k: lax_conv(x, k, g), x, kernel)
    backward = jax.make_jaxpr(jax.grad(lambda x, k: (run(x, k) ** 2).sum(), (0, 1)))(x, kernel)
    assert str(jax.make_jaxpr(run)(x, kernel)).count("dot_general[") == 0
    assert str(backward).count("dot_general[") == 2


@pytest.mark.parametrize(
    "images, at_a_time, looped", [(6, 2**30, False), (6, 2 * 16 * 24 * 5, True), (1, 500, True)]
)
def test_loops_over_images_and_bands(rng, monkeypatch, images, at_a_time, looped):
    """A loop holds few images' transforms at a time, and so do those of the two gradients."""
    monkeypatch.setattr(winograd, "AT_A_TIME", at_a_time)
    x, kernel = normal(rng, images, 11, 8, 3), normal(rng, 3, 3, 3, 5)
    square = lambda x, k: (winograd.conv(x, k, same(1)) ** 2).sum()  # noqa: E731
    found = str(jax.make_jaxpr(jax.grad(square, (0, 1)))(x, kernel)).count("scan[")
    assert found == (3 if looped else 0)


def test_products(rng):
    """Four ninths of the plain products for whole tiles; more for tiles that stick out."""
    assert winograd.share((8, 6), same(1)) == pytest.approx(4 / 9)
    assert winograd.share((12, 12), same(3)) == pytest.approx(4 / 9)
    assert winograd.share((9, 6), same(1)) == pytest.approx(4 / 9 * 10 / 9)
    assert winograd.share((41, 41), same(12)) == pytest.approx(4 / 9 * (48 / 41) ** 2)


def test_rounding_errors(rng):
    """As the sum of 9 x 256 products in float32: against float64, at most three times XLA's."""
    x, kernel = normal(rng, 1, 24, 24, 256), normal(rng, 3, 3, 256, 128) / 48
    assert_rounds_as_xla(winograd.conv, x, kernel, same(1))


def test_only_float32_of_many_channels(rng, monkeypatch):
    """Sums of pixels would be rounded to bfloat16 before the products."""
    x, kernel = normal(rng, 1, 6, 5, 2), normal(rng, 3, 3, 2, 3)
    forms = {6: (jnp.float32, "dot_general"), 7: (jnp.float32, "conv_general_dilated")}
    for least, (dtype, form) in (*forms.items(), (6, (jnp.bfloat16, "conv_general_dilated"))):
        monkeypatch.setattr(lowering, "WINOGRAD_FILTERS", least)
        found = jax.make_jaxpr(lambda x, k: lowering.conv_winograd(x, k, same(1)))(
            x.astype(dtype), kernel.astype(dtype)
        )
        assert {form} == {"dot_general", "conv_general_dilated"} & set(
            str(found).replace("[", " ").split()
        )


def test_large_layers_are_done_so():
    def choose(size, geometry, channels=(128, 128), kernel=(3, 3)):
        return lowering.choose_conv(size, (*kernel, *channels), geometry)

    assert choose((65, 65), same(1)) is lowering.conv_winograd
    assert choose((65, 65), same(2)) is lowering.conv_winograd
    assert choose((65, 65), geometry()) is lowering.conv_winograd
    assert choose((33, 33), same(1)) is lowering.conv_blocks  # too few products
    assert choose((65, 65), same(1), (64, 128)) is lowering.conv_winograd
    assert choose((257, 257), same(1), (64, 64)) is lowering.conv_blocks  # too few channels
    assert choose((257, 257), same(1), (1024, 21)) is lowering.products.shifted
    assert choose((257, 257), same(1), (256, 48)) is lowering.conv_blocks
    assert choose((65, 65), geometry((2, 2))) is lowering.conv_blocks
    assert choose((65, 65), same(1), kernel=(5, 5)) is lowering.conv_blocks
    assert choose((33, 33), same(12), (2048, 256)) is lowering.products.taps  # most taps see none
    with lowering.use("xla"):
        assert choose((65, 65), same(1)) is lowering.conv_xla
    with lowering.for_platform("tpu"):
        assert choose((65, 65), same(1)) is lowering.conv_xla
