"""Input sizes a network accepts: those at which its score map is aligned with the image."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import numpy as jnp


def is_known(*sizes: Any) -> bool:
    """Return whether sizes are numbers, and not symbols of `jax.export`."""
    return all(isinstance(size, int | np.integer) for size in sizes)


def arrays_for(*sizes: Any) -> Any:
    """Return NumPy for sizes that are numbers, and jax.numpy for symbols of `jax.export`."""
    return np if is_known(*sizes) else jnp


def nearest_sides(side: int, *, step: int, rest: int) -> tuple[int, ...]:
    """Return `side` if it is step * k + rest with k >= 0, else the nearest such numbers around it.

    >>> nearest_sides(500, step=8, rest=1), nearest_sides(513, step=8, rest=1)
    ((497, 505), (513,))
    """
    if side < rest:
        return (rest,)
    below = side - (side - rest) % step
    return (side,) if below == side else (below, below + step)


def aligned_sides(side: int, *, upsampling: str, output_stride: int) -> tuple[int, ...]:
    """Return the sides nearest to `side` at which `upsampling` keeps scores and pixels aligned.

    With "align_corners", corner scores lie on corner pixels, so sides are output_stride k + 1;
    with "half_pixel" any side will do.
    """
    if upsampling == "half_pixel":
        return (side,)
    return nearest_sides(side, step=output_stride, rest=1)


def legal_side(model: Any, side: int) -> int:
    """Return the smallest input side >= `side` that a model takes, by its `legal_sizes`."""
    return max(getattr(model, "legal_sizes", lambda side: (side,))(side))


def check_sides(image: Any, legal_sizes: Callable[[int], tuple[int, ...]]) -> None:
    """Raise ValueError, with the nearest legal sizes, if a side of image [n h w c] is not legal.

    Args:
      image: an array, or its shape and dtype.
      legal_sizes: returns a given side if it is legal, else the nearest legal ones.
    """
    for name, side in zip(("height", "width"), image.shape[1:3], strict=True):
        legal = legal_sizes(side)
        if side not in legal:
            raise ValueError(
                f"image {name} {side} px does not fit the grid of scores; the nearest that do: "
                f"{', '.join(map(str, legal))}"
            )
