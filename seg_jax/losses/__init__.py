"""Losses as sums and counts, divided once after summing over all devices."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from seg_jax import checks, plugins
from seg_jax.kernels import upsampled_logits
from seg_jax.losses import pixels, regions, strips
from seg_jax.nn.upsampled import Upsampled
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
      name: "cross_entropy", "focal", "dice", "tversky", "lovasz", or a loss that a package of your
        own registers (`register`).
      terms: (name, weight) of several losses whose weighted sum is the loss, in place of `name`.
        Those of regions (dice, tversky, lovasz) weigh as much as the mean over the pixels of the
        others does: ("cross_entropy", 1), ("dice", 1).
      label_smoothing: share of the truth that is spread over all classes (cross_entropy, focal).
      focal_gamma: of "focal" (Lin et al., ICCV 2017): 1 or more.
      tversky: of "tversky": weights of false positives and of false negatives.
      top_k: share of the valid pixels of the batch, the hardest, that "cross_entropy" and "focal"
        learn from (DeepLab's top_k_percent_pixels, of valid pixels and of all devices together;
        with train.accumulate, of each micro-batch). 1: all.
      top_k_ramp: steps over which the share falls linearly from 1 to `top_k`.
    """

    reduction: Literal["mean", "image_mean", "sum"] = "mean"
    heads: tuple[tuple[str, float], ...] = (("out", 1.0),)
    label_grids: tuple[tuple[int, int], ...] = ()
    class_weights: tuple[float, ...] = ()
    name: str = "cross_entropy"
    terms: tuple[tuple[str, float], ...] = ()
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    tversky: tuple[float, float] = (0.3, 0.7)
    top_k: float = 1.0
    top_k_ramp: int = 0

    def __post_init__(self):
        for name, weight in self.sum_of:
            if name not in _BUILT_IN:
                _LOSSES.find(name)
            if not (0 <= weight < math.inf):
                raise ValueError(f"terms: {name} has weight {weight}: finite, and 0 or more")
        checks.fraction(label_smoothing=self.label_smoothing, top_k=self.top_k)
        checks.positive(top_k=self.top_k)
        checks.non_negative(top_k_ramp=self.top_k_ramp)
        if not 1 <= self.focal_gamma < math.inf:
            raise ValueError(f"focal_gamma must be 1 or more, got {self.focal_gamma}")
        if min(self.tversky) < 0 or not 0 < sum(self.tversky) < math.inf:
            raise ValueError(f"tversky {self.tversky}: two weights, 0 or more and not both 0")
        if self.top_k < 1 and (self.reduction == "image_mean" or not self._of_pixels):
            raise ValueError(
                f"top_k {self.top_k} chooses pixels of the whole batch for cross_entropy and "
                'focal: it needs one of them, and reduction="mean" or "sum"'
            )
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

    @property
    def sum_of(self) -> tuple[tuple[str, float], ...]:
        """The losses and their weights."""
        return self.terms or ((self.name, 1.0),)

    @property
    def _of_pixels(self) -> bool:
        return any(name in ("cross_entropy", "focal") for name, _ in self.sum_of)


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
    class_weights: Sequence[Any] = (),
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
    loss, valid = pixels.cross_entropy(
        logits, label, class_weights=class_weights, pixel_weights=pixel_weights
    )
    return jnp.sum(loss), jnp.sum(valid, dtype=jnp.int32)


