"""`upsampled_logits.cross_entropy` as a Pallas kernel for TPUs (Mosaic). Compiled and interpreted;
it has not run on a TPU.

    from seg_jax.kernels import upsampled_loss_tpu
    loss, valid, correct = upsampled_loss_tpu.cross_entropy(scores, rows, columns, label)

One program per image and interval between two rows of scores: it reads the two rows, interpolated
along the columns, and the labels between them, and takes value and gradient of 128 pixels of a row
at a time in registers: pixels on lanes, classes on sublanes. What plain JAX reads from vector
memory once for each of four reductions is read once. The interpolation along the columns, [n h k
W], and its transpose are XLA's.

docs/accelerators.md has what it costs. Tested in Pallas' interpreter for TPU kernels.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from seg_jax.kernels import row_strips, upsampled_logits
from seg_jax.kernels.row_strips import RowStrips
from seg_jax.kernels.upsampled_logits import Sums
from seg_jax.nn import lowering
from seg_jax.types import IGNORE

Array = jax.Array
_LANES = 128
_SUMS = 3  # loss, valid and correct pixels


def cross_entropy(
    scores: Array,
    vertical: np.ndarray,
    horizontal: np.ndarray,
    label: Any,
    *,
    class_weights: Sequence[Any] | Array = (),
    pixel_weights: Array | None = None,
    label_smoothing: float = 0.0,
    interpret: Any = False,
) -> Sums:
    """Return `upsampled_logits.cross_entropy`, whose arguments these are, without the focal loss.

    Args:
      scores: float32 [n h w k].
      vertical: interpolation matrix of the rows [H h].
      horizontal: of the columns [W w].
      label: integer [n H W].
      class_weights: k factors, perhaps traced; empty: all 1.
      pixel_weights: float32 [n H W], or None: all 1.
      label_smoothing: share of the truth that is spread over all classes.
      interpret: False: compile it; `pltpu.InterpretParams`: interpret it.

    Raises:
      NotImplementedError: the platform that is compiled for is not a TPU.
    """
    if lowering.platform() != "tpu" and not interpret:
        raise NotImplementedError(
            f"upsampled_loss_tpu is a kernel for TPUs and this is {lowering.platform()}; "
            "upsampled_logits.cross_entropy has the same sums in plain JAX"
        )
    strips = RowStrips.of(scores, vertical, horizontal)
    padded = np.zeros((-(-len(horizontal) // _LANES) * _LANES, horizontal.shape[1]))
    padded[: len(horizontal)] = horizontal
    run = functools.partial(
        _run, strips=strips, horizontal=padded, smoothing=label_smoothing, interpret=interpret
    )
    upsampled_logits.check(scores, vertical, horizontal, label)
    return upsampled_logits.differentiable(run)(scores, label, class_weights, pixel_weights)


def _run(scores, label, weights, factors, *, gradient, strips, horizontal, smoothing, interpret):
    """Return `Sums` and, if wanted, the gradient [n h w k]."""
    n, _, _, k = scores.shape
    width = len(horizontal)
    f = strips.rows.shape[-1]
    wide = row_strips.widen(jnp.take(scores, strips.neighbours, axis=1), horizontal)
    intervals = wide.shape[1] - 1

    def cut(x, fill):  # [n H W] -> [n intervals f width]
        x = jnp.pad(x, ((0, 0), (0, 0), (0, width - x.shape[2])), constant_values=fill)
        return jnp.moveaxis(strips.cut(x, fill), 0, 1).reshape(n, intervals, f, width)

    per_row = pl.BlockSpec((None, 1, f), lambda _, j: (j, 0, 0), memory_space=pltpu.SMEM)
    upper = pl.BlockSpec((None, None, k, width), lambda i, j: (i, j, 0, 0))
    lower = pl.BlockSpec((None, None, k, width), lambda i, j: (i, j + 1, 0, 0))
    pixels = pl.BlockSpec((None, None, f, width), lambda i, j: (i, j, 0, 0))
    above, below = (x.reshape(intervals, 1, f) for x in (strips.above, strips.below))
    inputs = [above, below, wide, wide, cut(label.astype(jnp.int32), IGNORE)]
    specs = [per_row, per_row, upper, lower, pixels]
    if factors is not None:
        inputs, specs = [*inputs, cut(factors, 0)], [*specs, pixels]
    if weights is not None:
        inputs.append(jnp.broadcast_to(weights[:, None], (k, _LANES)))
        specs.append(pl.BlockSpec((k, _LANES), lambda i, j: (0, 0)))
    shapes = [jax.ShapeDtypeStruct((n, intervals, _SUMS, width), jnp.float32)]
    out_specs = [pl.BlockSpec((None, None, _SUMS, width), lambda i, j: (i, j, 0, 0))]
    if gradient:
        shapes += [jax.ShapeDtypeStruct((n, intervals, k, width), jnp.float32)] * 2
        out_specs += [upper] * 2
    found, *slopes = pl.pallas_call(
        functools.partial(
            _kernel,
            smoothing=smoothing,
            by_pixel=factors is not None,
            by_class=weights is not None,
            gradient=gradient,
        ),
        out_shape=shapes,
        grid=(n, intervals),
        in_specs=specs,
        out_specs=out_specs,
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        interpret=interpret,
        name="upsampled_loss",
    )(*inputs)
    loss, *counts = (jnp.sum(found[:, :, i], (1, 2)) for i in range(_SUMS))
    sums = Sums(loss, *(count.astype(jnp.int32) for count in counts))
    return sums, _gradient(slopes, strips, horizontal) if gradient else None


def _gradient(slopes, strips, horizontal):
    """Return the gradient [n h w k] for those of the rows above and below each interval."""
    wide = row_strips.meet(*slopes)
    return strips.spread(row_strips.narrow(wide, horizontal), strips.neighbours)


def _kernel(above, below, upper, lower, label, *rest, smoothing, by_pixel, by_class, gradient):
    rest = list(rest)
    factors = rest.pop(0) if by_pixel else None
    weights = rest.pop(0) if by_class else None
    found, *slopes = rest
    (k, width), f = upper.shape, label.shape[0]
    classes = lax.broadcasted_iota(jnp.int32, (k, _LANES), 0)

    def of_tile(tile, _):
        lanes = pl.ds(pl.multiple_of(tile * _LANES, _LANES), _LANES)
        high, low = upper[:, lanes], lower[:, lanes]

        def of_row(row, sums):
            a, b = above[0, row], below[0, row]
            own = slice(row, row + 1)
            y = label[own, lanes]
            logits = a * high + b * low
            highest = jnp.max(logits, axis=0, keepdims=True)
            powers = jnp.exp(logits - highest)
            total = jnp.sum(powers, axis=0, keepdims=True)
            truth = classes == y
            picked = jnp.sum(jnp.where(truth, logits, 0.0), axis=0, keepdims=True)
            if smoothing:
                mean = jnp.sum(logits, axis=0, keepdims=True) / k
                picked = (1 - smoothing) * picked + smoothing * mean
            # In float32: Mosaic reduces no integers.
            ids = jnp.where(logits == highest, classes.astype(jnp.float32), float(k))
            first = jnp.min(ids, axis=0, keepdims=True)
            loss = highest + jnp.log(total) - picked
            weight = jnp.ones_like(loss)
            if factors is not None:
                weight = factors[own, lanes]
            if weights is not None:
                chosen = jnp.where(truth, weights[...], 0.0)
                weight = weight * jnp.sum(chosen, axis=0, keepdims=True)
            valid, known = y != IGNORE, (y >= 0) & (y < k)
            loss = jnp.where(valid, jnp.where(known, weight * loss, jnp.nan), 0.0)
            right = valid & (first == y.astype(jnp.float32))
            ones = [jnp.where(each, 1.0, 0.0) for each in (valid, right)]
            new = [x + y for x, y in zip(sums[:_SUMS], (loss, *ones), strict=True)]
            if gradient:
                factor = jnp.where(valid & known, weight, 0.0)
                share = powers * (factor / total)
                slope = share - jnp.where(truth, (1.0 - smoothing) * factor, 0.0)
                if smoothing:
                    slope -= factor * (smoothing / k)
                new += [sums[_SUMS] + a * slope, sums[_SUMS + 1] + b * slope]
            return tuple(new)

        zeros = [jnp.zeros((1, _LANES), jnp.float32)] * _SUMS
        zeros += [jnp.zeros((k, _LANES), jnp.float32)] * len(slopes)
        sums = tuple(zeros)
        for row in range(f):  # unrolled: Mosaic loads no row whose number it does not know
            sums = of_row(row, sums)
        for place, one in enumerate(sums[:_SUMS]):
            found[place : place + 1, lanes] = one
        for out, one in zip(slopes, sums[_SUMS:], strict=True):
            out[:, lanes] = one
        return 0

    lax.fori_loop(0, width // _LANES, of_tile, 0)
