"""Coordinate maps: where the samples of a feature map lie in the image, after strided layers."""

from typing import NamedTuple


class Grid(NamedTuple):
    """Sample i of a map is centred on image pixel `stride * i + origin`, along one axis.

    The default is the image itself. Halves are exact: a 2x2 pool is centred between two pixels.

    >>> Grid().conv(3, padding=100).conv(2, stride=2)
    Grid(stride=2.0, origin=-98.5)
    """

    stride: float = 1.0
    origin: float = 0.0

    def conv(self, kernel: int, *, stride: int = 1, padding: int = 0, rate: int = 1) -> "Grid":
        """Return the grid after a convolution or pooling with `padding` before the first sample.

        Window i is centred on input sample `stride * i + rate * (kernel - 1) / 2 - padding`.
        """
        centre = rate * (kernel - 1) / 2 - padding
        return Grid(self.stride * stride, self.origin + self.stride * centre)

    def transposed(self, kernel: int, *, stride: int, padding: int = 0) -> "Grid":
        """Return the grid after a transposed convolution: the inverse of `conv`."""
        step = self.stride / stride
        return Grid(step, self.origin - step * ((kernel - 1) / 2 - padding))

    def offset_of(self, target: "Grid") -> int:
        """Return the index, in this map, of the sample at the same pixel as sample 0 of `target`.

        Raises:
          ValueError: the strides differ, or the maps are offset by a fraction of a sample.
        """
        offset = (target.origin - self.origin) / self.stride
        if self.stride != target.stride or offset != int(offset):
            raise ValueError(f"no crop aligns {self} with {target}")
        return int(offset)
