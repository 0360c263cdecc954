"""The permutohedral lattice in plain JAX: the default on an accelerator and inside a trace.

Andrew Adams, Jongmin Baek and Abe Davis, "Fast High-Dimensional Filtering Using the Permutohedral
Lattice", Eurographics 2010. Instead of a hash table: the keys of all corners are sorted, equal ones
share a row, and neighbours are found by bisection. Shapes are static, so the number of rows has a
capacity; the count of vertices shows if an image needs more, and `mean_field` runs it again.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from seg_jax.kernels.crf import update
from seg_jax.kernels.crf.params import CrfParams
from seg_jax.kernels.crf.reference import features

LIMIT = 1 << 15  # a quotient of a key has 16 bits


class Lattice(NamedTuple):
    """The vertices that m features of d values touch; at most `capacity` of them have a row.

    Attributes:
        row: int32 [m d+1], the vertices around a pixel.
        weight: float32 [m d+1], its barycentric weights.
        neighbours: int32 [d+1 2 capacity], along each axis; `capacity` where there is none.
        count: int32, vertices in all. Where it is more than the capacity, the filter is wrong.
        fits: bool, whether every key is in range. Where it is not, the filter is wrong.
    """

    row: jax.Array
    weight: jax.Array
    neighbours: jax.Array
    count: jax.Array
    fits: jax.Array


def mean_field(unary: jax.Array, rgb: jax.Array, params: CrfParams) -> jax.Array:
    """Return the marginals of a batch: float32 [n h w k] energies and [n h w 3] images (0..255).

    Outside a trace the capacity is 1.25 rows per pixel, and if an image needs more, the batch runs
    again with enough. Inside a trace it cannot run again, so the capacity is the maximum, d + 1
    rows per pixel: for inference, call it outside of `jit`.

    Raises:
        ValueError: a width so small that the keys overflow; inside a trace the result is NaN.
    """
    pixels = unary.shape[1] * unary.shape[2]
    most = (6 * pixels, 3 * pixels)
    if any(isinstance(x, Tracer) for x in jax.tree.leaves((unary, rgb, params))):
        q, _, fits = run(unary, rgb, params, most)
        return jnp.where(fits, q, jnp.nan)
    step = pixels + pixels // 4  # multiples of it, so that images share few compilations
    capacity = tuple(min(step, limit) for limit in most)
    q, count, fits = run(unary, rgb, params, capacity)
    if not fits:
        raise ValueError(
            "a width of the CRF is too small for the lattice's keys; use a larger "
            "bilateral_px, bilateral_rgb or spatial_px"
        )
    count = np.asarray(count)
    if (count <= capacity).all():
        return q
    enough = (min(-(-int(c) // step) * step, limit) for c, limit in zip(count, most, strict=True))
    return run(unary, rgb, params, tuple(enough))[0]


@partial(jax.jit, static_argnames="capacity")
def run(
    unary: jax.Array, rgb: jax.Array, params: CrfParams, capacity: tuple[int, int]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Run a batch with `capacity` rows for the bilateral and the spatial lattice.

    Returns:
        The marginals [n h w k]; the largest count of vertices of each lattice, int32 [2]: where one
        is more than its capacity, the marginals are wrong; and whether all keys were in range.
    """

    def one(pair):
        position, colour = features(pair[1])
        bilateral = [position / params.bilateral_px, colour / params.bilateral_rgb]
        lattices = (
            build(jnp.concatenate(bilateral, axis=1), capacity[0]),
            build(position / params.spatial_px, capacity[1]),
        )
        kernels = [partial(apply, lattice) for lattice in lattices]
        q = update.mean_field(pair[0].reshape(-1, unary.shape[-1]), kernels, params)
        count = jnp.stack([lattice.count for lattice in lattices])
        return q.reshape(unary.shape[1:]), count, lattices[0].fits & lattices[1].fits

    q, count, fits = lax.map(one, (unary, rgb))
    return q, count.max(axis=0), fits.all()


