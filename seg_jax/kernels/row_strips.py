"""Bilinear upsampling row by row of scores: which rows of logits lie between which rows of scores.

A strip has g intervals between neighbouring rows of scores, an interval at most f rows of logits.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from seg_jax.nn import lowering

Array = jax.Array
# Logits held at a time, in bytes: on CPUs what fits into a core's caches, on accelerators what is
# large beside the cost of starting an operation. At least the rows between two rows of scores.
STRIP_BYTES = {"cpu": 2**22, "gpu": 2**25, "tpu": 2**25}
_EXACT = lax.Precision.HIGHEST  # as in `nn.resize`: TPUs would use 8 bits of each factor


def widen(window: Array, horizontal: np.ndarray) -> Array:
    """Interpolate rows of scores [n g w k] along the columns: [n g k W]."""
    return jnp.einsum("ngwk,Ww->ngkW", window, _float32(horizontal), precision=_EXACT)


def interpolate(wide: Array, above: Array, below: Array) -> Array:
    """Return the logits [n g f k W] of the rows between the rows wide [n g+1 k W]."""
    above, below = above[None, :, :, None, None], below[None, :, :, None, None]
    return above * wide[:, :-1, None] + below * wide[:, 1:, None]


def back(slope: Array, above: Array, below: Array, horizontal: np.ndarray) -> Array:
    """Return the gradient [n g+1 w k] of the scores for that of the logits [n g f k W]."""
    upper = jnp.sum(above[None, :, :, None, None] * slope, axis=2)
    lower = jnp.sum(below[None, :, :, None, None] * slope, axis=2)
    return narrow(meet(upper, lower), horizontal)


def meet(upper: Array, lower: Array) -> Array:
    """Add what g intervals give to the rows above and below them, [n g k W] each: [n g+1 k W]."""
    none = ((0, 0), (0, 0))
    return jnp.pad(upper, ((0, 0), (0, 1), *none)) + jnp.pad(lower, ((0, 0), (1, 0), *none))


def narrow(wide: Array, horizontal: np.ndarray) -> Array:
    """Return the gradient [n g w k] for that of rows interpolated along the columns [n g k W]."""
    return jnp.einsum("ngkW,Ww->ngwk", wide, _float32(horizontal), precision=_EXACT)


def _float32(matrix: np.ndarray) -> Array:
    return jnp.asarray(matrix, jnp.float32)


@dataclasses.dataclass(frozen=True)
class RowStrips:
    """Rows of logits by the rows of scores that they lie between.

    Attributes:
      rows: row of the logits, int [strips g f]; -1: none.
      above: its weight of the row of scores above, float32 [strips g f].
      below: of the row below.
      window: rows of scores of a strip, int [strips g+1].
      scores: number of rows of scores, h.
      logits: of logits, H.
    """

    rows: np.ndarray
    above: np.ndarray
    below: np.ndarray
    window: np.ndarray
    scores: int
    logits: int

    @classmethod
    def of(cls, scores: Array, vertical: np.ndarray, horizontal: np.ndarray) -> "RowStrips":
        """Divide the rows so that the logits of a strip take about `STRIP_BYTES`."""
        if scores.ndim != 4 or scores.dtype != jnp.float32:
            raise ValueError(f"scores must be float32 [n h w k], got {scores.dtype} {scores.shape}")
        n, h, w, k = scores.shape
        if vertical.shape[1] != h or horizontal.shape[1] != w:
            raise ValueError(
                f"matrices {vertical.shape} and {horizontal.shape} do not fit scores {scores.shape}"
            )
        interval, above, below = _between(vertical)
        first, count = interval.min(), interval.max() - interval.min() + 1
        most = int(np.bincount(interval - first).max())
        row_bytes = 4 * n * k * len(horizontal)
        fitting = max(1, STRIP_BYTES[lowering.platform()] // (most * row_bytes))
        strips = -(-count // fitting)
        grouped = -(-count // strips)
        place = np.full((strips * grouped, most), -1)
        for j in range(count):
            own = np.flatnonzero(interval == first + j)
            place[j, : len(own)] = own
        place = place.reshape(strips, grouped, most)
        there = place >= 0
        window = first + np.arange(strips)[:, None] * grouped + np.arange(grouped + 1)
        return cls(
            rows=place,
            above=np.where(there, above[place], 0).astype(np.float32),
            below=np.where(there, below[place], 0).astype(np.float32),
            window=np.clip(window, 0, h - 1),
            scores=h,
            logits=len(vertical),
        )

    def map(self, function: Callable[..., Any], scores: Array, *maps: tuple[Any, int]) -> Any:
        """Return function(window, above, below, *maps) of every strip, one after the other.

        Args:
          function: of float32 [n g+1 w k], two [g f], and [n g f W] of every map.
          scores: [n h w k].
          maps: [n H W] or None, each with the value where a strip has no row.
        """
        windows = jnp.moveaxis(jnp.take(scores, self.window, axis=1), 1, 0)
        cut = [None if x is None else self.cut(x, fill) for x, fill in maps]
        inputs = (windows, jnp.asarray(self.above), jnp.asarray(self.below), *cut)
        return lax.map(lambda strip: function(*strip), inputs)

    @property
    def neighbours(self) -> np.ndarray:
        """Rows of scores around all intervals, one after the other: int [strips g + 1]."""
        return np.append(self.window[:, :-1].ravel(), self.window[-1, -1])

    def add_up(self, parts: Array) -> Array:
        """Add the gradients of all windows [strips n g+1 w k] up: [n h w k]."""
        strips, n, g, w, k = parts.shape
        parts = jnp.moveaxis(parts, 0, 1).reshape(n, strips * g, w, k)
        return self.spread(parts, self.window.ravel())

    def spread(self, parts: Array, rows: np.ndarray) -> Array:
        """Add gradients [n m w k] of these m rows of scores, some of them equal: [n h w k]."""
        own = (np.arange(self.scores)[:, None] == rows).astype(np.float32)
        return jnp.einsum("hs,nswk->nhwk", own, parts, precision=_EXACT)

    def merge(self, parts: Array) -> Array:
        """Return rows [strips n g f W] in their order: [n H W]."""
        strips, n, g, f, width = parts.shape
        parts = jnp.moveaxis(parts, 0, 1).reshape(n, strips * g * f, width)
        if self._in_order:
            return parts[:, : self.logits]
        return jnp.take(parts, np.argsort(self.rows.ravel(), stable=True)[-self.logits :], axis=1)

    def cut(self, x: Array, fill: int) -> Array:
        """Return a map [n H W] in strips: [strips n g f W]."""
        n, height, width = x.shape
        missing = self.rows.size - height if self._in_order else 1
        x = jnp.pad(x, ((0, 0), (0, missing), (0, 0)), constant_values=fill)
        if not self._in_order:
            x = jnp.take(x, np.where(self.rows < 0, height, self.rows).ravel(), axis=1)
        return jnp.moveaxis(x.reshape(n, *self.rows.shape, width), 1, 0)

    @property
    def _in_order(self) -> bool:
        return bool((self.rows.ravel()[: self.logits] == np.arange(self.logits)).all())


def _between(vertical: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for every row of logits the row of scores above it, int [H], and the weights of it and
    of the next, float [H].

    Rows before the first score, which repeat it, lie below row -1.
    """
    height, rows = vertical.shape
    used = vertical != 0
    interval = used.argmax(1)
    at = np.arange(height)
    after = np.minimum(interval + 1, rows - 1)
    above = vertical[at, interval]
    below = np.where(interval + 1 < rows, vertical[at, after], 0.0)
    if (used.sum(1) > (above != 0).astype(int) + (below != 0)).any():
        raise ValueError("a row of the vertical matrix has other entries than two neighbours")
    before = (interval == 0) & (below == 0)
    if before.sum() > 1:
        interval = np.where(before, -1, interval)
        above, below = np.where(before, 0.0, above), np.where(before, above, below)
    return interval, above, below
