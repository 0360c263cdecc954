"""Cross-entropy, labels and confusion counts of bilinearly upsampled scores, in strips of rows.

    from seg_jax.kernels import upsampled_logits
    from seg_jax.nn.resize import half_pixel_matrix
    rows = columns = half_pixel_matrix(65, 513)
    loss, valid, correct = upsampled_logits.cross_entropy(scores, rows, columns, label)

The logits at the image's size, [n H W k], are never held: scores [n h w k] are interpolated, read
and forgotten for the rows between some neighbouring rows of scores at a time, with classes before
columns, so that the columns lie on a TPU's lanes and a CPU's vectors. Plain JAX, any platform.

Between two rows of scores the interpolation along the columns is one product of each, and a row of
logits a weighted sum of two rows: h/H of the products of a resize by matrices. The gradient is
taken with the value, in the same pass, and is [n h w k]; there are no scatters, so that it has the
same bits on every run.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seg_jax.kernels import row_strips
from seg_jax.kernels.row_strips import RowStrips
from seg_jax.nn import lowering
from seg_jax.types import IGNORE

Array = jax.Array


class Sums(NamedTuple):
    """Sums over the pixels of each image."""

    loss: Array  # float32 [n]
    valid: Array  # int32 [n]: pixels whose label is not IGNORE
    correct: Array  # int32 [n]: of these, the ones whose highest logit is that of the label


def cross_entropy(
    scores: Array,
    vertical: np.ndarray,
    horizontal: np.ndarray,
    label: Any,
    *,
    class_weights: Sequence[Any] | Array = (),
    pixel_weights: Array | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
) -> Sums:
    """Return the sums of `losses.pixels.cross_entropy` of upsampled scores, and their accuracy.

    Equal to upsampling first within float32 rounding (1e-6). Differentiable in `scores` only.
    Holds, beside its arguments, the logits of one strip and, for the gradient, [n h w k].

    Args:
      scores: float32 [n h w k].
      vertical: interpolation matrix of the rows [H h], a constant; at most two neighbouring entries
        of a row are not zero, as in those of `nn.resize`.
      horizontal: of the columns [W w], any constant.
      label: integer [n H W], class id in [0, k) or IGNORE; another value makes its image's loss
        NaN.
      class_weights: k factors, perhaps traced; empty: all 1.
      pixel_weights: float32 [n H W], or None: all 1.
      label_smoothing: share of the truth that is spread over all classes.
      focal_gamma: exponent of the focal loss; 0: cross-entropy.
    """
    strips = RowStrips.of(scores, vertical, horizontal)
    of_pixels = _Loss(label_smoothing, focal_gamma)

    def run(scores, label, weights, factors, *, gradient):
        def strip(window, above, below, label, factors):
            wide = row_strips.widen(window, horizontal)
            logits = row_strips.interpolate(wide, above, below)
            sums, slope = of_pixels(logits, label, weights, factors, gradient=gradient)
            if slope is not None:
                slope = row_strips.back(slope, above, below, horizontal)
            return sums, slope

        sums, parts = strips.map(strip, scores, (label, IGNORE), (factors, 0))
        sums = Sums(*(jnp.sum(part, 0) for part in sums))
        return sums, strips.add_up(parts) if gradient else None

    check(scores, vertical, horizontal, label)
    return differentiable(run)(scores, label, class_weights, pixel_weights)


def differentiable(run: Callable[..., tuple[Sums, Array | None]]) -> Callable[..., Sums]:
    """Return (scores, label, class_weights, pixel_weights) -> Sums, differentiable in the scores.

    Args:
      run: (scores, label, weights [k] or None, factors [n H W] or None, gradient=bool) -> Sums, and
        where it is asked for the gradient [n h w k] of each image's loss in its own scores.
    """

    @jax.custom_vjp
    def sums(scores, label, weights, factors):
        return run(scores, label, weights, factors, gradient=False)[0]

    def forward(*args):
        if any(leaf.perturbed for leaf in jax.tree.leaves(args[2:], is_leaf=_is_primal)):
            raise ValueError("weights of classes and pixels have no gradient here")
        return run(*jax.tree.map(lambda leaf: leaf.value, args, is_leaf=_is_primal), gradient=True)

    def backward(gradient, cotangents):
        of_loss: Any = cotangents.loss
        if isinstance(of_loss, jax.custom_derivatives.SymbolicZero):  # nothing depends on it
            of_loss = jnp.zeros(of_loss.shape, jnp.float32)
        return of_loss[:, None, None, None] * gradient, None, None, None

    sums.defvjp(forward, backward, symbolic_zeros=True)

    def checked(scores, label, class_weights, pixel_weights):
        k, count = scores.shape[-1], len(class_weights)
        if count not in (0, k):
            raise ValueError(f"class_weights has {count} entries, the scores {k} classes")
        weights = jnp.asarray(class_weights, jnp.float32) if count else None
        return sums(scores, _integers(label), weights, pixel_weights)

    return checked


def labels(scores: Array, vertical: np.ndarray, horizontal: np.ndarray) -> Array:
    """Return the class of the highest upsampled score, uint8 [n H W]; int32 above 256 classes.

    As an argmax of the upsampled scores: the first of equal ones. Where two logits differ by
    rounding only, so may the label. Holds the logits of one strip.

    Args:
      scores: float32 [n h w k].
      vertical: interpolation matrix of the rows [H h], as of `cross_entropy`.
      horizontal: of the columns [W w].
    """
    return _classify(scores, vertical, horizontal, None)[0]


def confusion(
    scores: Array, vertical: np.ndarray, horizontal: np.ndarray, label: Any
) -> tuple[Array, Array]:
    """Return `labels` and how often each occurs with each true class.

    Args:
      scores: float32 [n h w k].
      vertical: interpolation matrix of the rows [H h], as of `cross_entropy`.
      horizontal: of the columns [W w].
      label: integer [n H W], class id or IGNORE; one outside [0, k) is counted nowhere.

    Returns:
      uint8 [n H W], and int32 [k k]; row: truth, column: prediction, as `metrics.confusion`.
    """
    check(scores, vertical, horizontal, label)
    found, counts = _classify(scores, vertical, horizontal, _integers(label))
    return found, jnp.sum(counts, (0, 1))


def _classify(scores, vertical, horizontal, label):
    strips = RowStrips.of(scores, vertical, horizontal)
    k = scores.shape[-1]
    dtype = jnp.uint8 if k <= 256 else jnp.int32

    def strip(window, above, below, label):
        logits = row_strips.interpolate(row_strips.widen(window, horizontal), above, below)
        found = _first_highest(logits, jnp.max(logits, axis=3))
        return found.astype(dtype), None if label is None else _count(label, found, k)

    found, counts = strips.map(strip, scores, (label, IGNORE))
    return strips.merge(found), counts


def check(scores: Array, vertical: np.ndarray, horizontal: np.ndarray, label: Any) -> None:
    """Raise ValueError unless a label fits the upsampled scores."""
    wanted = (scores.shape[0], len(vertical), len(horizontal))
    if label.shape != wanted:
        raise ValueError(f"label {label.shape} is not {wanted}, the upsampled scores' [n H W]")


def _integers(label: Any) -> Array:
    return jnp.asarray(label) if label.dtype == jnp.uint8 else jnp.asarray(label, jnp.int32)


def _is_primal(leaf: Any) -> bool:
    return isinstance(leaf, jax.custom_derivatives.CustomVJPPrimal)


@dataclasses.dataclass(frozen=True)
class _Loss:
    """The losses of the pixels of a strip and their gradient: `losses.pixels.cross_entropy`."""

    smoothing: float
    gamma: float

    def __call__(self, logits, label, class_weights, pixel_weights, *, gradient):
        """Return the sums of float32 [n g f k W], and the gradient [n g f k W] or None."""
        k = logits.shape[3]
        label = label.astype(jnp.int32)
        valid, known = label != IGNORE, (label >= 0) & (label < k)
        truth = label[:, :, :, None] == _classes(k)
        highest = jnp.max(logits, axis=3)
        total = jnp.sum(jnp.exp(logits - highest[:, :, :, None]), axis=3)
        normaliser = highest + jnp.log(total)
        picked = jnp.sum(jnp.where(truth, logits, 0.0), axis=3)
        if self.smoothing:
            mean = jnp.mean(logits, axis=3)
            picked = (1 - self.smoothing) * picked + self.smoothing * mean
        weight = jnp.ones_like(picked) if pixel_weights is None else pixel_weights
        if class_weights is not None:
            weight *= jnp.sum(
                jnp.where(truth, class_weights[None, None, None, :, None], 0.0), axis=3
            )
        loss, back = jax.vjp(lambda ce: weight * focal(ce, self.gamma), normaliser - picked)
        loss = jnp.where(valid, jnp.where(known, loss, jnp.nan), 0.0)
        correct = valid & (_first_highest(logits, highest) == label)
        sums = tuple(
            jnp.sum(part, (1, 2, 3), dtype=dtype)
            for part, dtype in ((loss, jnp.float32), (valid, jnp.int32), (correct, jnp.int32))
        )
        if not gradient:
            return sums, None
        (factor,) = back(jnp.where(valid & known, 1.0, 0.0))
        share = jnp.exp(logits - normaliser[:, :, :, None])
        target = jnp.where(truth, 1.0 - self.smoothing, 0.0) + self.smoothing / k
        return sums, factor[:, :, :, None] * (share - target)


def focal(loss: Array, gamma: float) -> Array:
    """Return the focal loss of a cross-entropy ce: (1 - exp(-ce))^gamma ce; gamma 0: ce.

    Lin et al., ICCV 2017, Eq. 4.
    """
    if not gamma:
        return loss
    # Without cancellation; rounding may leave ce a little below 0.
    return (-jnp.expm1(-jnp.maximum(loss, 0.0))) ** gamma * loss


def _classes(k: int) -> Array:
    """Return the class ids along the axis k of [n g f k W]."""
    return jnp.arange(k, dtype=jnp.int32)[None, None, None, :, None]


def _first_highest(logits: Array, highest: Array) -> Array:
    """Return the argmax over the classes of [n g f k W], given the maximum: NaN counts as it."""
    k = logits.shape[3]
    at = (logits == highest[:, :, :, None]) | (logits != logits)
    return jnp.min(jnp.where(at, _classes(k), k), axis=3)


def _count(label: Array, found: Array, k: int) -> Array:
    """Return the confusion counts of every image of a strip [n g f W], int32 [n k k]."""
    label, n = label.astype(jnp.int32), len(label)
    if lowering.platform() != "cpu":  # a scatter is slow there; sums below 2^24 are exact
        truth, predicted = (
            (x[:, :, :, None] == _classes(k)).astype(jnp.bfloat16) for x in (label, found)
        )
        counts = jnp.einsum(
            "ngfiW,ngfjW->nij", truth, predicted, preferred_element_type=jnp.float32
        )
        return counts.astype(jnp.int32)
    image = jnp.arange(n, dtype=jnp.int32)[:, None, None, None]
    pair = (image * k + label) * k + found
    pair = jnp.where((label >= 0) & (label < k), pair, n * k * k)
    return jnp.bincount(pair.ravel(), length=n * k * k + 1)[:-1].reshape(n, k, k)
