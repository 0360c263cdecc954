"""The TPU kernel in Pallas' interpreter, races included. None of this has run on a TPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.mosaic.interpret import interpret_pallas_call  # its races have no public name
from jax.experimental.pallas import tpu as pltpu

from seg_jax.kernels.crf import block_sparsity, exact, exact_tpu, mean_field
from seg_jax.kernels.crf.cases import SETTINGS, scene
from seg_jax.kernels.crf.reference import features

PARAMS = SETTINGS["v1"]
UNARY, RGB = scene(20, 20, 5)
TILE = 128  # four blocks, the last one partly filled


@pytest.fixture(scope="module")
def interpreted():
    """`bilateral` with small blocks, by the interpreter."""

    def bilateral(tiles, rgb, params):
        how = pltpu.InterpretParams(detect_races=True)
        return exact_tpu.bilateral(tiles, rgb, params, interpret=how)

    return bilateral


@pytest.mark.slow
def test_kernel_and_gradient_are_the_portable_ones_without_races(interpreted, rng):
    position, colour = features(jnp.asarray(RGB))
    parts = [position / PARAMS.bilateral_px, colour / PARAMS.bilateral_rgb]
    blocks = block_sparsity.make(jnp.concatenate(parts, axis=1), tile=TILE)
    assert int(blocks.near.max()) > exact_tpu._SLOTS, "no slot is used twice"
    q, target = rng.random((2, 400, 5)).astype(np.float32)
    ours, gradient = jax.vjp(interpreted(blocks, jnp.asarray(RGB), PARAMS), q)
    portable = exact.bilateral(blocks, jnp.asarray(RGB), PARAMS)
    # K and Q have 16 significant bits; plain bfloat16 would be 1e-3 away.
    np.testing.assert_allclose(ours, portable(q), rtol=5e-5)
    np.testing.assert_allclose(gradient(target)[0], portable(target), rtol=5e-5)
    assert not interpret_pallas_call.races.races_found


@pytest.mark.slow
def test_marginals_are_those_of_the_portable_form(interpreted):
    unary, rgb = jnp.asarray(UNARY)[None], jnp.asarray(RGB)[None]
    ours = exact.run(unary, rgb, PARAMS, interpreted, tile=TILE)
    theirs = mean_field(unary, rgb, PARAMS, implementation="exact")
    np.testing.assert_allclose(ours, theirs, atol=2e-4)
    np.testing.assert_array_equal(ours.argmax(-1), theirs.argmax(-1))


def test_it_says_what_it_cannot_do(interpreted):
    with pytest.raises(NotImplementedError, match="use implementation='exact'"):
        mean_field(UNARY, RGB, PARAMS, implementation="exact_tpu")
    blocks = block_sparsity.make(jnp.zeros((400, 5)), tile=TILE)
    for rgb in (RGB.astype(np.float32), np.zeros((514, 2, 3), np.uint8)):
        with pytest.raises(ValueError, match="exact_tpu.*needs a uint8 image of at most 513"):
            interpreted(blocks, jnp.asarray(rgb), PARAMS)
    with pytest.raises(ValueError, match="at most 256 classes, got 257"):
        interpreted(blocks, jnp.asarray(RGB), PARAMS)(jnp.zeros((400, 257)))
