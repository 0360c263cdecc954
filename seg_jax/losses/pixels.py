"""Losses of single pixels, and the choice of the hardest of them."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from seg_jax import checks
from seg_jax.kernels import upsampled_logits
from seg_jax.types import IGNORE


def check(logits: jax.Array, label: jax.Array, class_weights: Sequence[Any]) -> None:
    """Raise ValueError unless logits, label and class weights fit together."""
    checks.logits_shape(logits, label)
    if logits.dtype != jnp.float32:
        raise ValueError(f"logits must be float32, got {logits.dtype}: cast them in the model")
    if len(class_weights) not in (0, logits.shape[-1]):
        raise ValueError(
            f"class_weights has {len(class_weights)} entries, the logits {logits.shape[-1]} classes"
        )


def one_hot(label: jax.Array, num_classes: int) -> jax.Array:
    """Return bool [n h w k]: a comparison instead of a gather, whose gradient is a scatter."""
    label = label.astype(jnp.int32)
    return label[..., None] == jnp.arange(num_classes, dtype=jnp.int32)[None, None, None]


def is_class(label: jax.Array, num_classes: int) -> jax.Array:
    """Return where a label is a class, bool [n h w]: neither IGNORE nor a wrong value."""
    label = label.astype(jnp.int32)
    return (label >= 0) & (label < num_classes)


def cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    *,
    class_weights: Sequence[Any] = (),
    pixel_weights: jax.Array | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Return the loss of every pixel, and which ones are valid.

    With p the softmax, y the label and e the label smoothing (Szegedy et al., CVPR 2016, sec. 7):

        ce = -(1 - e) log p[y] - e / k sum_c log p[c]
        loss = weight (1 - exp(-ce))^gamma ce        (Lin et al., ICCV 2017, Eq. 4; gamma 0: ce)

    Args:
      logits: float32 [n h w k].
      label: integer [n h w], class id in [0, k) or IGNORE; another value makes its loss NaN.
      class_weights: k factors, perhaps traced; that of the label's class applies; empty: all 1.
      pixel_weights: float32 [n h w] factors, or None: all 1.
      label_smoothing: e.
      focal_gamma: 0, or 1 and more.

    Returns:
      float32 [n h w], 0 where the label is IGNORE; and bool [n h w].
    """
    check(logits, label, class_weights)
    num_classes = logits.shape[-1]
    valid = label.astype(jnp.int32) != IGNORE
    truth = one_hot(label, num_classes)
    picked = jnp.sum(jnp.where(truth, logits, 0.0), axis=-1)
    if label_smoothing:
        picked = (1 - label_smoothing) * picked + label_smoothing * jnp.mean(logits, axis=-1)
    loss = jax.nn.logsumexp(logits, axis=-1) - picked
    loss = upsampled_logits.focal(loss, focal_gamma)
    if class_weights:
        weights = jnp.asarray(class_weights, jnp.float32)[None, None, None]
        loss = loss * jnp.sum(jnp.where(truth, weights, 0.0), axis=-1)
    if pixel_weights is not None:
        loss = loss * pixel_weights
    loss = jnp.where(is_class(label, num_classes), loss, jnp.nan)
    return jnp.where(valid, loss, 0.0), valid


def hardest(
    loss: jax.Array, valid: jax.Array, *, share: jax.Array | float, axis: str | None
) -> tuple[jax.Array, jax.Array]:
    """Sum the losses of the hardest pixels, a share of the valid ones of the whole batch.

    The k-th largest loss of all devices is found by bisection over the bits of float32, which are
    ordered as the numbers are: exact, without a sort, and the same however the batch is divided.
    Pixels that tie with it count by the part of them that is still wanted.

    Args:
      loss: float32 [n h w], 0 or more.
      valid: bool [n h w].
      share: of the valid pixels, in (0, 1]; at least one pixel is kept.
      axis: mapped axis over which the batch is divided; None: it is not.

    Returns:
      This device's part of the sum, float32 [], and of the number k, int32 [].
    """

    def count(chosen: jax.Array) -> jax.Array:
        return add(jnp.sum(chosen, dtype=jnp.int32), axis)

    total = count(valid)
    wanted = jnp.floor(jnp.asarray(share, jnp.float32) * total.astype(jnp.float32))
    wanted = jnp.clip(wanted.astype(jnp.int32), jnp.minimum(total, 1), total)
    bits = lax.bitcast_convert_type(lax.stop_gradient(jnp.maximum(loss, 0.0)), jnp.int32)
    bits = jnp.where(valid, bits, -1)

    def bisect(_, bounds):
        low, high = bounds  # at least `wanted` losses are >= low, fewer are >= high
        middle = low + (high - low) // 2
        enough = count(bits >= middle) >= wanted
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    least, _ = lax.fori_loop(0, 31, bisect, (jnp.int32(0), jnp.int32(2**31 - 1)))
    harder, tied = bits > least, bits == least
    rest = wanted - count(harder)
    part = rest.astype(jnp.float32) / jnp.maximum(count(tied), 1).astype(jnp.float32)
    # NaN, the sign of a wrong label, is larger than every number and among the hardest.
    chosen = jnp.sum(jnp.where(harder, loss, 0.0)) + part * jnp.sum(jnp.where(tied, loss, 0.0))
    return chosen, jnp.sum(harder, dtype=jnp.int32) + on_first(rest, axis)


def add(value: jax.Array, axis: str | None) -> jax.Array:
    """Sum over the devices, if there is an axis."""
    return value if axis is None else lax.psum(value, axis)


def on_first(value: jax.Array, axis: str | None) -> jax.Array:
    """Return a value, the same on all devices, on the first one and 0 on the others."""
    if axis is None:
        return value
    return jnp.where(lax.axis_index(axis) == 0, value, jnp.zeros_like(value))
