"""Numba kernels of `lattice_numba`, compiled at the first call and cached on disk.

Andrew Adams, Jongmin Baek and Abe Davis, "Fast High-Dimensional Filtering Using the Permutohedral
Lattice", Eurographics 2010: comments name section and step. The first arguments of the parallel
kernels are the range [begin, end) of rows to process; all release the GIL.
"""

import math
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from seg_jax.kernels.numba_options import OPTIONS

# A vertex's d + 1 coordinates are congruent modulo d + 1 and sum to 0, so d quotients of BITS bits
# and the remainder (3 bits, d <= 5) identify it.
BITS = 12
BIAS = 1 << (BITS - 1)
_AHEAD = 24  # rows between a prefetch and its use; 6 is clearly slower, 12 slightly


@njit(**OPTIONS)
def locate(begin, end, feature, keys, weight):
    """Write the keys, int64 [m d+1], and barycentric weights of each pixel's simplex.

    Returns False if a quotient does not fit into BITS bits.
    """
    d = feature.shape[1]
    cells = np.float32(1.0 / (d + 1))
    scale = np.empty(d, np.float32)
    for i in range(d):
        # Cell size for which the blur below has standard deviation 1 in feature space (Section
        # 3.1), rounded where the released code rounds.
        cell = float(np.float32((d + 1) * math.sqrt(2.0 / 3.0)))
        scale[i] = cell / math.sqrt((i + 1.0) * (i + 2.0))
    rest = np.empty(d + 1, np.float32)
    quotient = np.empty(d + 1, np.int64)
    rank = np.empty(d + 1, np.int64)
    barycentric = np.empty(d + 2, np.float32)
    fits = True
    for p in range(begin, end):
        # Embed into the hyperplane x_0 + .. + x_d = 0 (Section 3.1, "Splatting").
        total = np.float32(0)
        for j in range(d, 0, -1):
            part = feature[p, j - 1] * scale[j - 1]
            rest[j] = total - np.float32(j) * part
            total += part
        rest[0] = total
        # The nearest point whose coordinates are multiples of d + 1, and the rank of the residuals.
        excess = 0
        for i in range(d + 1):
            quotient[i] = np.int64(np.floor(rest[i] * cells + np.float32(0.5)))
            excess += quotient[i]
            rest[i] -= np.float32(quotient[i] * (d + 1))
            rank[i] = 0
        for i in range(d):
            for j in range(i + 1, d + 1):
                if rest[i] < rest[j]:
                    rank[i] += 1
                else:
                    rank[j] += 1
        barycentric[:] = 0
        for i in range(d + 1):
            # Move back onto the hyperplane if the rounded coordinates do not sum to 0.
            rank[i] += excess
            if rank[i] < 0:
                rank[i] += d + 1
                quotient[i] += 1
                rest[i] -= np.float32(d + 1)
            elif rank[i] > d:
                rank[i] -= d + 1
                quotient[i] -= 1
                rest[i] += np.float32(d + 1)
            barycentric[d - rank[i]] += rest[i] * cells
            barycentric[d + 1 - rank[i]] -= rest[i] * cells
            fits &= abs(quotient[i]) < BIAS - 2
        barycentric[0] += np.float32(1) + barycentric[d + 1]
        for k in range(d + 1):
            # The simplex's vertex of remainder k: k, or k - (d + 1) for the k largest ranks.
            key = np.int64(0)
            for i in range(d):
                key = (key << BITS) + quotient[i] - (rank[i] > d - k) + BIAS
            keys[p, k] = (key << 3) + k
            weight[p, k] = barycentric[k]
    return fits


@njit(inline="always")
def _find(table, vertex_key, key):
    """Return the slot of `key` in the hash table and its vertex, or -1 (linear probing)."""
    mask = table.size - 1
    slot = ((key * np.int64(-7046029254386353131)) >> 24) & mask  # 2^64 / golden ratio
    while table[slot] >= 0 and vertex_key[table[slot]] != key:
        slot = (slot + 1) & mask
    return slot, table[slot]


