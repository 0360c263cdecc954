"""Measure every channel of a split's images: what occurs, and the mean and std to normalise by."""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from seg_jax import progress
from seg_jax.checks import UserError
from seg_jax.data import bands
from seg_jax.data.source import Source


@dataclasses.dataclass(frozen=True)
class Channels:
    """Statistics of the stored values, one entry a channel, over all pixels of all images.

    Attributes:
      lowest: smallest value.
      highest: largest value.
      mean: of the values.
      std: standard deviation, of the population.
      dtype: of the values; the widest, if images differ.
      range: that becomes 0..255; None: 8 bits, as stored.
    """

    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: str
    range: tuple[float, float] | None

    def flags(self) -> str:
        """Return the options of `train` that normalise by these statistics.

        Without a range, for values of more than 8 bits, the range is what occurs.
        """
        low, high = self.range or (min(self.lowest), max(self.highest))
        options = [f"--data.preprocessing.channels {len(self.mean)}"]
        scale = 1.0
        if self.range or self.dtype != "uint8":
            options.append(f"--data.preprocessing.range {low:g} {high:g}")
            scale = 255 / (high - low) if high > low else 1.0
        else:
            low = 0.0
        mean = " ".join(f"{(value - low) * scale:.6g}" for value in self.mean)
        # A channel that is constant says nothing: divided by 1, it stays 0.
        std = " ".join(f"{value * scale or 1.0:.6g}" for value in self.std)
        return " ".join(
            [*options, f"--data.preprocessing.mean {mean}", f"--data.preprocessing.std {std}"]
        )

    def as_text(self) -> str:
        """Return the statistics as a table, and the options of `train`."""
        lines = [f"  {'channel':<9}{'lowest':>12}{'highest':>12}{'mean':>12}{'std':>12}"]
        for number, row in enumerate(
            zip(self.lowest, self.highest, self.mean, self.std, strict=True)
        ):
            lines.append(f"  {number:<9}" + "".join(f"{value:>12.6g}" for value in row))
        return "\n".join([*lines, f"  values of type {self.dtype}; {self.flags()}"])


def measure(
    source: Source, channels: int, value_range: tuple[float, float] | None = None
) -> Channels:
    """Read every image of a split.

    Args:
      source: the split.
      channels: of its images; 3: of RGB.
      value_range: stored values that become 0 and 255, as they are to be used.

    Raises:
      UserError: an image cannot be read, or has a value that is not finite.
    """

    def sums(index: int) -> tuple[np.ndarray, np.dtype]:
        file = source.files(index)[0]
        values = bands.stored_values(file, channels)
        flat = values.reshape(-1, channels).astype(np.float64)
        if not np.isfinite(flat).all():
            raise UserError(f"{file}: has values that are not finite; replace them by a number")
        count = np.full(channels, len(flat), np.float64)
        mean = flat.mean(0)
        rows = (count, mean, ((flat - mean) ** 2).sum(0), flat.min(0), flat.max(0))
        return np.array(rows), values.dtype

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(sums, range(len(source)))
        name = f"measuring {source.name} {source.split}"
        parts, kinds = zip(
            *progress.bar(found, total=len(source), desc=name, unit="image"), strict=True
        )
    counts, means, squares, lowest, highest = np.stack(parts, axis=1)
    mean = (counts * means).sum(0) / counts.sum(0)
    # Pooled: within the images and between them; sums of raw squares would lose digits.
    spread = squares.sum(0) + (counts * (means - mean) ** 2).sum(0)
    std = np.sqrt(spread / counts.sum(0))
    plain = (lowest.min(0), highest.max(0), mean, std)
    dtype = np.result_type(*kinds).name
    return Channels(*(tuple(map(float, row)) for row in plain), dtype, value_range)
