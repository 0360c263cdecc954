"""Resizing against SciPy's interpolation, JAX's own resize, and loops from the definitions."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from scipy import ndimage

from seg_jax.nn.conv import transposed_conv
from seg_jax.nn.resize import (
    LearnedUpsample,
    bilinear_kernel,
    resize_align_corners,
    resize_half_pixel,
    upsample_bilinear_fixed,
)

SIZES = [
    ((5, 7), (9, 13)),  # k -> 2 k - 1: pixels on pixels with aligned corners
    ((5, 7), (10, 14)),
    ((9, 4), (5, 11)),
    ((13, 8), (3, 3)),  # shrinking reads single pixels: no antialiasing
    ((1, 6), (4, 1)),
    ((3, 3), (1, 1)),
]


def normal(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def sampled(x, rows, columns):
    """Read x at fractional places, linearly, by SciPy; beyond the border, the border."""
    grid = np.meshgrid(rows, columns, indexing="ij")
    images = [
        [
            ndimage.map_coordinates(x[n, :, :, c].astype(float), grid, order=1, mode="nearest")
            for c in range(x.shape[3])
        ]
        for n in range(x.shape[0])
    ]
    return np.moveaxis(np.array(images), 1, 3)


def half_pixel_places(size, new_size):
    return [(i + 0.5) * size / new_size - 0.5 for i in range(new_size)]


def align_corners_places(size, new_size):
    return [i * (size - 1) / (new_size - 1) if new_size > 1 else 0 for i in range(new_size)]


CONVENTIONS = [
    (resize_half_pixel, half_pixel_places),
    (resize_align_corners, align_corners_places),
]


@pytest.mark.parametrize("resize, places", CONVENTIONS)
@pytest.mark.parametrize("size, new_size", SIZES)
def test_resize_reads_where_the_convention_says(rng, resize, places, size, new_size):
    x = normal(rng, 2, *size, 3)
    rows, columns = (places(n, m) for n, m in zip(size, new_size, strict=True))
    y = resize(jnp.asarray(x), new_size)
    assert y.shape == (2, *new_size, 3)
    np.testing.assert_allclose(y, sampled(x, rows, columns), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size, new_size", SIZES)
def test_half_pixel_equals_jax(rng, size, new_size):
    x = jnp.asarray(normal(rng, 2, *size, 3))
    theirs = jax.image.resize(x, (2, *new_size, 3), "bilinear", antialias=False)
    # JAX computes places in float32: off by 1e-6 px at 9 px, so by as much times the slope in y.
    np.testing.assert_allclose(resize_half_pixel(x, new_size), theirs, rtol=1e-5, atol=5e-6)


def test_align_corners_keeps_pixels_on_pixels(rng):
    """From 8 k + 1 to k + 1 it is every eighth pixel: how DeepLab v1 and v2 shrink labels."""
    x = jnp.asarray(normal(rng, 1, 41, 33, 2))
    np.testing.assert_allclose(resize_align_corners(x, (6, 5)), x[:, ::8, ::8], rtol=1e-6)
    y = resize_align_corners(x, (81, 65))
    np.testing.assert_allclose(y[:, ::2, ::2], x, rtol=1e-6)


@pytest.mark.parametrize("resize, places", CONVENTIONS)
def test_gradient_is_the_transpose_and_uses_no_scatter(rng, resize, places):
    """<g, A x> = <A^T g, x> with A x taken from SciPy."""
    x, g = normal(rng, 1, 5, 4, 2), normal(rng, 1, 9, 7, 2)
    back = jax.jit(lambda x, g: jax.vjp(lambda x: resize(x, (9, 7)), x)[1](g)[0])
    there = np.sum(g * sampled(x, places(5, 9), places(4, 7)))
    assert np.sum(x * back(x, g)) == pytest.approx(there, rel=1e-4)
    text = back.lower(x, g).as_text()
    assert "stablehlo.dot_general" in text
    assert "stablehlo.scatter" not in text and "stablehlo.gather" not in text


@pytest.mark.parametrize("resize", [resize_half_pixel, resize_align_corners])
def test_resize_keeps_dtype_and_interpolates_in_float32(rng, resize):
    x = jnp.asarray(normal(rng, 1, 9, 9, 2), jnp.bfloat16)
    y = resize(x, (33, 33))
    assert y.dtype == jnp.bfloat16
    exact = resize(x.astype(jnp.float32), (33, 33))
    np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))
    assert resize(x, (9, 9)) is x


@pytest.mark.parametrize(
    "size, profile",
    [
        (1, [1]),
        (2, [0.5, 0.5]),  # f = 1, c = 1/2
        (3, [0.5, 1, 0.5]),  # f = 2, c = 1
        (4, [0.25, 0.75, 0.75, 0.25]),  # f = 2, c = 3/2
        (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
    ],
)
def test_bilinear_kernel(size, profile):
    np.testing.assert_allclose(bilinear_kernel(size), np.outer(profile, profile), rtol=1e-12)


@pytest.mark.parametrize("kernel_size, stride", [(4, 2), (3, 2), (16, 8)])
def test_fixed_upsampling_is_a_transposed_conv_with_the_filter_on_the_diagonal(
    rng, kernel_size, stride
):
    x = jnp.asarray(normal(rng, 2, 4, 3, 5))
    kernel = bilinear_kernel(kernel_size)[:, :, None, None] * np.eye(5)
    expected = transposed_conv(x, jnp.asarray(kernel, jnp.float32), stride=stride)
    fixed = upsample_bilinear_fixed(x, kernel_size=kernel_size, stride=stride)
    assert fixed.shape == expected.shape
    np.testing.assert_allclose(fixed, expected, rtol=1e-5, atol=1e-6)

    learned = LearnedUpsample(5, kernel_size, stride)
    start, variables = learned.init_with_output(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, variables) == {
        "params": {"kernel": (kernel_size, kernel_size, 5, 5)}
    }
    np.testing.assert_allclose(start, expected, rtol=1e-5, atol=1e-6)


def test_fixed_upsampling_by_twice_its_stride_is_half_pixel_inside(rng):
    """The border differs: a deconvolution reads zeros there, a resize the last pixel."""
    x = jnp.asarray(normal(rng, 1, 6, 6, 2))
    up = upsample_bilinear_fixed(x, kernel_size=8, stride=4)[:, 2:-2, 2:-2]
    same = resize_half_pixel(x, (24, 24))
    np.testing.assert_allclose(up[:, 2:-2, 2:-2], same[:, 2:-2, 2:-2], rtol=1e-5, atol=1e-6)
    assert abs(up - same).max() > 0.1


def test_errors_name_the_value():
    x = jnp.ones((1, 4, 4, 2))
    with pytest.raises(ValueError, match="must be .n h w c., got shape"):
        resize_half_pixel(x[0], (8, 8))
    with pytest.raises(ValueError, match="width must be positive, got 0"):
        resize_align_corners(x, (8, 0))
    with pytest.raises(ValueError, match=r"needs a kernel \[k k c c\], got \(4, 4, 2, 3\)"):
        LearnedUpsample(3, 4, 2).init(jax.random.key(0), x)
