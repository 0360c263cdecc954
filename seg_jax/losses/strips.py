"""Losses of logits that are upsampled in strips of rows: a network's `nn.upsampled.Upsampled`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seg_jax.kernels import upsampled_logits
from seg_jax.nn.upsampled import Upsampled


class Head(NamedTuple):
    """What a head adds."""

    total: jax.Array  # float32 []: weighted sum of the losses, of images' means for "image_mean"
    count: jax.Array  # int32 []: valid pixels, or images
    correct: jax.Array  # int32 []: valid pixels that are right
    valid: jax.Array  # int32 []


def head(logits: Upsampled, label: jax.Array, given: Mapping[str, Any], config: Any) -> Head:
    """Return the sums of one head over this device's part of the batch.

    Args:
      logits: [n h w k], deferred.
      label: integer [n h w].
      given: "class_weights" and "pixel_weights" of `upsampled_logits.cross_entropy`.
      config: `losses.LossConfig`.

    Raises:
      ValueError: a loss that is no sum over single pixels.
    """
    if config.top_k < 1:
        raise ValueError(
            f"top_k {config.top_k} compares the pixels of the whole batch: with it, train.logits "
            'must be "whole"'
        )
    total: Any = None
    sums: Any = None
    for name, factor in config.sum_of:
        if name not in ("cross_entropy", "focal"):
            raise ValueError(
                f"loss {name} needs the whole logits: train.logits strips knows cross_entropy and "
                'focal, set it to "whole"'
            )
        sums = upsampled_logits.cross_entropy(
            logits.scores,
            logits.vertical,
            logits.horizontal,
            label,
            label_smoothing=config.label_smoothing,
            focal_gamma=config.focal_gamma if name == "focal" else 0.0,
            **given,
        )
        loss = sums.loss if factor == 1 else factor * sums.loss
        total = loss if total is None else total + loss
    count = jnp.sum(sums.valid)
    if config.reduction == "image_mean":
        total = total / jnp.maximum(sums.valid, 1).astype(jnp.float32)
        # Counted from the data, because the number of images differs between devices.
        count = jnp.sum(sums.valid >= 0, dtype=jnp.int32)
    return Head(jnp.sum(total), count, jnp.sum(sums.correct), jnp.sum(sums.valid))
