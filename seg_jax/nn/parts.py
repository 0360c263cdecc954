"""Images done part by part: bands of their rows, and sums over parts."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax


def bands(rows: int, numbers: int, most: int) -> int:
    """Return in how many bands, of as many rows of tiles each, an image is done.

    Args:
      rows: of tiles.
      numbers: that all of them are.
      most: numbers of a band, unless those of a single row are more.
    """
    least = min(rows, -(-numbers // most))
    # Rows that bands compute in vain, at the end, and half of one that each reads besides.
    return min(range(least, rows + 1), key=lambda n: -(-rows // n) * n + n / 2)


def total(of_part: Callable[[Any], jax.Array], parts: Any) -> jax.Array:
    """Return the sum of a function over parts, the first axis of all arrays of a tree."""
    first, rest = jax.tree.map(lambda x: x[0], parts), jax.tree.map(lambda x: x[1:], parts)
    found = of_part(first)
    if len(jax.tree.leaves(parts)[0]) > 1:
        found, _ = lax.scan(lambda so_far, part: (so_far + of_part(part), None), found, rest)
    return found
