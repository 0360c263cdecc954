"""Batch normalisation as the papers used it: synchronised, per device, or frozen."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from seg_jax import checks
from seg_jax.types import DATA_AXIS

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Norm:
    """Settings of batch normalisation; a field of every model that has it.

    Attributes:
      momentum: of the running averages: new = momentum * old + (1 - momentum) * batch. TensorFlow
        calls it "decay", Caffe the moving average fraction; PyTorch's momentum is 1 - this.
      epsilon: added to the variance.
      statistics: in training, "sync" normalises by the whole batch over all devices, "per_device"
        by each device's own part of it; "frozen" by the running averages, with constant scale and
        bias; "frozen_statistics" by them too, while scale and bias learn (the DeepLab release's
        fine_tune_batch_norm=False, which only sets is_training).
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    statistics: Literal["sync", "per_device", "frozen", "frozen_statistics"] = "sync"

    def __post_init__(self):
        checks.fraction(momentum=self.momentum)
        checks.positive(epsilon=self.epsilon)
        known = ("sync", "per_device", "frozen", "frozen_statistics")
        checks.one_of(known, statistics=self.statistics)


class BatchNorm(nn.Module):
    """y = scale (x - mean) / sqrt(var + epsilon) + bias, over n, h, w (Ioffe and Szegedy 2015).

    Parameters "scale" and "bias" [c]; running "mean" and "var" [c], float32, in "batch_stats".
    Statistics are float32 for any dtype of x; the result has the dtype of x. Both the batch's and
    the running variance are biased (divided by n h w), as in TensorFlow; PyTorch's running variance
    is unbiased, larger by n h w / (n h w - 1).

    "sync" averages over the mapped axis `types.DATA_AXIS`; outside of a mapped function, over the
    batch. With "per_device" the running averages differ between devices: the training step averages
    them.

    Attributes:
      norm: momentum, epsilon and source of the statistics.
      bias_init: by default zeros.
    """

    norm: Norm = Norm()
    bias_init: Callable[..., Array] = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Return the normalised x [n h w c]; `train` updates "batch_stats" unless frozen."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", self.bias_init, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        if self.norm.statistics == "frozen":
            scale, bias = lax.stop_gradient((scale, bias))
        if train and self.norm.statistics in ("sync", "per_device"):
            mean, var = batch_statistics(x, _axis(self.norm))
            if not self.is_initializing():
                momentum = self.norm.momentum
                running_mean.value = momentum * running_mean.value + (1 - momentum) * mean
                running_var.value = momentum * running_var.value + (1 - momentum) * var
        else:
            mean, var = running_mean.value, running_var.value
        return _normalise(x, mean, var, scale, bias, self.norm.epsilon)


def batch_statistics(x: Array, axis_name: str | None = None) -> tuple[Array, Array]:
    """Return float32 mean and biased variance [c] of x [n h w c], also over a mapped axis if given.

    Var x = E[(x - c)^2] - (E[x] - c)^2 for every constant c. The shorter formula, c = 0, loses all
    digits once the mean exceeds some thousand standard deviations; with c = E[x] nothing is lost,
    and because c is treated as a constant, the gradient needs no third sum over the image.
    """

    def mean_of(values):
        local = jnp.mean(values, axis=(0, 1, 2))
        return lax.pmean(local, axis_name) if axis_name else local

    x = x.astype(np.promote_types(x.dtype, np.float32))
    mean = mean_of(x)
    centre = lax.stop_gradient(mean)
    squares = mean_of(jnp.square(x - centre.reshape(1, 1, 1, -1)))
    return mean, squares - jnp.square(mean - centre)


def _axis(norm: Norm) -> str | None:
    """Return the mapped axis to average over, or None."""
    if norm.statistics != "sync":
        return None
    try:
        lax.axis_index(DATA_AXIS)
    except NameError:  # what jax raises if the axis is not mapped here
        return None
    return DATA_AXIS


def _normalise(x, mean, var, scale, bias, epsilon):
    dtype = np.promote_types(x.dtype, np.float32)
    mean, var, scale, bias = (
        value.astype(dtype).reshape(1, 1, 1, -1) for value in (mean, var, scale, bias)
    )
    y = (x.astype(dtype) - mean) * (lax.rsqrt(var + epsilon) * scale) + bias
    return y.astype(x.dtype)
