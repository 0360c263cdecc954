"""ReLU of residual sums."""

import jax
from jax import numpy as jnp

from seg_jax.nn import lowering


def of_sum(x: jax.Array) -> jax.Array:
    """Return ReLU(x) of a residual unit's sum, any shape (He et al., CVPR 2016, figure 2).

    XLA:CPU computes anew, in each reader, what a maximum with zero is of. In a row of units, each
    of which reads the one before, these are all sums so far: a fifth of a ResNet-101's time. What
    is selected from two arrays is written once instead.
    """
    return _selected(x) if lowering.platform() == "cpu" else jax.nn.relu(x)


@jax.custom_jvp
def _selected(x: jax.Array) -> jax.Array:
    return jnp.where(x <= 0, jnp.zeros_like(x), x)  # NaN stays


@_selected.defjvp
def _selected_jvp(primals, tangents):
    # By the result, so that the sum need not be kept for the gradient.
    (x,), (slope,) = primals, tangents
    y = _selected(x)
    return y, jnp.where(y > 0, slope, jnp.zeros_like(y))
