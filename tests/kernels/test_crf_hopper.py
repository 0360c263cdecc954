"""The Hopper kernel in Pallas' interpreter, races included. None of this has run on a GPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

# The interpreter of GPU kernels has no public name yet, neither in jax 0.10 nor in 0.11.
from jax._src.pallas.mosaic_gpu.interpret.interpret_pallas_call import get_races
from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

from seg_jax.kernels.crf import block_sparsity, exact, exact_hopper, exact_products, mean_field
from seg_jax.kernels.crf.cases import SETTINGS, scene
from seg_jax.kernels.crf.reference import features

PARAMS = SETTINGS["v1"]
UNARY, RGB = scene(16, 16, 5)


@pytest.fixture(scope="module")
def blocks():
    position, colour = features(jnp.asarray(RGB))
    parts = [position / PARAMS.bilateral_px, colour / PARAMS.bilateral_rgb]
    return jax.jit(block_sparsity.make)(jnp.concatenate(parts, axis=1))


@pytest.mark.slow
def test_kernel_is_the_portable_one_and_has_no_races(blocks, rng):
    assert int(blocks.near.max()) > exact_hopper._SLOTS, "no slot is used twice"
    apply = exact_hopper.bilateral(
        blocks, jnp.asarray(RGB), PARAMS, interpret=InterpretGPUParams(detect_races=True)
    )
    q, target = rng.random((2, 256, 5)).astype(np.float32)
    ours, gradient = jax.vjp(apply, q)
    portable = exact.bilateral(blocks, RGB, PARAMS)
    # K and Q have 8 significant bits, their sum over hundreds of pixels is float32.
    np.testing.assert_allclose(ours, portable(q), rtol=4e-3)
    np.testing.assert_allclose(gradient(target)[0], portable(target), rtol=4e-3)
    assert not get_races().races_found


def test_distances_are_exact_in_bfloat16():
    """The corners of the largest picture, and all colours from black to white."""
    position = np.float32([[-256, -256], [256, 256], [-256, 255], [0, 0], [17, -200]])
    colour = np.float32([[0, 0, 0], [255, 255, 255], [255, 0, 1], [3, 77, 191], [128, 127, 129]])
    one = block_sparsity.make(jnp.zeros((5, 1)), tile=5)
    for feature in (position, colour):
        a, b = exact_products.squares(one, jnp.asarray(feature))
        feature = feature[np.asarray(one.order)]
        squares = ((feature[:, None] - feature[None]) ** 2).sum(-1)
        product = np.float64(a[0]) @ np.float64(b[0])
        np.testing.assert_array_equal(product, squares)


def test_it_says_what_it_cannot_do(blocks):
    with pytest.raises(NotImplementedError, match="use implementation='exact'"):
        mean_field(UNARY, RGB, PARAMS, implementation="exact_hopper")
    for rgb in (RGB.astype(np.float32), np.zeros((514, 2, 3), np.uint8)):
        with pytest.raises(ValueError, match="needs a uint8 image of at most 513"):
            exact_hopper.bilateral(blocks, jnp.asarray(rgb), PARAMS)
