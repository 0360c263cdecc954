"""The largest batch that fits in a device's memory, by few compilations."""

from collections.abc import Callable

MOST_COMPILATIONS = 5


def largest(needed: Callable[[int], int], *, limit: int, first: tuple[int, int]) -> int:
    """Return the largest number of images a device that fits, within what was tried.

    A program's memory is nearly a constant plus so much an image, so that two compilations predict
    the largest batch and a few more correct the prediction. A larger one may fit where the search
    ends after MOST_COMPILATIONS.

    Args:
      needed: bytes that a number of images a device needs; compiles a program.
      limit: bytes there are.
      first: a number of images whose bytes are known.

    Returns:
      0 if not even one image fits.
    """
    known = dict([first])
    for _ in range(MOST_COMPILATIONS):
        fitting = max((n for n, size in known.items() if size <= limit), default=0)
        beyond = min((n for n, size in known.items() if size > limit), default=None)
        if beyond == fitting + 1:
            break
        guess = _predict(known, limit)
        low, high = fitting + 1, beyond - 1 if beyond else None
        guess = max(low, guess if high is None else min(guess, high))
        known[guess] = needed(guess)
    return max((n for n, size in known.items() if size <= limit), default=0)


def _predict(known: dict[int, int], limit: int) -> int:
    """Return where the line through the two largest known points meets the limit."""
    if len(known) == 1:
        ((images, size),) = known.items()
        return max(1, images * 2 if size <= limit else int(images * limit / size))
    (a, size_a), (b, size_b) = sorted(known.items())[-2:]
    slope = (size_b - size_a) / (b - a)
    if slope <= 0:
        return b * 2
    return int(a + (limit - size_a) / slope)
