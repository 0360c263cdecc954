"""Block-sparse message passing against the dense definition, and its order and lists."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seg_jax.kernels.crf import block_sparsity, exact, mean_field
from seg_jax.kernels.crf.cases import SETTINGS, scene

UNARY, RGB = scene(40, 52, 5)


def bilateral_features(rgb, params):
    height, width, _ = rgb.shape
    y, x = np.mgrid[:height, :width]
    position = np.stack([x, y], axis=-1) / params.bilateral_px
    stacked = np.concatenate([position, rgb / params.bilateral_rgb], axis=-1)
    return stacked.reshape(height * width, 5).astype(np.float32)


@pytest.mark.parametrize("d, side", [(2, 16), (5, 4)])
def test_hilbert_curve_visits_every_cell_by_unit_steps(d, side):
    grid = np.stack(np.meshgrid(*[np.arange(side)] * d), axis=-1).reshape(-1, d)
    index = np.asarray(jax.jit(block_sparsity.hilbert_index)(grid.astype(np.float32)))
    path = grid[np.argsort(index)]
    assert len(np.unique(index)) == side**d
    np.testing.assert_array_equal(np.abs(np.diff(path, axis=0)).sum(axis=1), 1)


def test_lists_hold_every_near_pair_and_leave_most_out():
    feature = bilateral_features(RGB, SETTINGS["v2"])
    made = jax.jit(block_sparsity.make)(feature)
    assert sorted(np.asarray(made.order)) == list(range(len(feature)))
    blocks = len(made.near)
    listed = np.zeros((blocks, blocks), bool)
    for row, (keys, count) in enumerate(zip(made.keys, made.near, strict=True)):
        listed[row, keys[:count]] = True
        assert (keys[count:] == blocks).all()
    np.testing.assert_array_equal(listed, listed.T)
    block = np.empty(len(feature), int)
    block[np.asarray(made.order)] = np.arange(len(feature)) // block_sparsity.TILE
    distance = np.sqrt(sum((c[:, None] - c[None, :]) ** 2 for c in feature.T))
    near = distance <= block_sparsity.RADIUS
    assert listed[block[:, None], block[None, :]][near].all()
    assert listed.mean() < 0.5


@pytest.mark.parametrize("implementation", ["exact", "exact_numba"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_exact_is_the_definition(setting, implementation):
    params = replace(SETTINGS[setting], normalisation="symmetric")
    dense = mean_field(UNARY, RGB, params, implementation="reference")
    sparse = mean_field(UNARY, RGB, params, implementation=implementation)
    np.testing.assert_allclose(sparse, dense, atol=2e-4)
    assert (sparse.argmax(-1) == dense.argmax(-1)).all()
    assert (dense.argmax(-1) != UNARY.argmin(-1)).any(), "a CRF that changes nothing"


@pytest.mark.slow
def test_gradient_of_exact_is_that_of_the_definition(rng):
    unary, rgb = scene(20, 26, 3)
    target = rng.normal(size=unary.shape).astype(np.float32)
    params = replace(SETTINGS["v1"], iterations=3)

    def gradient(implementation):
        def loss(unary, params):
            q = mean_field(unary, rgb, params, implementation=implementation)
            return jnp.sum(q * target)

        by_unary, by_params = jax.jit(jax.grad(loss, argnums=(0, 1)))(unary, params)
        return by_unary, by_params.bilateral_weight, by_params.spatial_weight

    for ours, dense in zip(gradient("exact"), gradient("reference"), strict=True):
        np.testing.assert_allclose(ours, dense, rtol=1e-3, atol=1e-4)


def test_spatial_kernel_is_the_dense_gaussian(rng):
    q = rng.random((6 * 9, 2)).astype(np.float32)
    y, x = (axis.ravel() for axis in np.mgrid[:6, :9])
    squares = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    np.testing.assert_allclose(
        exact.separable(6, 9, 1.7)(q), np.exp(-squares / (2 * 1.7**2)) @ q, rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["exact", "exact_numba"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_exact_is_the_definition_on_nine_thousand_pixels(setting, implementation):
    unary, rgb = scene(90, 100, 21)
    dense = mean_field(unary, rgb, SETTINGS[setting], implementation="reference")
    sparse = mean_field(unary, rgb, SETTINGS[setting], implementation=implementation)
    np.testing.assert_allclose(sparse, dense, atol=2e-4)
