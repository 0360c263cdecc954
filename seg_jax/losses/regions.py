"""Losses of whole regions: Dice, Tversky, Lovász-softmax. They are no sums over pixels."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from seg_jax.losses import pixels
from seg_jax.types import IGNORE


def tversky(
    logits: jax.Array,
    label: jax.Array,
    *,
    alpha: float,
    beta: float,
    class_weights: Sequence[Any] = (),
    pixel_weights: jax.Array | None = None,
    axis: str | None = None,
) -> jax.Array:
    """Return this device's part of the soft Tversky loss of the whole batch.

    With p the softmax and y the one-hot label, sums over the valid pixels of all devices
    (Salehi et al., arXiv 1706.05721, Eq. 3; alpha = beta = 1/2 is Dice's, Milletari et al.,
    arXiv 1606.04797, without the squares of its denominator):

        T_c = sum p y / (sum p y + alpha sum p (1 - y) + beta sum (1 - p) y)
        loss = weighted mean over the classes that occur in the truth of 1 - T_c

    The sums are added over the devices before the ratio. The part that is returned has the value of
    the loss on the first device and 0 on the others, and on each the gradient that this device's
    pixels have in it: values and gradients of all devices add up to those of the whole batch.

    Args:
      logits: float32 [n h w k].
      label: integer [n h w], class id or IGNORE; another value makes the loss NaN.
      alpha: weight of false positives.
      beta: weight of false negatives.
      class_weights: k factors of the mean; empty: all 1.
      pixel_weights: float32 [n h w], factors in all sums; None: all 1.
      axis: mapped axis over which the batch is divided; None: it is not.
    """
    pixels.check(logits, label, class_weights)
    k = logits.shape[-1]
    truth, known = pixels.one_hot(label, k), pixels.is_class(label, k)
    weight = known.astype(jnp.float32)
    if pixel_weights is not None:
        weight = weight * pixel_weights
    p = jax.nn.softmax(logits, axis=-1) * weight[..., None]
    everywhere = (0, 1, 2)
    ours = jnp.stack(
        [
            jnp.sum(jnp.where(truth, p, 0.0), everywhere),
            jnp.sum(p, everywhere),
            jnp.sum(jnp.where(truth, weight[..., None], 0.0), everywhere),
        ]
    )
    weights = jnp.asarray(class_weights or (1.0,) * k, jnp.float32)

    def loss(sums):
        both, predicted, true = sums
        present = true > 0
        below = both + alpha * (predicted - both) + beta * (true - both)
        index = both / jnp.where(present, below, 1.0)
        factor = jnp.where(present, weights, 0.0)
        return jnp.sum(factor * (1.0 - index)) / jnp.maximum(jnp.sum(factor), 1e-30)

    whole = pixels.add(lax.stop_gradient(ours), axis)
    value, slope = jax.value_and_grad(loss)(whole)
    wrong = jnp.any(~known & (label.astype(jnp.int32) != IGNORE))
    part = pixels.on_first(value, axis) + jnp.sum(slope * (ours - lax.stop_gradient(ours)))
    return jnp.where(wrong, jnp.nan, part)


def lovasz(logits: jax.Array, label: jax.Array, *, class_weights: Sequence[Any] = ()) -> jax.Array:
    """Return the Lovász-softmax loss of every image, float32 [n] (Berman et al., CVPR 2018).

    Of each image by itself, mean over the classes that occur in its truth (their "per image" and
    "present"): so it is a sum over images, whatever device has them. An image without a valid pixel
    has no loss.

    Args:
      logits: float32 [n h w k].
      label: integer [n h w], class id or IGNORE; another value makes its image's loss NaN.
      class_weights: k factors of the mean; empty: all 1.
    """
    pixels.check(logits, label, class_weights)
    n, _, _, k = logits.shape
    truth = pixels.one_hot(label, k).reshape(n, -1, k)
    known = pixels.is_class(label, k).reshape(n, -1, 1)
    wrong = jnp.any(~known[..., 0] & (label.astype(jnp.int32) != IGNORE).reshape(n, -1), axis=1)
    p = jax.nn.softmax(logits, axis=-1).reshape(n, -1, k)
    error = jnp.where(known, jnp.abs(truth.astype(jnp.float32) - p), 0.0)
    # Void pixels go to the end, where their error of 0 counts nothing.
    order = jnp.argsort(-jnp.where(known, lax.stop_gradient(error), -1.0), axis=1)
    error = jnp.take_along_axis(error, order, axis=1)
    hit = jnp.take_along_axis(truth, order, axis=1).astype(jnp.float32)
    true = jnp.sum(hit, axis=1, keepdims=True)
    # Algorithm 1: the Jaccard loss of the first i pixels wrong, and its differences.
    jaccard = 1.0 - (true - jnp.cumsum(hit, 1)) / (true + jnp.cumsum(1.0 - hit, 1))
    slope = jnp.diff(jaccard, axis=1, prepend=0.0)
    by_class = jnp.sum(error * lax.stop_gradient(slope), axis=1)
    weights = jnp.asarray(class_weights or (1.0,) * k, jnp.float32)[None]
    factor = jnp.where(true[:, 0] > 0, weights, 0.0)
    loss = jnp.sum(factor * by_class, 1) / jnp.maximum(jnp.sum(factor, 1), 1e-30)
    return jnp.where(wrong, jnp.nan, loss)
