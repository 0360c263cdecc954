"""Track the input pixels that each element of an intermediate depends on: rules by JAX primitive.

A *bound* is an int32 array that holds, for each element of a tensor, the smallest index along one
image axis that it depends on; on negated indices the same rules give the largest. So every rule
needs one operation only: the union of two dependencies is their minimum. A bound has the tensor's
rank, and length 1 along every axis on which it does not vary: [1 h 1 1] for the rows of an image.

The rules are exact for the operations of networks, with two exceptions that can only enlarge a
result at an image's border: padding and windows are not tracked along an axis on which the bound
does not vary, and all taps of a convolution count, also those of weight 0.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

NOTHING = np.int32(2**30)  # depends on no pixel: the neutral element of the minimum
# An interpolation weight below this share of the largest one is a rounding error of its position.
_ROUNDING = 1e-6

Bound = np.ndarray
# rule(equation, bound of each operand or None, value of operand i or None) -> bound of the result
Rule = Callable[[Any, Sequence[Bound | None], Callable[[int], np.ndarray | None]], Bound]
RULES: dict[str, Rule] = {}

ELEMENTWISE = frozenset(
    "abs add add_any and atan2 cbrt ceil clamp convert_element_type copy copy_p cos cosh div eq "
    "erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le log log1p logistic lt "
    "max min mul ne neg nextafter not or pow real reduce_precision rem round rsqrt select_n "
    "shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square "
    "stop_gradient sub tan tanh xor".split()
)


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return add


def image_bounds(shape: tuple[int, ...]) -> tuple[Bound, ...]:
    """Return the four bounds of an image [n h w c] on itself.

    They are: first row, minus the last row, first column, minus the last column.
    """
    row = np.arange(shape[1], dtype=np.int32).reshape(1, -1, 1, 1)
    column = np.arange(shape[2], dtype=np.int32).reshape(1, 1, -1, 1)
    return row, -row, column, -column


def collapse(bounds: Sequence[Bound | None], rank: int) -> Bound:
    """Return the bound of a result whose elements may all depend on all operands."""
    low = min(bound.min() for bound in bounds if bound is not None)
    return np.full((1,) * rank, low, np.int32)


def union(bounds: Sequence[Bound | None], rank: int) -> Bound:
    """Return the bound of an elementwise result; scalars are broadcast."""
    result = np.full((1,) * rank, NOTHING)
    for bound in bounds:
        if bound is not None:
            bound = bound.reshape((1,) * rank) if bound.ndim == 0 else bound
            result = np.minimum(result, bound)
    return result


def compress(bound: Bound) -> Bound:
    """Reduce every axis along which the bound is constant to length 1."""
    for axis, size in enumerate(bound.shape):
        if size > 1:
            first = bound.take([0], axis)
            if (bound == first).all():
                bound = first
    return bound


@_rule(*ELEMENTWISE)
def _elementwise(eqn, bounds, constant):
    return union(bounds, len(eqn.outvars[0].aval.shape))


@_rule("broadcast_in_dim")
def _broadcast_in_dim(eqn, bounds, constant):
    shape = [1] * len(eqn.params["shape"])
    for axis, size in zip(eqn.params["broadcast_dimensions"], bounds[0].shape, strict=True):
        shape[axis] = size
    return bounds[0].reshape(shape)


@_rule("reshape")
def _reshape(eqn, bounds, constant):
    return regroup(bounds[0], eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape)


def regroup(bound: Bound, old: tuple[int, ...], new: tuple[int, ...]) -> Bound:
    """Reshape a bound as its tensor, from `old` to `new`; broadcast it only where axes mix."""
    spread, shape = [], []
    i = j = 0
    while i < len(old) or j < len(new):
        start, left, right = (i, j), 1, 1
        while i == start[0] and j == start[1] or left != right:
            if j >= len(new) or (i < len(old) and left <= right):
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        # Axes old[start:i] and new[start:j] hold the same elements: the smallest such groups.
        varies = any(size > 1 for size in bound.shape[start[0] : i])
        spread += old[start[0] : i] if varies else [1] * (i - start[0])
        shape += new[start[1] : j] if varies else [1] * (j - start[1])
    return compress(np.broadcast_to(bound, spread).reshape(shape))


@_rule("squeeze")
def _squeeze(eqn, bounds, constant):
    return bounds[0].squeeze(tuple(eqn.params["dimensions"]))


@_rule("transpose")
def _transpose(eqn, bounds, constant):
    return bounds[0].transpose(eqn.params["permutation"])


@_rule("rev")
def _rev(eqn, bounds, constant):
    return np.flip(bounds[0], eqn.params["dimensions"])


@_rule("slice")
def _slice(eqn, bounds, constant):
    start, limit = eqn.params["start_indices"], eqn.params["limit_indices"]
    return _cut(bounds[0], start, limit, eqn.params["strides"] or (1,) * len(start))


def _cut(bound, start, limit, strides):
    return bound[
        tuple(
            slice(None) if size == 1 else slice(low, high, step)
            for size, low, high, step in zip(bound.shape, start, limit, strides, strict=True)
        )
    ]


@_rule("dynamic_slice")
def _dynamic_slice(eqn, bounds, constant):
    starts = [constant(i) for i in range(1, len(eqn.invars))]
    if any(start is None for start in starts):
        raise NotImplementedError("dynamic_slice at a place that depends on the image or weights")
    shape, sizes = eqn.invars[0].aval.shape, eqn.params["slice_sizes"]
    low = [int(np.clip(start, 0, n - k)) for start, n, k in zip(starts, shape, sizes, strict=True)]
    high = [start + k for start, k in zip(low, sizes, strict=True)]
    return _cut(bounds[0], low, high, (1,) * len(sizes))


@_rule("pad")
def _pad(eqn, bounds, constant):
    bound, filling = bounds
    if bound is None:
        return collapse(bounds, len(eqn.outvars[0].aval.shape))
    for axis, (low, high, interior) in enumerate(eqn.params["padding_config"]):
        size = bound.shape[axis]
        if size > 1:
            length = low + high + size + (size - 1) * interior
            index = np.arange(length) - low
            bound = _pick(bound, axis, index, interior + 1)
    return bound if filling is None else np.minimum(bound, filling.min())


def _pick(bound, axis, index, spacing):
    """Take elements index / spacing of an axis; NOTHING where there is no such element."""
    size = bound.shape[axis]
    inside = (index >= 0) & (index <= (size - 1) * spacing) & (index % spacing == 0)
    taken = bound.take(np.clip(index // spacing, 0, size - 1), axis)
    shape = [-1 if a == axis else 1 for a in range(bound.ndim)]
    return np.where(inside.reshape(shape), taken, NOTHING)


@_rule("concatenate")
def _concatenate(eqn, bounds, constant):
    axis, rank = eqn.params["dimension"], len(eqn.outvars[0].aval.shape)
    parts = []
    for var, bound in zip(eqn.invars, bounds, strict=True):
        bound = np.full((1,) * rank, NOTHING) if bound is None else bound
        parts.append((bound, var.aval.shape[axis]))
    others = np.broadcast_shapes(
        *(tuple(1 if a == axis else n for a, n in enumerate(bound.shape)) for bound, _ in parts)
    )
    spread = [
        np.broadcast_to(bound, [size if a == axis else n for a, n in enumerate(others)])
        for bound, size in parts
    ]
    return compress(np.concatenate(spread, axis))


@_rule("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or",
       "argmax", "argmin")  # fmt: skip
def _reduce(eqn, bounds, constant):
    return bounds[0].min(tuple(eqn.params["axes"]))


@_rule("reduce_window_sum", "reduce_window_max", "reduce_window_min")
def _reduce_window(eqn, bounds, constant):
    bound = bounds[0]
    p = eqn.params
    for axis, window in enumerate(p["window_dimensions"]):
        bound = slide(
            bound,
            axis,
            outputs=eqn.outvars[0].aval.shape[axis],
            window=window,
            stride=p["window_strides"][axis],
            padding=p["padding"][axis][0],
            rate=p["window_dilation"][axis],
            spacing=p["base_dilation"][axis],
        )
    return bound


def slide(
    bound: Bound, axis: int, *, outputs: int, window: int, stride: int, padding: int, rate: int,
    spacing: int,
) -> Bound:  # fmt: skip
    """Return the bound after a sliding window along an axis whose elements are `spacing` apart."""
    if bound.shape[axis] == 1:
        return bound
    result = None
    for tap in range(window):
        taken = _pick(bound, axis, np.arange(outputs) * stride - padding + tap * rate, spacing)
        result = taken if result is None else np.minimum(result, taken)
    assert result is not None  # a window has a tap
    return result


@_rule("conv_general_dilated")
def _conv(eqn, bounds, constant):
    bound, kernel = bounds
    p = eqn.params
    if kernel is not None or bound is None or p["batch_group_count"] != 1:
        raise NotImplementedError("a convolution whose kernel depends on the image")
    numbers = p["dimension_numbers"]
    bound = bound.transpose(numbers.lhs_spec)  # batch, feature, spatial axes
    kernel_shape = [eqn.invars[1].aval.shape[axis] for axis in numbers.rhs_spec]
    out_shape = [eqn.outvars[0].aval.shape[axis] for axis in numbers.out_spec]
    bound = _mix_channels(bound, p["feature_group_count"], out_shape[1])
    for axis, window in enumerate(kernel_shape[2:]):
        bound = slide(
            bound,
            axis + 2,
            outputs=out_shape[axis + 2],
            window=window,
            stride=p["window_strides"][axis],
            padding=p["padding"][axis][0],
            rate=p["rhs_dilation"][axis],
            spacing=p["lhs_dilation"][axis],
        )
    return bound.transpose(np.argsort(numbers.out_spec))


def _mix_channels(bound, groups, features):
    """Mix channel axis 1: every output channel depends on all input channels of its group."""
    if bound.shape[1] == 1:
        return bound
    batch, channels, *spatial = bound.shape
    grouped = bound.reshape(batch, groups, channels // groups, *spatial).min(2)
    return compress(grouped.repeat(features // groups, axis=1))


@_rule("dot_general")
def _dot_general(eqn, bounds, constant):
    contract, batch = eqn.params["dimension_numbers"]
    ranks = [len(var.aval.shape) for var in eqn.invars]
    free = [
        [axis for axis in range(ranks[side]) if axis not in (*contract[side], *batch[side])]
        for side in (0, 1)
    ]
    result = None
    for side, bound in enumerate(bounds):
        if bound is None:
            continue
        matrix = constant(1 - side) if bounds[1 - side] is None and not batch[0] else None
        order = (*batch[side], *free[side], *contract[side])
        bound = bound.transpose(order)
        fixed = bound.ndim - len(contract[side])
        if matrix is None:
            mixed = bound.min(tuple(range(fixed, bound.ndim)))
            shape = (*mixed.shape, *(1 for _ in free[1 - side]))
        else:
            matrix = matrix.transpose((*contract[1 - side], *free[1 - side]))
            mixed = _mix_sparse(bound, matrix, len(contract[side]))
            shape = mixed.shape
        mixed = mixed.reshape(shape)
        if side == 1:  # [batch, rhs free, lhs free] -> [batch, lhs free, rhs free]
            first, own = len(batch[1]), len(free[1])
            ahead, behind = range(first, first + own), range(first + own, mixed.ndim)
            mixed = mixed.transpose((*range(first), *behind, *ahead))
        result = mixed if result is None else np.minimum(result, mixed)
    assert result is not None  # a product has two sides
    return compress(result)


def _mix_sparse(bound, matrix, contracted):
    """Contract a bound's last axes with a constant matrix: only its non-zero weights count."""
    inner, outer = matrix.shape[:contracted], matrix.shape[contracted:]
    lead = bound.shape[: bound.ndim - contracted]
    if all(size == 1 for size in bound.shape[len(lead) :]):
        return bound.reshape(*lead, *(1 for _ in outer))
    bound = np.broadcast_to(bound, (*lead, *inner)).reshape(*lead, math.prod(inner))
    weights = np.abs(matrix.astype(np.float64)).reshape(math.prod(inner), math.prod(outer))
    used = weights > _ROUNDING * weights.max(initial=0.0)
    mixed = np.full((*lead, used.shape[1]), NOTHING)
    for column in np.flatnonzero(used.any(0)):
        mixed[..., column] = bound[..., used[:, column]].min(-1)
    return mixed.reshape(*lead, *outer)
