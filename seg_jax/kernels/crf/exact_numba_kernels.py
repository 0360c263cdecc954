"""Numba kernels of `exact_numba`, compiled at the first call and cached on disk.

Pixels are grouped into leaves of GROUP. For a pair of leaves, one vector holds the rows and a loop
runs over the keys. This inner loop is written in LLVM IR, because its vectors must stay in
registers, which Numba does not achieve for a Python loop.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from seg_jax.kernels.numba_options import OPTIONS

GROUP = 16  # one vector of 512 bits; the compiler splits it where vectors are shorter
AXES = 5

# Polynomial of 2^x for |x| <= 1/2 with an error of 1.1e-7; lowest power first.
_EXP2 = np.polynomial.Chebyshev.interpolate(np.exp2, 5, domain=[-0.5, 0.5]).convert(
    kind=np.polynomial.Polynomial
)
_ROUND = 1.5 * 2**23  # added to a float32, it rounds to the nearest integer, in the lowest bits
_MOST = 126.0  # 2^-126 is the least normal float32


@njit(**OPTIONS)
def order(feature):
    """Return the pixels, int32 [m], by leaves of a k-d tree over features, float32 [m AXES].

    All leaves but the last have GROUP pixels. Groups along a Hilbert curve would have larger
    bounding boxes, and a quarter more pairs of them would be near each other.
    """
    index = np.arange(feature.shape[0])
    stack = [(0, feature.shape[0])]
    while len(stack):
        begin, end = stack.pop()
        part = index[begin:end]
        widest, extent = 0, np.float32(-1)
        for axis in range(AXES):
            low, high = feature[part[0], axis], feature[part[0], axis]
            for pixel in part:
                low = min(low, feature[pixel, axis])
                high = max(high, feature[pixel, axis])
            if high - low > extent:
                widest, extent = axis, high - low
        index[begin:end] = part[np.argsort(feature[part, widest])]
        half = begin + (end - begin + GROUP) // (2 * GROUP) * GROUP
        for a, b in ((begin, half), (half, end)):
            if b - a > GROUP:
                stack.append((a, b))
    return index


@njit(fastmath=True, **OPTIONS)
def near(begin, end, low, high, radius):
    """List, for each leaf in [begin, end), the leaves whose bounding boxes are within `radius`.

    `low` and `high`, float32 [AXES leaves], are the corners of the boxes.

    Returns:
        counts: int64 [end - begin], number of near leaves of each leaf.
        listed: int32 [counts.sum()], the near leaves of the first leaf, of the second, and so on.
    """
    leaves = low.shape[1]
    square = np.empty(leaves, np.float32)
    counts = np.empty(end - begin, np.int64)
    listed = np.empty(leaves, np.int32)
    size = 0
    for i in range(begin, end):
        square[:] = 0
        for axis in range(AXES):
            own_low, own_high, lows, highs = low[axis, i], high[axis, i], low[axis], high[axis]
            for j in range(leaves):
                gap = max(max(own_low - highs[j], lows[j] - own_high), np.float32(0))
                square[j] += gap * gap
        if listed.size < size + leaves:
            grown = np.empty(2 * listed.size + leaves, np.int32)
            grown[:size] = listed[:size]
            listed = grown
        before = size
        for j in range(leaves):
            listed[size] = j
            size += square[j] <= radius * radius
        counts[i - begin] = size - before
    return counts, listed[:size].copy()


@intrinsic
def _add(typing, leaf, own, listed, count, start, column, value, out):
    """Add K Q of one leaf, summed over its near leaves, to `out`. The arrays are addresses.

    leaf: float32 [leaves AXES GROUP]; own: int64, index of the leaf; listed: int32 [count], its
    near leaves; start, column, value: Q as in `multiply`; out: float32 [columns GROUP].
    """

    def generate(context, b, signature, arguments):
        leaf, own, listed, count, start, column, value, out = arguments
        scalar, word, size = ir.FloatType(), ir.IntType(32), ir.IntType(64)
        vector, words = ir.VectorType(scalar, GROUP), ir.VectorType(word, GROUP)
        fused = cgutils.get_or_insert_function(
            b.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{GROUP}f32"
        )

        def pointer(address, kind):
            return b.inttoptr(address, kind.as_pointer())

        def at(base, index):
            return b.gep(base, [size(index) if isinstance(index, int) else index])

        def load(base, index):
            return b.load(at(base, index), align=4)

        def full(number):
            return ir.Constant(vector, [float(np.float32(number))] * GROUP)

        def everywhere(base, index):
            one = b.insert_element(ir.Constant(vector, ir.Undefined), load(base, index), word(0))
            return b.shuffle_vector(one, one, ir.Constant(words, [0] * GROUP))

        def weight(rows, key):
            """Return 2^-|rows - key|^2 as 2^n 2^r, with a polynomial in r (Cody & Waite)."""
            square = full(0)
            for axis in range(AXES):
                apart = b.fsub(rows[axis], everywhere(key, axis * GROUP))
                square = b.call(fused, [apart, apart, square])
            small = b.fcmp_ordered("<", square, full(_MOST))
            square = b.select(small, square, full(_MOST))
            shifted = b.fsub(full(_ROUND), square)
            rest = b.fsub(b.fsub(full(_ROUND), shifted), square)
            power = full(_EXP2.coef[-1])
            for coefficient in _EXP2.coef[-2::-1]:
                power = b.call(fused, [power, rest, full(coefficient)])
            exponent = b.shl(b.bitcast(shifted, words), ir.Constant(words, [23] * GROUP))
            return b.bitcast(b.add(b.bitcast(power, words), exponent), vector)

        first = pointer(leaf, scalar)
        stride = size(AXES * GROUP)
        rows = b.bitcast(at(first, b.mul(own, stride)), vector.as_pointer())
        rows = [load(rows, axis) for axis in range(AXES)]
        listed, start, column = (pointer(x, word) for x in (listed, start, column))
        value, out = pointer(value, scalar), pointer(out, vector)
        weights = cgutils.alloca_once(b, vector, size=GROUP)
        with cgutils.for_range(b, count) as listing:
            other = b.zext(load(listed, listing.index), size)
            keys = at(first, b.mul(other, stride))
            with cgutils.for_range(b, size(GROUP)) as member:
                b.store(weight(rows, at(keys, member.index)), at(weights, member.index))
            begin = b.zext(load(start, other), size)
            end = b.zext(load(start, b.add(other, size(1))), size)
            with cgutils.for_range(b, b.sub(end, begin)) as entries:
                entry = b.add(begin, entries.index)
                total = at(out, b.zext(load(column, entry), size))
                values = at(value, b.mul(entry, size(GROUP)))
                # Two accumulators halve the latency of dependent additions.
                sums = [load(total, 0), full(0)]
                for member in range(GROUP):
                    own_weight = b.load(at(weights, member))
                    sums[member % 2] = b.call(
                        fused, [own_weight, everywhere(values, member), sums[member % 2]]
                    )
                b.store(b.fadd(*sums), total, align=4)
        return context.get_dummy_value()

    address = types.uintp
    return types.void(*[address, types.int64, address, types.int64], *[address] * 4), generate


@njit(**OPTIONS)
def multiply(begin, end, leaf, near_start, listed, start, column, value, out):
    """Write the product K Q of the leaves [begin, end) to `out`, float32 [leaves columns GROUP].

    The kernel K is 2^-|a - b|^2 of the features `leaf`, float32 [leaves AXES GROUP], restricted to
    the pairs that `near` listed. Q is sparse: per leaf, `value`, float32 [entries GROUP], holds the
    columns that are not all 0, `column`, int32 [entries], their indices; the entries of a leaf
    begin at `start`, int32 [leaves + 1].
    """
    for i in range(begin, end):
        out[i] = 0
        _add(  # pyright: ignore[reportCallIssue]: Numba passes the context of an intrinsic
            np.uintp(leaf.ctypes.data),
            i,
            np.uintp(listed[near_start[i] :].ctypes.data),
            near_start[i + 1] - near_start[i],
            np.uintp(start.ctypes.data),
            np.uintp(column.ctypes.data),
            np.uintp(value.ctypes.data),
            np.uintp(out[i].ctypes.data),
        )
