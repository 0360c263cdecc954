"""Image sides that a network takes: those at which its map of scores is aligned with the image."""

from collections.abc import Callable
from typing import Any


def nearest_sides(side: int, *, step: int, rest: int) -> tuple[int, ...]:
    """Return those of step * k + rest, k >= 0, that are nearest to `side`: itself, or both around.

    >>> nearest_sides(500, step=8, rest=1), nearest_sides(513, step=8, rest=1)
    ((497, 505), (513,))
    """
    if side < rest:
        return (rest,)
    below = side - (side - rest) % step
    return (side,) if below == side else (below, below + step)


def aligned_sides(side: int, *, upsampling: str, output_stride: int) -> tuple[int, ...]:
    """Return the sides nearest to `side` at which `upsampling` keeps scores in their places.

    With "align_corners" the corners are scores: output_stride k + 1. With "half_pixel" any side.
    """
    if upsampling == "half_pixel":
        return (side,)
    return nearest_sides(side, step=output_stride, rest=1)


def check_sides(image: Any, legal_sizes: Callable[[int], tuple[int, ...]]) -> None:
    """Raise ValueError unless height and width of image [n h w c] are legal; name the nearest.

    Args:
      image: an array or its shape and dtype.
      legal_sizes: of a side: itself if it is legal, else the nearest ones that are.
    """
    for name, side in zip(("height", "width"), image.shape[1:3], strict=True):
        legal = legal_sizes(side)
        if side not in legal:
            raise ValueError(
                f"image {name} {side} px does not fit the grid of scores; the nearest that do: "
                f"{', '.join(map(str, legal))}"
            )
