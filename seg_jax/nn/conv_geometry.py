"""Where the taps of a convolution fall, pixel by pixel."""

import dataclasses
import math

Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Where the taps of a convolution fall; (vertical, horizontal), padding (before, after)."""

    stride: Pair
    rate: Pair
    padding: tuple[Pair, Pair]

    def output_size(self, size: Pair, kernel: Pair) -> Pair:
        """Return the output's (h, w); ValueError where the kernel does not fit."""
        extent = [(k - 1) * r + 1 for k, r in zip(kernel, self.rate, strict=True)]
        padded = [n + sum(p) for n, p in zip(size, self.padding, strict=True)]
        if min(p - e for p, e in zip(padded, extent, strict=True)) < 0:
            raise ValueError(
                f"input of {size[0]}x{size[1]} with padding {self.padding} is smaller than the "
                f"kernel's extent of {extent[0]}x{extent[1]}: give a larger input or more padding"
            )
        h, w = ((p - e) // s + 1 for p, e, s in zip(padded, extent, self.stride, strict=True))
        return h, w

    def spans(self, size: Pair, kernel: Pair) -> tuple[list["Span"], list["Span"]]:
        """Return what each row and each column of taps reads of an image of this size."""
        outputs = self.output_size(size, kernel)
        rows, columns = (
            [self._span(tap, axis, size[axis], outputs[axis]) for tap in range(kernel[axis])]
            for axis in range(2)
        )
        return rows, columns

    def _span(self, tap: int, axis: int, size: int, outputs: int) -> "Span":
        """Find the outputs o with 0 <= o * stride + offset < size."""
        stride = self.stride[axis]
        offset = tap * self.rate[axis] - self.padding[axis][0]
        first = max(0, -(offset // stride))  # ceil(-offset / stride)
        last = min(outputs - 1, (size - 1 - offset) // stride)
        source = slice(first * stride + offset, last * stride + offset + 1, stride)
        return Span(max(0, last - first + 1), source, (first, outputs - 1 - last))

    def inside_share(self, size: Pair, kernel: Pair) -> float:
        """Return which share of the products tap * pixel reads the image, not its padding."""
        read = [sum(s.count for s in spans) for spans in self.spans(size, kernel)]
        return math.prod(read) / math.prod(self.output_size(size, kernel) + kernel)

    def transposed(self, kernel: Pair) -> "Geometry":
        """Return the convolution of stride 1 that is this one's gradient (of stride 1 as well)."""
        reach = [(k - 1) * r for k, r in zip(kernel, self.rate, strict=True)]
        (top, bottom), (left, right) = self.padding
        v, h = reach
        return Geometry((1, 1), self.rate, ((v - top, v - bottom), (h - left, h - right)))

    def beyond(self, kernel: Pair) -> tuple[Pair, Pair]:
        """Return by how much the padding exceeds the kernel's reach; 0 unless the stride is 1.

        That many outputs at each side read padding only.
        """
        if self.stride != (1, 1):
            return ((0, 0), (0, 0))
        reach = [(k - 1) * r for k, r in zip(kernel, self.rate, strict=True)]
        rows, columns = (
            tuple(max(0, pad - most) for pad in pads)
            for pads, most in zip(self.padding, reach, strict=True)
        )
        return rows, columns


@dataclasses.dataclass(frozen=True)
class Span:
    """What one row or column of taps reads inside the image."""

    count: int  # outputs that read the image there; where it is 0, the rest means nothing
    source: slice  # of the image
    around: Pair  # outputs before and after, which read padding