@njit(**OPTIONS)
def number(keys, index):
    """Write vertex numbers, by first occurrence, to `index` [m d+1]; return keys and hash table."""
    size = 1
    while size < 2 * keys.size:
        size *= 2
    table = np.full(size, -1, np.int32)
    vertex_key = np.empty(keys.size, np.int64)
    count = 0
    for p in range(keys.shape[0]):
        for k in range(keys.shape[1]):
            slot, vertex = _find(table, vertex_key, keys[p, k])
            if vertex < 0:
                vertex = count
                table[slot] = count
                vertex_key[count] = keys[p, k]
                count += 1
            index[p, k] = vertex
    return vertex_key[:count].copy(), table


@njit(**OPTIONS)
def chains(axis, d, vertex_key, table):
    """Return the chains of neighbouring vertices along one axis.

    Returns:
        order: int32 [c + 1], the vertices that have a neighbour; the last one is repeated.
        link: float32 [c + 1], 1/2 if order[t] follows order[t - 1] on the lattice, 0 where a new
            chain begins and at the end.
        start: int32 [chains + 1], positions in `order` where the chains begin.
    """
    count = vertex_key.size
    ones = np.int64(0)
    for i in range(d):
        ones += np.int64(1) << (BITS * i + 3)
    # A step adds -1 to all coordinates and d + 1 to this one; the others imply the last one.
    unit = np.int64(0) if axis == d else np.int64(1) << (BITS * (d - 1 - axis) + 3)
    after = np.empty(count, np.int32)
    follows = np.zeros(count, np.bool_)
    for v in range(count):
        key = vertex_key[v]
        other = key + unit - (1 if key & 7 else ones - d)
        after[v] = _find(table, vertex_key, other)[1]
        if after[v] >= 0:
            follows[after[v]] = True
    order = np.empty(count + 1, np.int32)
    link = np.zeros(count + 1, np.float32)
    start = np.empty(count + 1, np.int32)
    size, begun = 0, 0
    for v in range(count):
        if not follows[v] and after[v] >= 0:
            start[begun] = size
            begun += 1
            order[size] = v
            size += 1
            u = after[v]
            while u >= 0:
                order[size] = u
                link[size] = 0.5
                size += 1
                u = after[u]
    start[begun] = size
    order[size] = order[size - 1] if size else 0
    return order[: size + 1].copy(), link[: size + 1].copy(), start[: begun + 1].copy()


@njit(**OPTIONS)
def transpose(index, count):
    """Return the splat's sparse rows: start [count+1], pixel, slot (position in flat `index`)."""
    m, corners = index.shape
    start = np.zeros(count + 1, np.int32)
    for p in range(m):
        for k in range(corners):
            start[index[p, k] + 1] += 1
    for v in range(count):
        start[v + 1] += start[v]
    fill = start[:-1].copy()
    pixel = np.empty(m * corners, np.int32)
    slot = np.empty(m * corners, np.int32)
    for p in range(m):
        for k in range(corners):
            at = fill[index[p, k]]
            fill[index[p, k]] += 1
            pixel[at] = p
            slot[at] = p * corners + k
    return start, pixel, slot


@njit(inline="always")
def _exp(x):
    """Return exp(x) for x <= 0 with a relative error of 2e-7, 0 below -60; can be vectorised."""
    power = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    power = max(power, np.float32(-100))
    r = x - power * np.float32(0.693359375) + power * np.float32(2.12194440e-4)
    # The minimax polynomial of Cephes' expf on |r| <= ln(2) / 2.
    y = np.float32(1.9875691500e-4)
    y = y * r + np.float32(1.3981999507e-3)
    y = y * r + np.float32(8.3334519073e-3)
    y = y * r + np.float32(4.1665795894e-2)
    y = y * r + np.float32(1.6666665459e-1)
    y = y * r + np.float32(5.0000001201e-1)
    y = y * r * r + r + np.float32(1)
    two = np.int32((np.int32(power) + 127) << 23).view(np.float32)
    return y * two if x > np.float32(-60) else np.float32(0)


@intrinsic
def _prefetch_line(typing, address):
    """Prefetch the cache line of an address: waiting for scattered lattice rows costs most time."""

    def generate(context, builder, signature, arguments):
        pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
        call = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        read, keep, data = flag(0), flag(3), flag(1)
        builder.call(call, [builder.inttoptr(arguments[0], pointer), read, keep, data])
        return context.get_dummy_value()

    return types.void(types.uintp), generate


