"""Convolutions by forms of their own: gradients of gradients, and sums over devices."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.sharding import PartitionSpec
from test_lowering import normal, same

from seg_jax import parallel
from seg_jax.nn import fourier, lowering, winograd

FORMS = pytest.mark.parametrize("form", [winograd.conv, fourier.conv])


@FORMS
def test_gradients_of_gradients(rng, form):
    x, kernel = normal(rng, 1, 6, 5, 2), normal(rng, 3, 3, 2, 3)

    def slope(run):
        value = lambda x, k: (jnp.sin(run(x, k, same(1))) ** 2).sum()  # noqa: E731
        squares = lambda x, k: sum((g**2).sum() for g in jax.grad(value, (0, 1))(x, k))  # noqa: E731
        return jax.grad(squares, (0, 1))(x, kernel)

    for got, expected in zip(slope(form), slope(lowering.conv_xla), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@FORMS
def test_in_shard_map_a_shared_kernel_gets_the_sum(rng, form):
    """As with XLA's convolution: the gradient of what all devices share is summed by itself."""
    mesh = parallel.make_mesh(jax.devices()[:2])
    x, kernel = normal(rng, 2, 6, 5, 2), normal(rng, 3, 3, 2, 3)
    axis = mesh.axis_names[0]

    def gradient(run):
        value = lambda k, x: (run(x, k, same(1)) ** 2).sum()  # noqa: E731
        specs = {"in_specs": (PartitionSpec(), PartitionSpec(axis)), "out_specs": PartitionSpec()}
        return jax.jit(jax.shard_map(jax.grad(value), mesh=mesh, **specs))(kernel, x)

    expected = gradient(lowering.conv_xla)
    np.testing.assert_allclose(gradient(form), expected, rtol=1e-5, atol=1e-4)
