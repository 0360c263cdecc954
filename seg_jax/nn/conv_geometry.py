"""Stride, rate and padding of a convolution, and which pixels each of its taps reads."""

import dataclasses
import math

import jax

Pair = tuple[int, int]


def image_size(x: jax.Array) -> Pair:
    """Return (h, w) of images [n h w c]."""
    h, w = x.shape[1:3]
    return h, w


def kernel_size(kernel: jax.Array) -> Pair:
    """Return (kh, kw) of a kernel [kh kw cin cout]."""
    kh, kw = kernel.shape[:2]
    return kh, kw


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Geometry of a convolution: (vertical, horizontal) values; padding is (before, after)."""

    stride: Pair
    rate: Pair
    padding: tuple[Pair, Pair]

    def output_size(self, size: Pair, kernel: Pair) -> Pair:
        """Return (h, w) of the output; raise ValueError if the kernel does not fit."""
        extent = [(k - 1) * r + 1 for k, r in zip(kernel, self.rate, strict=True)]
        padded = [n + sum(p) for n, p in zip(size, self.padding, strict=True)]
        if any(p < e for p, e in zip(padded, extent, strict=True)):
            raise ValueError(
                f"input of {size[0]}x{size[1]} with padding {self.padding} is smaller than the "
                f"kernel's extent of {extent[0]}x{extent[1]}: give a larger input or more padding"
            )
        h, w = ((p - e) // s + 1 for p, e, s in zip(padded, extent, self.stride, strict=True))
        return h, w

    def spans(self, size: Pair, kernel: Pair) -> tuple[list["Span"], list["Span"]]:
        """Return which pixels each row and each column of taps reads in an image of this size."""
        outputs = self.output_size(size, kernel)
        rows, columns = (
            [self._span(tap, axis, size[axis], outputs[axis]) for tap in range(kernel[axis])]
            for axis in range(2)
        )
        return rows, columns

    def _span(self, tap: int, axis: int, size: int, outputs: int) -> "Span":
        """Return the outputs o for which 0 <= o * stride + offset < size."""
        stride = self.stride[axis]
        offset = tap * self.rate[axis] - self.padding[axis][0]
        first = max(0, -(offset // stride))  # ceil(-offset / stride)
        last = min(outputs - 1, (size - 1 - offset) // stride)
        source = slice(first * stride + offset, last * stride + offset + 1, stride)
        return Span(max(0, last - first + 1), source, (first, outputs - 1 - last))

    def inside_share(self, size: Pair, kernel: Pair) -> float:
        """Return the fraction of the products tap * pixel that read the image, not its padding."""
        read = [sum(s.count for s in spans) for spans in self.spans(size, kernel)]
        return math.prod(read) / math.prod(self.output_size(size, kernel) + kernel)

    def transposed(self, kernel: Pair) -> "Geometry":
        """Return the geometry of the input gradient of this convolution (stride 1 only)."""
        reach = [(k - 1) * r for k, r in zip(kernel, self.rate, strict=True)]
        (top, bottom), (left, right) = self.padding
        v, h = reach
        return Geometry((1, 1), self.rate, ((v - top, v - bottom), (h - left, h - right)))

    def beyond(self, kernel: Pair) -> tuple[Pair, Pair]:
        """Return how many outputs on each side read only padding; 0 unless the stride is 1."""
        if self.stride != (1, 1):
            return ((0, 0), (0, 0))
        reach = [(k - 1) * r for k, r in zip(kernel, self.rate, strict=True)]
        (top, bottom), (left, right) = (
            (max(0, before - most), max(0, after - most))
            for (before, after), most in zip(self.padding, reach, strict=True)
        )
        return (top, bottom), (left, right)


@dataclasses.dataclass(frozen=True)
class Span:
    """The part of the image that one row or column of taps reads."""

    count: int  # outputs that read the image; if 0, the other fields are meaningless
    source: slice  # of the image
    around: Pair  # outputs before and after these, which read padding
