"""Width multiplier: channel counts of narrower or wider networks."""

from seg_jax import checks


def scaled(channels: int, width: float) -> int:
    """Return `channels * width`, rounded, but at least 4 (or `channels`, if that is smaller).

    >>> scaled(64, 1.0), scaled(64, 0.125), scaled(16, 0.0625)
    (64, 8, 4)
    """
    checks.positive(width=width)
    return max(min(4, channels), round(channels * width))