_BUILT_IN = ("cross_entropy", "focal", "dice", "tversky", "lovasz")
# A loss sums over the valid pixels and counts what the sum is to be divided by, like
# `cross_entropy_sums`, whose arguments it takes.
Loss = Callable[..., tuple[jax.Array, jax.Array]]
_LOSSES: plugins.Registry[Loss] = plugins.Registry(
    "loss", dict.fromkeys(_BUILT_IN, cross_entropy_sums)
)


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
    outputs: Mapping[str, Any],
    label: jax.Array,
    config: LossConfig,
    *,
    numbers: Weights | None = None,
    pixel_weights: jax.Array | None = None,
    margin: int = 0,
    step: jax.Array | int = 0,
    axis: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Return the weighted sum of the heads' losses, float32 [], and its count, int32 [].

    The count is the number of valid pixels of a head, or of the hardest among them; with
    "image_mean", the number of images. Sums and counts of all devices, added, give the loss and the
    gradient of the whole batch.

    Args:
      outputs: logits float32 [n h-2m w-2m k] of every head, m = margin; where they are deferred
        (`nn.upsampled`), the loss is taken in strips.
      label: integer [n h w].
      config: heads, their weights and their pixels.
      numbers: read instead of the configuration's weights; perhaps traced.
      pixel_weights: float32 [n h w], or None.
      margin: pixels on every side that the model does not predict (U-Net's valid convolutions).
      step: updates done, for `top_k_ramp`.
      axis: mapped axis over which the batch is divided; None: it is not.
    """
    given = {"numbers": numbers, "pixel_weights": pixel_weights, "margin": margin}
    return _sums(outputs, label, config, step=step, axis=axis, **given)[:2]


def loss_and_correct(
    outputs: Mapping[str, Any], label: jax.Array, config: LossConfig, **options: Any
) -> tuple[jax.Array, jax.Array, tuple[jax.Array, jax.Array]]:
    """Return `loss_sums`, whose arguments it takes, and `correct_pixels` of the first head.

    Deferred logits are upsampled once for both, unless the loss is at some of the pixels only.
    """
    total, count, pixels_of_head = _sums(outputs, label, config, **options)
    if pixels_of_head is None:
        head, margin = config.heads[0][0], options.get("margin", 0)
        pixels_of_head = correct_pixels(outputs, label, head=head, margin=margin)
    return total, count, pixels_of_head


def _sums(
    outputs, label, config, *, numbers=None, pixel_weights=None, margin=0, step: Any = 0, axis=None
) -> tuple[jax.Array, jax.Array, tuple[jax.Array, jax.Array] | None]:
    """Return `loss_sums`, and the correct and valid pixels of the first head if it is deferred and
    has its loss at every pixel.
    """
    checks.heads(outputs)
    label = crop_border(label, margin)
    if pixel_weights is not None:
        pixel_weights = crop_border(pixel_weights, margin)
    numbers = weights(config) if numbers is None else numbers
    total = jnp.float32(0.0)
    count: Any = None
    correct = None
    grids = config.label_grids or ((0, 1),) * len(config.heads)
    for (name, _), weight, (first, every) in zip(config.heads, numbers.heads, grids, strict=True):
        if name not in outputs:
            raise ValueError(f"loss.heads: {checks.unknown(name, outputs)}")
        logits = outputs[name]
        checks.logits_shape(logits, label)
        at = (slice(None), slice(first, None, every), slice(first, None, every))
        factors = None if pixel_weights is None else pixel_weights[at]
        given = {"class_weights": numbers.classes, "pixel_weights": factors}
        if isinstance(logits, Upsampled):
            found = strips.head(logits.at(*at[1:]), label[at], given, config)
            if count is None and every == 1 and not first:
                correct = found.correct, found.valid
            head, valid = found.total, found.count
        else:
            head, valid = _reduce(logits[at], label[at], given, config, step, axis)
        total = total + weight * head
        count = valid if count is None else count
    return total, count, correct


def _reduce(
    logits: jax.Array,
    label: jax.Array,
    given: Mapping[str, Any],
    config: LossConfig,
    step: jax.Array | int,
    axis: str | None,
) -> tuple[jax.Array, jax.Array]:
    """Return the sum and the count of one head; `given`: weights of classes and pixels."""
    if config.reduction != "image_mean":
        total, count, of_regions = _terms(logits, label, given, config, step, axis)
        if of_regions is None:
            return total, count
        # The sum is divided by the count later: a region's loss is of the batch, not of a pixel.
        whole = pixels.add(count, axis).astype(jnp.float32)
        return total + whole * of_regions, count

    def image_mean(logits, label, factors):
        logits, label, factors = jax.tree.map(lambda x: x[None], (logits, label, factors))
        own = {**given, "pixel_weights": factors}
        total, valid, of_regions = _terms(logits, label, own, config, step, None)
        mean = total / jnp.maximum(valid, 1).astype(jnp.float32)
        return mean if of_regions is None else mean + of_regions, valid

    means, valid = jax.vmap(image_mean)(logits, label, given["pixel_weights"])
    # All images count, also those without valid pixels. Counted from the data, because the number
    # of images differs between devices.
    return jnp.sum(means), jnp.sum(valid >= 0, dtype=jnp.int32)


def _terms(
    logits: jax.Array,
    label: jax.Array,
    given: Mapping[str, Any],
    config: LossConfig,
    step: jax.Array | int,
    axis: str | None,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Return the weighted sum of the losses of pixels, its count, and the weighted sum of the
    losses of regions (None: there are none).
    """
    total, of_regions = jnp.float32(0.0), None
    count = jnp.sum(label.astype(jnp.int32) != IGNORE, dtype=jnp.int32)
    pixel_loss = None
    for name, factor in config.sum_of:
        if name in ("cross_entropy", "focal"):
            gamma = config.focal_gamma if name == "focal" else 0.0
            loss, _ = pixels.cross_entropy(
                logits, label, **given, label_smoothing=config.label_smoothing, focal_gamma=gamma
            )
            loss = loss if factor == 1 else factor * loss
            pixel_loss = loss if pixel_loss is None else pixel_loss + loss
        elif name in _BUILT_IN:
            region = factor * _region(name, logits, label, config, given, axis)
            of_regions = region if of_regions is None else of_regions + region
        else:
            own, count = _LOSSES.find(name)(logits, label, **given)
            total = total + factor * own
    if pixel_loss is not None and config.top_k < 1:
        valid = label.astype(jnp.int32) != IGNORE
        share = _share(config, step)
        chosen, count = pixels.hardest(pixel_loss, valid, share=share, axis=axis)
        total = total + chosen
    elif pixel_loss is not None:
        total = total + jnp.sum(pixel_loss)
    return total, count, of_regions


def _region(
    name: str,
    logits: jax.Array,
    label: jax.Array,
    config: LossConfig,
    given: Mapping[str, Any],
    axis: str | None,
) -> jax.Array:
    """Return this device's part of a loss of regions."""
    if name == "lovasz":
        if given["pixel_weights"] is not None:
            raise ValueError("loss lovasz knows no weights of pixels: set data.weight_map to none")
        by_image = regions.lovasz(logits, label, class_weights=given["class_weights"])
        # Counted from the data, so that the count is of all devices.
        images = jnp.sum(label[:, 0, 0].astype(jnp.int32) >= -1, dtype=jnp.int32)
        return jnp.sum(by_image) / pixels.add(images, axis).astype(jnp.float32)
    alpha, beta = config.tversky if name == "tversky" else (0.5, 0.5)
    return regions.tversky(logits, label, alpha=alpha, beta=beta, axis=axis, **given)


def _share(config: LossConfig, step: jax.Array | int) -> jax.Array:
    """Return the share of the hardest pixels at a step, float32 []."""
    if not config.top_k_ramp:
        return jnp.float32(config.top_k)
    done = jnp.minimum(jnp.asarray(step).astype(jnp.float32) / config.top_k_ramp, 1.0)
    return 1.0 - done * jnp.float32(1.0 - config.top_k)


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
    logits, valid = outputs[head], label != IGNORE
    if isinstance(logits, Upsampled):
        prediction = upsampled_logits.labels(logits.scores, logits.vertical, logits.horizontal)
    else:
        prediction = jnp.argmax(logits, axis=-1)
    prediction = prediction.astype(jnp.int32)
    correct = (prediction == label) & valid
    return jnp.sum(correct, dtype=jnp.int32), jnp.sum(valid, dtype=jnp.int32)
