"""Logits before their last step, the bilinear upsampling to the image's size.

Logits at the image's size are k times as large as the image, and a loss reads them only once. A
loss or an argmax that upsamples by itself, some rows at a time (`kernels.upsampled_logits`), never
holds them. Networks take their last step through `upsample`; within `deferring` they then return
an `Upsampled` where they otherwise return an array. Parameters and names are the same.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seg_jax.nn.resize import apply_separable

Array = jax.Array
_deferred = contextvars.ContextVar("upsampling is deferred", default=False)


@dataclasses.dataclass(frozen=True, eq=False)
class Upsampled:
    """Logits [n H W k] as the scores they are interpolated from; no JAX type: stays in one trace.

    Attributes:
      scores: float32 [n h w k].
      vertical: interpolation matrix of the rows, float64 [H h].
      horizontal: of the columns, float64 [W w].
    """

    scores: Array
    vertical: np.ndarray
    horizontal: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, H, W, k), of the logits."""
        n, _, _, k = self.scores.shape
        return n, len(self.vertical), len(self.horizontal), k

    @property
    def ndim(self) -> int:
        """4."""
        return 4

    def whole(self) -> Array:
        """Return the logits, float32 [n H W k]."""
        return apply_separable(self.scores, self.vertical, self.horizontal)

    def at(self, rows: Any, columns: Any) -> "Upsampled":
        """Return the logits at some rows and columns, each a slice or indices."""
        return dataclasses.replace(
            self, vertical=self.vertical[rows], horizontal=self.horizontal[columns]
        )


@contextlib.contextmanager
def deferring(deferred: bool = True) -> Iterator[None]:
    """Within the context, trace networks that leave their last upsampling to the caller.

    Read while tracing, as `remat.using` is. `deferring(False)` inside it: a network whose logits
    are wanted as an array, because another network goes on with them.
    """
    token = _deferred.set(deferred)
    try:
        yield
    finally:
        _deferred.reset(token)


def upsample(resize: Callable[..., Any], scores: Array, *args: Any, **options: Any) -> Any:
    """Return a network's logits, resize(scores, ...) in float32, or an `Upsampled` of them.

    Args:
      resize: of `nn.resize`, with the argument `apply`.
      scores: [n h w k], of any precision: interpolated logits lose too much in bfloat16.
    """
    apply = Upsampled if _deferred.get() else apply_separable
    return resize(scores.astype(jnp.float32), *args, **options, apply=apply)


def crop(logits: Any, offset: int, height: int, width: int) -> Any:
    """Return the rows and columns of logits from `offset` on."""
    rows, columns = slice(offset, offset + height), slice(offset, offset + width)
    return logits.at(rows, columns) if _is_deferred(logits) else logits[:, rows, columns]


def repeat_first(logits: Any, count: int) -> Any:
    """Return the logits with `count` copies of the first row and column before them."""
    if _is_deferred(logits):
        rows, columns = (np.maximum(np.arange(-count, size), 0) for size in logits.shape[1:3])
        return logits.at(rows, columns)
    for axis in (1, 2):
        edge = jax.lax.slice_in_dim(logits, 0, 1, axis=axis)
        logits = jnp.concatenate([*[edge] * count, logits], axis=axis)
    return logits


def _is_deferred(logits: Any) -> bool:
    return isinstance(logits, Upsampled)


def check_deferred(outputs: Mapping[str, Any], heads: Sequence[str]) -> None:
    """Raise ValueError if none of these outputs, traced within `deferring`, is deferred."""
    if not any(_is_deferred(outputs.get(name)) for name in heads):
        raise ValueError(
            f"logits strips: the outputs {sorted(outputs)} of this network end with other layers "
            'than a fixed bilinear upsampling: set it to "whole"'
        )
