"""Batch normalisation as the papers used it: synchronised, per device, or frozen; and group norm.

A network takes its norm from `layer`, which makes the one that its `Norm` asks for.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from seg_jax import checks
from seg_jax.nn import lowering
from seg_jax.types import DATA_AXIS

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Norm:
    """Settings of normalisation; a field of every model that has it.

    Attributes:
      momentum: of the running averages: new = momentum * old + (1 - momentum) * batch. TensorFlow
        calls it "decay", Caffe the moving average fraction; PyTorch's momentum is 1 - this.
      epsilon: added to the variance.
      statistics: in training, "sync" normalises by the whole batch over all devices, "per_device"
        by each device's own part of it; "frozen" by the running averages, with constant scale and
        bias; "frozen_statistics" by them too, while scale and bias learn (the DeepLab release's
        fine_tune_batch_norm=False, which only sets is_training). "group": in training and
        evaluation alike by each image's own groups of channels, see `GroupNorm`; the same numbers
        for any batch, and nothing to average, so that momentum has no effect.
      groups: of "group", in every norm; of a number of channels that it does not divide, their
        greatest common divisor: 8 of 24 channels for 32.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    statistics: Literal["sync", "per_device", "frozen", "frozen_statistics", "group"] = "sync"
    groups: int = 32

    def __post_init__(self):
        checks.fraction(momentum=self.momentum)
        checks.positive(epsilon=self.epsilon, groups=self.groups)
        known = ("sync", "per_device", "frozen", "frozen_statistics", "group")
        checks.one_of(known, statistics=self.statistics)

    @property
    def averages(self) -> bool:
        """Whether training moves running averages, which evaluation then uses."""
        return self.statistics in ("sync", "per_device")


def layer(
    norm: Norm, *, name: str, bias_init: Callable[..., Array] = nn.initializers.zeros
) -> "BatchNorm | GroupNorm":
    """Return the norm of a convolution: a module to call as `(x, train=train)`.

    The parameters have the same names whatever its kind, so that a recipe's rules mean the same.

    Args:
      norm: its settings.
      name: of the layer.
      bias_init: by default zeros.
    """
    kind = GroupNorm if norm.statistics == "group" else BatchNorm
    return kind(norm, bias_init, name=name)


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
        if self.norm.statistics == "group":
            raise ValueError("a BatchNorm has no groups: make the layer by seg_jax.nn.norm.layer")
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", self.bias_init, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        if self.norm.statistics == "frozen":
            scale, bias = lax.stop_gradient((scale, bias))
        if train and self.norm.averages:
            mean, var = batch_statistics(x, _axis(self.norm), near=running_mean.value)
            if not self.is_initializing():
                momentum = self.norm.momentum
                running_mean.value = momentum * running_mean.value + (1 - momentum) * mean
                running_var.value = momentum * running_var.value + (1 - momentum) * var
        else:
            mean, var = running_mean.value, running_var.value
        y = _normalise(x, mean, var, scale, bias, self.norm.epsilon)
        if train and self.norm.averages and lowering.choose_statistics() == "apart":
            return _gradient_apart(y)
        return y


class GroupNorm(nn.Module):
    """y = scale (x - mean) / sqrt(var + epsilon) + bias, over h, w and a group's channels.

    Wu and He, "Group Normalization", ECCV 2018, arXiv:1803.08494, equations 1, 2, 6 and 7: channel
    c of C is in group floor(c G / C). Each image has its own mean and variance, so that nothing
    depends on the batch, on the number of devices, or on training and evaluation; but on what
    surrounds the image, padding and window included.

    Parameters "scale" and "bias" [c]; no running averages. Statistics are float32 for any dtype of
    x; the result has the dtype of x.

    Attributes:
      norm: epsilon and groups.
      bias_init: by default zeros.
    """

    norm: Norm = Norm(statistics="group")
    bias_init: Callable[..., Array] = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Return the normalised x [n h w c]; `train` changes nothing.

        Raises:
          ValueError: a group is a single number, which would always become the bias.
        """
        n, height, width, channels = x.shape
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", self.bias_init, (channels,))
        groups = math.gcd(self.norm.groups, channels)
        if height * width * channels == groups:
            name = "/".join(self.path) or self.name
            raise ValueError(
                f"{name}: {groups} groups of one number, {channels} channels of one pixel, cannot "
                f"be normalised: fewer groups than {groups}, or a larger input"
            )
        dtype = np.promote_types(x.dtype, np.float32)
        grouped = x.astype(dtype).reshape(n, height, width, groups, channels // groups)
        mean = grouped.mean((1, 2, 4), keepdims=True)
        centred = grouped - mean
        var = jnp.square(centred).mean((1, 2, 4), keepdims=True)
        y = (centred * lax.rsqrt(var + self.norm.epsilon)).reshape(x.shape)
        scale, bias = (value.astype(dtype).reshape(1, 1, 1, -1) for value in (scale, bias))
        return (y * scale + bias).astype(x.dtype)


def batch_statistics(
    x: Array, axis_name: str | None = None, *, near: Array | None = None
) -> tuple[Array, Array]:
    """Return float32 mean and biased variance [c] of x [n h w c], also over a mapped axis if given.

    Var x = E[(x - c)^2] - (E[x] - c)^2 for every constant c. The shorter formula, c = 0, loses all
    digits once the mean exceeds some thousand standard deviations; with c = E[x] nothing is lost,
    and because c is treated as a constant, the gradient needs no third sum over the image.

    Args:
      x: floating.
      axis_name: mapped axis.
      near: float32 [c], the running mean. Where `lowering.choose_statistics` says so, it is c: both
        sums are then made in one pass over x, or in none of their own, as TPUs make them while the
        convolution writes x ("apart": not there). The variance is off by about 1e-7 (E[x] - c)^2,
        next to nothing once the average follows.
    """

    def mean_of(values):
        local = jnp.mean(values, axis=(0, 1, 2))
        return lax.pmean(local, axis_name) if axis_name else local

    x = x.astype(np.promote_types(x.dtype, np.float32))
    form = lowering.choose_statistics()
    if form == "apart":
        x = lax.optimization_barrier(x)
    if near is not None and form != "two_passes":
        centre = lax.stop_gradient(near)
        shifted = x - centre.reshape(1, 1, 1, -1)
        offset, squares = mean_of(shifted), mean_of(jnp.square(shifted))
        return centre + offset, jnp.maximum(squares - jnp.square(offset), 0)
    mean = mean_of(x)
    centre = lax.stop_gradient(mean)
    squares = mean_of(jnp.square(x - centre.reshape(1, 1, 1, -1)))
    return mean, squares - jnp.square(mean - centre)


@jax.custom_vjp
def _gradient_apart(y: Array) -> Array:
    """Return y, whose gradient is written before anything reads it."""
    return y


_gradient_apart.defvjp(
    lambda y: (y, None), lambda _, gradient: (lax.optimization_barrier(gradient),)
)


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