def apply(lattice: Lattice, q: jax.Array) -> jax.Array:
    """Return K Q, float32 [m k], of q [m k]: splat, blur along each axis, slice."""
    (m, corners), capacity = lattice.row.shape, lattice.neighbours.shape[-1]
    spread = (q[:, None, :] * lattice.weight[:, :, None]).reshape(m * corners, -1)
    rows = jax.ops.segment_sum(spread, lattice.row.reshape(-1), capacity)

    def blur(rows, neighbours):
        before, after = (rows.at[side].get(mode="fill", fill_value=0) for side in neighbours)
        return rows + 0.5 * (before + after), None

    rows, _ = lax.scan(blur, rows, lattice.neighbours)
    # The constant of the released code, which only normalisation="none" does not cancel.
    alpha = 1 / (1 + 0.5 ** (corners - 1))
    parts = (rows[lattice.row[:, k]] * lattice.weight[:, k, None] for k in range(corners))
    return jnp.asarray(alpha * sum(parts))


def build(feature: jax.Array, capacity: int) -> Lattice:
    """Return the lattice of the features, float32 [m d], for a blur of standard deviation 1."""
    m, d = feature.shape
    quotient, weight = locate(feature)
    fits = jnp.abs(quotient).max() < LIMIT - 2
    remainder = jnp.broadcast_to(jnp.arange(d + 1, dtype=jnp.int32)[None, :, None], (m, d + 1, 1))
    words = pack(jnp.concatenate([quotient, remainder], axis=-1).reshape(m * (d + 1), d + 1))
    # Equal keys become neighbours, and the first of each opens a new row.
    *words, corner = lax.sort((*words, jnp.arange(m * (d + 1))), num_keys=len(words))
    new = sum((word[1:] != word[:-1]).astype(jnp.int32) for word in words) > 0
    vertex = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(new, dtype=jnp.int32)])
    row = jnp.zeros(m * (d + 1), jnp.int32).at[corner].set(vertex, unique_indices=True)
    table = [
        jnp.full(capacity, jnp.iinfo(jnp.int32).max).at[vertex].set(word, mode="drop")
        for word in words
    ]
    count = vertex[-1] + 1
    return Lattice(row.reshape(m, d + 1), weight, connect(table, count, d), count, fits)


