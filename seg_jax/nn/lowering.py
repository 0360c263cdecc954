"""How a convolution is carried out: XLA's own operation, or a formulation that is faster somewhere.

Every function here computes the same convolution; `choose_conv` and `choose_depthwise` are the one
place that picks, by platform, at trace time. `scripts/bench_conv.py` measures the choices.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator

import jax
from jax import lax
from jax import numpy as jnp

from seg_jax import checks

Array = jax.Array
Pair = tuple[int, int]

_CHOICES = ("auto", "xla")
_choice = contextvars.ContextVar("convolution lowering", default="auto")

# From this rate on, nine matrix products beat XLA:CPU's dilated 3x3 (at rates 2-4 they do not).
TAPS_FROM_RATE = 6


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


Lowering = Callable[[Array, Array, Geometry], Array]


@contextlib.contextmanager
def use(choice: str) -> Iterator[None]:
    """Within the context, trace convolutions as XLA's own ("xla") or as fits the platform ("auto").

    Read while tracing: a function that is already compiled keeps what it was compiled with.
    """
    checks.one_of(_CHOICES, choice=choice)
    token = _choice.set(choice)
    try:
        yield
    finally:
        _choice.reset(token)


def choose_conv(kernel_size: Pair, geometry: Geometry) -> Lowering:
    """Return the lowering for a convolution of this kernel size on the present platform."""
    if _choice.get() == "xla" or jax.default_backend() != "cpu":
        return conv_xla
    if kernel_size == (1, 1) and geometry.padding == ((0, 0), (0, 0)):
        return conv_matmul
    if max(geometry.rate) >= TAPS_FROM_RATE and geometry.stride == (1, 1):
        return conv_taps
    return conv_xla


def choose_depthwise() -> Lowering:
    """Return the lowering for a depthwise convolution on the present platform."""
    if _choice.get() == "xla" or jax.default_backend() != "cpu":
        return depthwise_xla
    return depthwise_shifts


def conv_xla(x: Array, kernel: Array, geometry: Geometry, *, groups: int = 1) -> Array:
    """XLA's own convolution: x [n h w cin], kernel [kh kw cin/groups cout]."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=geometry.stride,
        padding=geometry.padding,
        rhs_dilation=geometry.rate,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def conv_matmul(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """A 1x1 convolution without padding, as one matrix product over the channels."""
    down, right = geometry.stride
    return x[:, ::down, ::right] @ kernel[0, 0]


def conv_taps(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """A convolution as one matrix product per tap, each over the outputs whose input is inside.

    At a large rate most taps see mostly padding, and a tap that sees only padding costs nothing.
    """
    out_h, out_w = geometry.output_size(x.shape[1:3], kernel.shape[:2])
    total = jnp.zeros((), x.dtype)
    for i in range(kernel.shape[0]):
        rows = _inside(i, 0, x.shape[1], out_h, geometry)
        for j in range(kernel.shape[1]):
            columns = _inside(j, 1, x.shape[2], out_w, geometry)
            if rows is None or columns is None:
                continue
            part = x[:, rows.source, columns.source] @ kernel[i, j]
            part = jnp.pad(part, ((0, 0), rows.around, columns.around, (0, 0)))
            total = part if total.ndim == 0 else total + part
    shape = (x.shape[0], out_h, out_w, kernel.shape[3])
    return total if total.ndim else jnp.zeros(shape, x.dtype)


@dataclasses.dataclass(frozen=True)
class _Span:
    source: slice  # of the input, what one tap reads inside the image
    around: Pair  # outputs before and after, for which this tap reads padding


def _inside(tap: int, axis: int, size: int, outputs: int, geometry: Geometry) -> _Span | None:
    """Return the outputs o with 0 <= o * stride + offset < size, None where there are none."""
    stride = geometry.stride[axis]
    offset = tap * geometry.rate[axis] - geometry.padding[axis][0]
    first = max(0, -(offset // stride))  # ceil(-offset / stride)
    last = min(outputs - 1, (size - 1 - offset) // stride)
    if last < first:
        return None
    start = first * stride + offset
    return _Span(slice(start, last * stride + offset + 1, stride), (first, outputs - 1 - last))


def depthwise_xla(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """XLA's grouped convolution, one group a channel: x [n h w c], kernel [kh kw 1 c*m]."""
    return conv_xla(x, kernel, geometry, groups=x.shape[3])


def depthwise_shifts(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """A depthwise convolution as a sum of shifted images, each times its tap."""
    kh, kw, _, channels = kernel.shape
    out_h, out_w = geometry.output_size(x.shape[1:3], (kh, kw))
    multiplier = channels // x.shape[3]
    if multiplier > 1:  # output channel i * multiplier + j reads input channel i
        x = jnp.broadcast_to(x[..., None], (*x.shape, multiplier)).reshape(*x.shape[:3], channels)
    x = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
    total = None
    for i in range(kh):
        top = i * geometry.rate[0]
        rows = slice(top, top + (out_h - 1) * geometry.stride[0] + 1, geometry.stride[0])
        for j in range(kw):
            left = j * geometry.rate[1]
            columns = slice(left, left + (out_w - 1) * geometry.stride[1] + 1, geometry.stride[1])
            part = x[:, rows, columns] * kernel[i, j, 0].reshape(1, 1, 1, channels)
            total = part if total is None else total + part
    return total