@lru_cache
def passes(classes: int) -> SimpleNamespace:
    """Compile the passes for a constant number of classes, so that LLVM unrolls their loops."""
    options = {**OPTIONS, "fastmath": True}
    size = 4 * classes

    @njit(inline="always")
    def prefetch(rows, row):
        address = np.uintp(rows.ctypes.data) + np.uintp(row) * np.uintp(size)
        for line in range(0, size, 64):
            # Numba passes the context of an intrinsic.
            _prefetch_line(address + np.uintp(line))  # pyright: ignore[reportCallIssue]

    @njit(**options)
    def splat(begin, end, start, pixel, weight, q, rows):
        last = pixel.size - 1
        for v in range(begin, end):
            row, stop = rows[v], start[v + 1]
            for c in range(classes):
                row[c] = 0
            # Two pixels at a time halve the loads and stores of the sum.
            for t in range(start[v], stop - 1, 2):
                prefetch(q, pixel[min(t + 2 * _AHEAD, last)])
                prefetch(q, pixel[min(t + 2 * _AHEAD + 1, last)])
                a, b = q[pixel[t]], q[pixel[t + 1]]
                wa, wb = weight[t], weight[t + 1]
                for c in range(classes):
                    row[c] += wa * a[c] + wb * b[c]
            if (stop - start[v]) % 2:
                a, wa = q[pixel[stop - 1]], weight[stop - 1]
                for c in range(classes):
                    row[c] += wa * a[c]

    @njit(**options)
    def blur(begin, end, start, order, link, rows):
        # In place, without branches between chains: the link is 0 there.
        first, stop, last = start[begin], start[end], order.size - 1
        before, own = np.zeros(classes, np.float32), np.empty(classes, np.float32)
        own[:] = rows[order[first]]
        for t in range(first, stop):
            prefetch(rows, order[min(t + _AHEAD, last)])
            row, after = rows[order[t]], rows[order[t + 1]]
            back, on = link[t], link[t + 1]
            for c in range(classes):
                value, following = own[c], after[c]
                row[c] = value + back * before[c] + on * following
                before[c] = value
                own[c] = following

    @njit(inline="always")
    def corners(p, index, weight, rows, out, first):
        ahead = min(p + _AHEAD // 3, index.shape[0] - 1)
        for k in range(0, index.shape[1], 3):  # d = 2 and d = 5 have 3 and 6 corners
            for corner in range(3):
                prefetch(rows, index[ahead, k + corner])
            a, b, e = rows[index[p, k]], rows[index[p, k + 1]], rows[index[p, k + 2]]
            wa, wb, we = weight[p, k], weight[p, k + 1], weight[p, k + 2]
            if first and k == 0:
                for c in range(classes):
                    out[c] = wa * a[c] + wb * b[c] + we * e[c]
            else:
                for c in range(classes):
                    out[c] += wa * a[c] + wb * b[c] + we * e[c]

    @njit(**options)
    def gather(begin, end, index, weight, rows, out):
        for p in range(begin, end):
            corners(p, index, weight, rows, out[p], True)

    @njit(**options)
    def gather_two(begin, end, index, weight, rows, index_2, weight_2, rows_2, out):
        for p in range(begin, end):
            corners(p, index, weight, rows, out[p], True)
            corners(p, index_2, weight_2, rows_2, out[p], False)

    @njit(**options)
    def softmax(begin, end, energy, message, q):
        for p in range(begin, end):
            u, m, row = energy[p], message[p], q[p]
            highest = np.float32(-np.inf)
            for c in range(classes):
                row[c] = m[c] - u[c]
                highest = max(highest, row[c])
            total = np.float32(0)
            for c in range(classes):
                row[c] = _exp(row[c] - highest)
                total += row[c]
            inverse = np.float32(1) / total
            for c in range(classes):
                row[c] *= inverse

    return SimpleNamespace(
        splat=splat, blur=blur, gather=gather, gather_two=gather_two, softmax=softmax
    )