def locate(feature: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the quotients, int32 [m d+1 d], and weights [m d+1] of the corners of each simplex.

    A vertex's d + 1 coordinates sum to 0 and are congruent modulo d + 1 to its remainder k, which
    is the corner's place here; the quotients of the first d coordinates are its key with it.
    """
    m, d = feature.shape
    # Cells such that the blur has standard deviation 1 in feature space (Section 3.1).
    cell = float(np.float32((d + 1) * np.sqrt(2 / 3)))
    scale = [cell / np.sqrt(j * (j + 1)) for j in range(1, d + 1)]
    # Embed into the hyperplane x_0 + .. + x_d = 0. Operations and roundings are the released
    # code's: ten iterations near a tie between labels turn one unit in the last place into 3e-3.
    total, place = jnp.zeros(m, jnp.float32), []
    for j in range(d, 0, -1):
        part = feature[:, j - 1] * np.float32(scale[j - 1])
        place.append(total - j * part)
        total = total + part
    place = jnp.stack([total, *place[::-1]], axis=1)
    # The nearest point whose coordinates are multiples of d + 1, and the rank of the residuals.
    nearest = jnp.floor(place * np.float32(1 / (d + 1)) + 0.5)
    rest = place - nearest * (d + 1)
    nearest = nearest.astype(jnp.int32)
    lower = np.tri(d + 1, k=-1, dtype=bool)[None]  # of equal residuals the first has the lower rank
    larger = jnp.where(
        lower, rest[:, None, :] >= rest[:, :, None], rest[:, None, :] > rest[:, :, None]
    )
    rank = larger.sum(axis=-1, dtype=jnp.int32) + nearest.sum(axis=1, keepdims=True)
    # Back onto the hyperplane where the roundings did not sum to 0.
    wrap = (rank < 0).astype(jnp.int32) - (rank > d).astype(jnp.int32)
    rank, nearest = rank + (d + 1) * wrap, nearest + wrap
    rest = (rest - ((d + 1) * wrap).astype(jnp.float32)) * np.float32(1 / (d + 1))
    # Barycentric: differences of the residuals in the order of their ranks.
    by_rank = jnp.take_along_axis(rest, jnp.argsort(rank, axis=1), axis=1)[:, ::-1]
    weight = jnp.concatenate(
        [by_rank[:, :1] - by_rank[:, -1:] + 1, jnp.diff(by_rank, axis=1)], axis=1
    )
    # The corner of remainder k: k on every axis, but k - (d + 1) on those of the k largest ranks.
    largest = rank[:, None, :d] > np.arange(d, -1, -1)[None, :, None]
    return nearest[:, None, :d] - largest.astype(jnp.int32), weight


def pack(values: jax.Array) -> list[jax.Array]:
    """Return int32 words of two 16-bit values each, of values int32 [m v]; v is odd for d = 2."""
    halves = [values[:, i] for i in range(values.shape[1])]
    halves += [jnp.zeros_like(halves[0])] * (len(halves) % 2)
    return [(a << 16) | (b & 0xFFFF) for a, b in zip(halves[::2], halves[1::2], strict=True)]


def unpack(words: list[jax.Array], d: int) -> list[jax.Array]:
    """Return the d quotients and the remainder of packed keys, each int32 [m]."""
    return [half for word in words for half in (word >> 16, (word << 16) >> 16)][: d + 1]


def connect(table: list[jax.Array], count: jax.Array, d: int) -> jax.Array:
    """Return both neighbours of every vertex along each axis, int32 [d+1 2 capacity]."""
    capacity = table[0].shape[0]
    *quotient, remainder = unpack(table, d)
    wraps = (remainder == 0).astype(jnp.int32)
    # -1 on all coordinates and + (d + 1) on the axis; the last axis has no quotient.
    here = np.eye(d + 1, dtype=np.int32)[..., None]  # [axis, quotient, 1]
    moved = [q[None] - wraps[None] + here[:, i] for i, q in enumerate(quotient)]
    moved.append(jnp.broadcast_to((remainder - 1 + (d + 1) * wraps)[None], (d + 1, capacity)))
    after = find(table, pack(jnp.stack(moved, axis=-1).reshape(-1, d + 1)))
    after = after.reshape(d + 1, capacity)
    rows = jnp.arange(capacity)[None]
    after = jnp.where(rows < count, after, capacity)
    # Whose next I am is my previous one.
    before = jnp.full((d + 1, capacity), capacity)
    before = before.at[jnp.arange(d + 1)[:, None], after].set(
        jnp.broadcast_to(rows, after.shape), mode="drop"
    )
    return jnp.stack([before, after], axis=1)


def find(table: list[jax.Array], wanted: list[jax.Array]) -> jax.Array:
    """Return where the wanted keys are in the sorted table, and its length where they are not."""
    capacity = table[0].shape[0]

    def before(keys, others):
        less = keys[-1] < others[-1]
        for a, b in zip(keys[-2::-1], others[-2::-1], strict=True):
            less = (a < b) | ((a == b) & less)
        return less

    def halve(bounds, _):
        low, high = bounds
        middle = (low + high) // 2
        right = before([word[middle] for word in table], wanted)
        return (jnp.where(right, middle + 1, low), jnp.where(right, high, middle)), None

    low = jnp.zeros_like(wanted[0])  # under shard_map it varies as the keys do
    bounds = (low, jnp.full_like(low, capacity))
    low = lax.scan(halve, bounds, length=capacity.bit_length())[0][0]
    found = jnp.stack(
        [
            word.at[low].get(mode="fill", fill_value=-1) == w
            for word, w in zip(table, wanted, strict=True)
        ]
    )
    return jnp.where(found.all(axis=0) & (low < capacity), low, capacity)
