"""Losses as sums and counts, divided once after summing over all devices."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from seg_jax import checks, plugins
from seg_jax.types import IGNORE


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Softmax cross-entropy over the pixels that are not IGNORE.

    Attributes:
      reduction: "mean" over the valid pixels of the global batch; "image_mean": over those of each
        image and head separately, averaged over the images (Caffe with one image at a time and
        iter_size); or "sum" (FCN's unnormalised loss, which its learning rates of 1e-10 assume).
      heads: (name, weight) of every model output with a loss.
      label_grids: (first, step) of every head: the loss is only at rows and columns first,
        first + step, ..., where upsampled scores equal the scores before upsampling (the "shrunk"
        label of DeepLab v1 and v2). Empty: at every pixel.
      class_weights: weight of each class; empty: all 1. The mean divides by the number of valid
        pixels, not by the sum of weights (the rule of Caffe's softmax loss, which SegNet's
        weights are meant for; PyTorch divides by the sum of weights).
      name: "cross_entropy", or a loss that a package of your own registers (`register`).
    """

    reduction: Literal["mean", "image_mean", "sum"] = "mean"
    heads: tuple[tuple[str, float], ...] = (("out", 1.0),)
    label_grids: tuple[tuple[int, int], ...] = ()
    class_weights: tuple[float, ...] = ()
    name: str = "cross_entropy"

    def __post_init__(self):
        _LOSSES.find(self.name)
        for weight in self.class_weights:
            if not (0 <= weight < math.inf):  # NaN is in no order
                raise ValueError(f"class_weights has {weight}: weights are finite, and 0 or more")
        if self.class_weights and not any(self.class_weights):
            raise ValueError("class_weights are all 0: nothing would be learnt")
        checks.one_of(("mean", "image_mean", "sum"), reduction=self.reduction)
        if not self.heads:
            raise ValueError('heads is empty: name at least one output, e.g. (("out", 1.0),)')
        if len(self.label_grids) not in (0, len(self.heads)):
            raise ValueError(f"label_grids {self.label_grids} must have an entry per head, or none")
        for first, step in self.label_grids:
            checks.non_negative(label_grids_first=first)
            checks.positive(label_grids_step=step)
        if self.reduction == "mean" and len(set(self.label_grids)) > 1:
            raise ValueError(
                f"label_grids {self.label_grids} differ, so the heads have different numbers of "
                'pixels to average over: use reduction="image_mean"'
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Weights:
    """The numbers of a LossConfig that a compiled step takes as inputs: float32 scalars.

    Attributes:
      heads: weight of every head.
      classes: weight of every class; empty: all 1.
    """

    heads: tuple[Any, ...]
    classes: tuple[Any, ...]


def weights(config: LossConfig) -> Weights:
    """Return the weights of a configuration, as NumPy scalars."""
    heads = tuple(np.float32(weight) for _, weight in config.heads)
    return Weights(heads, tuple(np.float32(weight) for weight in config.class_weights))


def structure(config: LossConfig) -> LossConfig:
    """Return the configuration with 1 in place of what `weights` takes from it.

    Configurations of one structure share one compiled step.
    """
    heads = tuple((name, 1.0) for name, _ in config.heads)
    return dataclasses.replace(
        config, heads=heads, class_weights=(1.0,) * len(config.class_weights)
    )


def cross_entropy_sums(
    logits: jax.Array,
    label: jax.Array,
    *,
    class_weights: Sequence[float] = (),
    pixel_weights: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Sum -log softmax(logits)[label] over the valid pixels, and count them.

    A pixel is valid unless its label is IGNORE; ignored pixels add nothing to sum, count or
    gradient. A label that is neither a class nor IGNORE makes the sum NaN, so that the run stops:
    clipping it to the nearest class would silently train on a wrong truth.

    Args:
      logits: float32 [n h w k].
      label: integer [n h w], class id in [0, k) or IGNORE.
      class_weights: k factors, one per class, perhaps traced; empty: all 1.
      pixel_weights: float32 [n h w] factors, or None: all 1.

    Returns:
      The weighted sum, float32 [], and the number of valid pixels, int32 [], which is not weighted.
    """
    if hasattr(logits, "keys"):
        raise ValueError(
            f"logits [n h w k] belong here, got all heads: take one of {sorted(logits)}"
        )
    checks.logits_shape(logits, label)
    num_classes = logits.shape[-1]
    if logits.dtype != jnp.float32:
        raise ValueError(f"logits must be float32, got {logits.dtype}: cast them in the model")
    if len(class_weights) not in (0, num_classes):
        raise ValueError(
            f"class_weights has {len(class_weights)} entries, the logits {num_classes} classes"
        )
    label = label.astype(jnp.int32)
    valid = label != IGNORE
    # A comparison instead of a gather, whose gradient is a scatter.
    truth = label[..., None] == jnp.arange(num_classes, dtype=jnp.int32)[None, None, None]
    picked = jnp.sum(jnp.where(truth, logits, 0.0), axis=-1)
    loss = jax.nn.logsumexp(logits, axis=-1) - picked
    if class_weights:
        weights = jnp.asarray(class_weights, jnp.float32)[None, None, None]
        loss = loss * jnp.sum(jnp.where(truth, weights, 0.0), axis=-1)
    if pixel_weights is not None:
        loss = loss * pixel_weights
    loss = jnp.where((label >= 0) & (label < num_classes), loss, jnp.nan)
    return jnp.sum(jnp.where(valid, loss, 0.0)), jnp.sum(valid, dtype=jnp.int32)


# A loss sums over the valid pixels and counts what the sum is to be divided by, like
# `cross_entropy_sums`, whose arguments it takes.
Loss = Callable[..., tuple[jax.Array, jax.Array]]
_LOSSES: plugins.Registry[Loss] = plugins.Registry("loss", {"cross_entropy": cross_entropy_sums})


def register(name: str) -> Callable[[Loss], Loss]:
    """Register a loss under a name that `LossConfig.name` may have, as a decorator.

    The loss has the arguments and results of `cross_entropy_sums`. Sums and counts are added over
    devices before the division, so it must be a sum over pixels or images.
    """
    return _LOSSES.decorator(name)


def crop_border(label: jax.Array, margin: int) -> jax.Array:
    """Crop `margin` pixels from every side of [n h w]: networks without padding lose them."""
    height, width = label.shape[1:]
    if margin < 0 or 2 * margin >= min(height, width):
        raise ValueError(f"margin {margin} px does not fit into a label of {height} x {width}")
    return label[:, margin : height - margin, margin : width - margin]


def loss_sums(
    outputs: Mapping[str, jax.Array],
    label: jax.Array,
    config: LossConfig,
    *,
    numbers: Weights | None = None,
    pixel_weights: jax.Array | None = None,
    margin: int = 0,
) -> tuple[jax.Array, jax.Array]:
    """Return the weighted sum of the heads' losses, float32 [], and its count, int32 [].

    The count is the number of valid pixels of a head; with "image_mean", the number of images.

    Args:
      outputs: logits float32 [n h-2m w-2m k] of every head, m = margin.
      label: integer [n h w].
      config: heads, their weights and their pixels.
      numbers: read instead of the configuration's weights; perhaps traced.
      pixel_weights: float32 [n h w], or None.
      margin: pixels on every side that the model does not predict (U-Net's valid convolutions).
    """
    checks.heads(outputs)
    label = crop_border(label, margin)
    if pixel_weights is not None:
        pixel_weights = crop_border(pixel_weights, margin)
    numbers = weights(config) if numbers is None else numbers
    total = jnp.float32(0.0)
    count: Any = None
    grids = config.label_grids or ((0, 1),) * len(config.heads)
    for (name, _), weight, (first, step) in zip(config.heads, numbers.heads, grids, strict=True):
        if name not in outputs:
            raise ValueError(f"loss.heads: {checks.unknown(name, outputs)}")
        logits = outputs[name]
        checks.logits_shape(logits, label)
        at = (slice(None), slice(first, None, step), slice(first, None, step))
        pixels = None if pixel_weights is None else pixel_weights[at]
        head, valid = _reduce(logits[at], label[at], pixels, config, numbers.classes)
        total = total + weight * head
        count = valid if count is None else count
    return total, count


def _reduce(
    logits: jax.Array,
    label: jax.Array,
    pixel_weights: jax.Array | None,
    config: LossConfig,
    class_weights: Sequence[Any],
) -> tuple[jax.Array, jax.Array]:
    """Return the sum and the count of one head."""
    loss = functools.partial(_LOSSES.find(config.name), class_weights=class_weights)
    if config.reduction != "image_mean":
        return loss(logits, label, pixel_weights=pixel_weights)

    def image_mean(logits, label, weights):
        one = jax.tree.map(lambda x: x[None], (logits, label, weights))
        total, valid = loss(*one[:2], pixel_weights=one[2])
        return total / jnp.maximum(valid, 1).astype(jnp.float32), valid

    means, valid = jax.vmap(image_mean)(logits, label, pixel_weights)
    # All images count, also those without valid pixels. Counted from the data, because the number
    # of images differs between devices.
    return jnp.sum(means), jnp.sum(valid >= 0, dtype=jnp.int32)


def divisor(count: jax.Array, config: LossConfig) -> jax.Array:
    """Return the divisor of the sum of `loss_sums`, float32 []; 1 if no pixel is valid."""
    if config.reduction == "sum":
        return jnp.float32(1.0)
    return jnp.maximum(count, 1).astype(jnp.float32)


def correct_pixels(
    outputs: Mapping[str, Any], label: jax.Array, *, head: str = "out", margin: int = 0
) -> tuple[jax.Array, jax.Array]:
    """Count the valid pixels whose largest logit is that of the label, and all valid ones."""
    checks.heads(outputs)
    label = crop_border(label.astype(jnp.int32), margin)
    prediction, valid = jnp.argmax(outputs[head], axis=-1).astype(jnp.int32), label != IGNORE
    correct = (prediction == label) & valid
    return jnp.sum(correct, dtype=jnp.int32), jnp.sum(valid, dtype=jnp.int32)
