"""Implementations of convolutions: XLA's operation, and forms that are faster on some platforms.

For each kind of operation several functions compute the same result; only the `choose_...`
functions pick one, by platform, at trace time. `scripts/bench_conv.py` measures the choices.
"""

import contextlib
import contextvars
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Literal

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.custom_derivatives import SymbolicZero

from seg_jax import checks
from seg_jax.nn import depthwise, fourier, products, separable, winograd
from seg_jax.nn.conv_geometry import Geometry, Pair, image_size, kernel_size
from seg_jax.nn.own_gradients import Convolution

Array = jax.Array

_CHOICES = ("auto", "xla")
_PLATFORMS = ("cpu", "gpu", "tpu")
_choice = contextvars.ContextVar("convolution lowering", default="auto")
_device: contextvars.ContextVar[tuple[str, str] | None] = contextvars.ContextVar(
    "platform and kind of device", default=None
)

# XLA:CPU's convolution is up to 1.6 times faster than one matrix product per tap if no tap reads
# padding; the products win once less than this share of them reads the image, here or in the
# gradient.
TAPS_BELOW = 0.8
# With more taps, padding each product to the full output costs more than is saved: SegNet-Basic's
# 7x7 on maps of 6 to 12 px made its training step 2.7 times slower. Unpadded convolutions have no
# such limit: each product already covers the full output.
MOST_TAPS = 16
# XLA:CPU's gradient with respect to the kernel is 1.3 to 4.5 times slower once the images outgrow
# the cache; in blocks of this many numbers it is not. More blocks would take long to compile.
BLOCK = 2**21
MOST_BLOCKS = 8

# An unpadded convolution with so many times more output channels than output pixels (FCN's fc6) is
# one product with the whole kernel, which products per tap would copy.
MORE_OUTPUTS = 8

# So many times more inputs than outputs make one product for all taps the faster form; its result
# may have this many times the image's numbers.
FEW_OUTPUTS = 16
MOST_PRODUCTS = 4
PACKET = 8  # numbers: Eigen's, which XLA:CPU's convolution reads channels in

# Transforms of tiles cost more than their products save with fewer channels (in and out), or fewer
# FLOPs an image, which do not repay compiling them; Winograd's also with fewer channels in times
# out, or a larger share of the products.
TRANSFORM_CHANNELS, TRANSFORM_FLOPS = 64, 6e8
WINOGRAD_PAIRS, WINOGRAD_SHARE = 64 * 128, 0.85
# With fewer channels in times out, only the kernel's gradient is faster so.
WINOGRAD_FILTERS = 128 * 256
# Measured with 7x7 taps. Kernels of more channels in times out become too many numbers.
FOURIER_PAIRS, FOURIER_SHARE = 128 * 128, 0.15

APART = ("TPU v6 lite",)  # batch norm's sums, from what writes the image
FEW_CHANNELS = 4  # up to so many a strided convolution on TPU is one of blocks of pixels
Shape = tuple[int, ...]
TransposedLowering = Callable[[Array, Array, Pair, tuple[Pair, Pair]], Array]


@contextlib.contextmanager
def use(choice: str) -> Iterator[None]:
    """Within the context, trace convolutions as XLA's ("xla") or as best for the platform ("auto").

    Read while tracing: a function that is already compiled keeps its implementation.
    """
    checks.one_of(_CHOICES, choice=choice)
    token = _choice.set(choice)
    try:
        yield
    finally:
        _choice.reset(token)


@contextlib.contextmanager
def for_platform(name: str, kind: str = "") -> Iterator[None]:
    """Within the context, choose lowerings as on that platform: "cpu", "gpu" or "tpu", and on
    devices of that kind, as JAX calls them.

    For compiling a program for a device that this machine does not have. Read while tracing, as
    `use` is.
    """
    checks.one_of(_PLATFORMS, platform=name)
    token = _device.set((name, kind))
    try:
        yield
    finally:
        _device.reset(token)


def platform() -> str:
    """Return the platform that is compiled for: of `for_platform`, else of the default device."""
    described = _device.get()
    return described[0] if described else jax.default_backend()


def _device_kind() -> str:
    described = _device.get()
    return described[1] if described else jax.devices()[0].device_kind


def choose_conv(size: Pair, kernel: Shape, geometry: Geometry) -> Convolution:
    """Return the lowering for a convolution of an image of this size on `platform()`.

    Args:
      size: (h, w).
      kernel: shape (kh, kw, cin, cout).
      geometry: stride, rate and padding.
    """
    height, width, cin, cout = kernel
    kernel_size, taps = (height, width), height * width
    if platform() == "tpu" and _choice.get() != "xla" and geometry.stride != (1, 1):
        return conv_space_to_depth
    if _choice.get() == "xla" or platform() != "cpu":
        return conv_xla
    if kernel_size == (1, 1) and geometry.padding == ((0, 0), (0, 0)):
        return products.one_tap
    if geometry.beyond(kernel_size) != ((0, 0), (0, 0)):
        return conv_trimmed
    narrow = FEW_OUTPUTS * cout <= cin and taps * cout <= MOST_PRODUCTS * cin
    if narrow and geometry.stride == (1, 1):
        return products.shifted
    few = min(kernel_size) >= 3 and taps <= MOST_TAPS
    unpadded = geometry.padding == ((0, 0), (0, 0))
    if unpadded and math.prod(geometry.output_size(size, kernel_size)) * MORE_OUTPUTS <= cout:
        return products.patches
    read = _read_share(size, kernel_size, geometry)
    if (few or unpadded) and read < TAPS_BELOW:
        return products.taps
    return _by_transform(size, kernel, geometry, read) or conv_blocks


def _by_transform(size: Pair, kernel: Shape, geometry: Geometry, read: float) -> Convolution | None:
    """Return the form by a transform of tiles, if a convolution is large enough to repay it."""
    height, width, cin, cout = kernel
    taps = height, width
    rows, columns = geometry.output_size(size, taps)
    flops = 2 * height * width * cin * cout * rows * columns
    few = min(cin, cout) < TRANSFORM_CHANNELS or flops < TRANSFORM_FLOPS
    if few or geometry.stride != (1, 1):
        return None
    if taps == (3, 3):
        saves = winograd.share(size, geometry) < WINOGRAD_SHARE * read
        return conv_winograd if saves and cin * cout >= WINOGRAD_PAIRS else None
    if geometry.rate != (1, 1) or max(taps) > fourier.TILE or cin * cout > FOURIER_PAIRS:
        return None
    return conv_fourier if fourier.share(size, taps, geometry) < FOURIER_SHARE else None


def _read_share(size: Pair, kernel_size: Pair, geometry: Geometry) -> float:
    """Return the smaller share of products that read no padding: convolution or its gradient.

    An unpadded 7x7 convolution reads no padding, but its gradient on an 11x11 image has a frame of
    6 zero pixels, which XLA:CPU multiplies: 15 times slower than taps.
    """
    share = geometry.inside_share(size, kernel_size)
    if geometry.stride != (1, 1):
        return share
    gradient = geometry.transposed(kernel_size)
    outputs = geometry.output_size(size, kernel_size)
    return min(share, gradient.inside_share(outputs, kernel_size))


def choose_depthwise() -> Convolution:
    """Return the lowering for a depthwise convolution on `platform()`."""
    if _choice.get() == "xla" or platform() != "cpu":
        return depthwise_xla
    return depthwise.shifts


def choose_transposed() -> TransposedLowering:
    """Return the lowering for a transposed convolution on `platform()`."""
    if _choice.get() == "xla" or platform() != "cpu":
        return transposed_xla
    return products.transposed


def choose_separable() -> Callable[[Array, np.ndarray, np.ndarray], Array]:
    """Return the lowering for constant matrices along rows and columns on `platform()`."""
    # XLA:GPU (0.10.2, no autotuning) finds no tiles for the einsum's float32 products of highest
    # precision and does not compile it; the batched form compiles.
    if _choice.get() == "xla" or platform() == "tpu":
        return separable.einsum
    return separable.batched


def choose_max_pool() -> Literal["positions", "reduce_window"]:
    """Return the form of max pooling and its gradient on `platform()`.

    "reduce_window" is XLA's, whose gradient is a select-and-scatter, cheaper by the TPU compiler's
    estimates (docs/accelerators.md). On GPUs it would add in no fixed order (flax#4233).
    """
    return "reduce_window" if platform() == "tpu" else "positions"


def choose_statistics() -> Literal["two_passes", "one_pass", "apart"]:
    """Return how batch norm's sums read the image on `platform()`: `norm.batch_statistics`.

    "apart" on v6e, with the gradient's sums: its compiler (libtpu 0.0.42) ends with a segmentation
    fault of networks where it may make them elsewhere, endlessly moving an instruction's users.
    """
    if platform() != "tpu":
        return "two_passes"
    return "apart" if _device_kind() in APART else "one_pass"


def choose_blocks_of_two() -> Literal["planes", "pairs"]:
    """Return the form of pooling with indices and unpooling of 2x2 windows on `platform()`.

    "planes" are arrays [n h 2 w 2 c], of which TPUs fill 2 of 8 sublanes; "pairs": `pool_pairs`.
    """
    return "pairs" if platform() == "tpu" else "planes"


def conv_xla(x: Array, kernel: Array, geometry: Geometry, *, groups: int = 1) -> Array:
    """XLA's convolution: x [n h w cin], kernel [kh kw cin/groups cout]."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=geometry.stride,
        padding=geometry.padding,
        rhs_dilation=geometry.rate,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def conv_space_to_depth(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """A strided convolution as one of stride 1 whose channels are blocks of stride x stride pixels.

    For pictures, whose three channels waste the TPU's lanes (as in MLPerf's ResNet); else XLA's.
    """
    if x.shape[3] > FEW_CHANNELS or geometry.rate != (1, 1):
        return conv_xla(x, kernel, geometry)
    (down, right), size = geometry.stride, kernel_size(kernel)
    cin, cout = kernel.shape[2:]
    rows, columns = -(-size[0] // down), -(-size[1] // right)
    height, width = geometry.output_size(image_size(x), size)

    def pads(axis: int, blocks: int) -> tuple[int, int, int]:  # before, after, between
        before = geometry.padding[axis][0]
        return before, blocks * geometry.stride[axis] - x.shape[1 + axis] - before, 0

    config = pads(0, height - 1 + rows), pads(1, width - 1 + columns)
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *config, (0, 0, 0)])
    x = x.reshape(x.shape[0], height - 1 + rows, down, width - 1 + columns, right, cin)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(*x.shape[:2], x.shape[3], down * right * cin)
    kernel = jnp.pad(kernel, ((0, -size[0] % down), (0, -size[1] % right), (0, 0), (0, 0)))
    kernel = kernel.reshape(rows, down, columns, right, cin, cout).transpose(0, 2, 1, 3, 4, 5)
    kernel = kernel.reshape(rows, columns, -1, cout)
    return conv_xla(x, kernel, Geometry((1, 1), (1, 1), ((0, 0), (0, 0))))


def conv_padded(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """XLA's convolution. Unpadded convolutions get one extra zero row; its output is dropped.

    XLA:CPU's code for padded images is 2.5 to 3.5 times faster, forward and backward.
    """
    if geometry.padding != ((0, 0), (0, 0)):
        return conv_xla(x, kernel, geometry)
    height, _ = geometry.output_size(image_size(x), kernel_size(kernel))
    padding = ((0, geometry.stride[0]), (0, 0))
    return conv_xla(x, kernel, dataclasses.replace(geometry, padding=padding))[:, :height]


def conv_trimmed(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """A convolution of stride 1 that skips outputs that read only padding: FCN pads 100 pixels."""
    beyond = geometry.beyond(kernel_size(kernel))
    padding = tuple(
        (before - less, after - lesser)
        for (before, after), (less, lesser) in zip(geometry.padding, beyond, strict=True)
    )
    trimmed = dataclasses.replace(geometry, padding=padding)
    y = choose_conv(image_size(x), kernel.shape, trimmed)(x, kernel, trimmed)
    return jnp.pad(y, ((0, 0), *beyond, (0, 0)))


def conv_winograd(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """A large 3x3 convolution of stride 1 by `winograd.conv`, of few channels only its gradient
    with respect to the kernel; by `conv_blocks` in less precision than float32, whose sums of
    pixels it would round.
    """
    if x.dtype != jnp.float32:
        return conv_blocks(x, kernel, geometry)
    few = kernel.shape[2] * kernel.shape[3] < WINOGRAD_FILTERS
    return winograd.conv(x, kernel, geometry, filtered_by=conv_blocks if few else None)


def conv_fourier(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """A large convolution of many taps by `fourier.conv`; by `conv_blocks` in less precision than
    float32, whose sums of pixels it would round.
    """
    form = fourier.conv if x.dtype == jnp.float32 else conv_blocks
    return form(x, kernel, geometry)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def conv_blocks(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """`conv_padded` in whole packets of channels, which are read 1.4 to 1.6 times faster than 21;
    its gradient with respect to the kernel is a sum over blocks of the image.
    """
    more = _to_packets(kernel.shape[2])
    x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, more)))
    return conv_padded(x, jnp.pad(kernel, ((0, 0), (0, 0), (0, more), (0, 0))), geometry)


def _to_packets(channels: int) -> int:
    """Return the channels that are missing to whole packets: none for a picture's three."""
    return -channels % PACKET if channels > PACKET else 0


@functools.partial(conv_blocks.defjvp, symbolic_zeros=True)
def _conv_blocks_jvp(geometry, primals, tangents):
    (x, kernel), (x_dot, kernel_dot) = primals, tangents
    y = conv_blocks(x, kernel, geometry)
    y_dot = jnp.zeros_like(y)
    if not isinstance(x_dot, SymbolicZero):
        # In its transpose, the gradient, the outputs are what is read in packets.
        whole = jnp.pad(kernel, ((0, 0), (0, 0), (0, 0), (0, _to_packets(kernel.shape[3]))))
        y_dot += conv_padded(x_dot, whole, geometry)[..., : kernel.shape[3]]
    if not isinstance(kernel_dot, SymbolicZero):
        # Its transpose is the gradient with respect to the kernel: one per block, then their sum.
        y_dot += _in_blocks(x, kernel_dot, geometry)
    return y, y_dot


def _in_blocks(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Compute `conv_padded` by groups of images, and by bands of rows if the images are few."""
    images = x.shape[0]
    height, width = geometry.output_size(image_size(x), kernel_size(kernel))
    numbers = max(x.size, images * height * width * kernel.shape[3])
    blocks = min(MOST_BLOCKS, round(numbers / BLOCK))
    if blocks <= 1 or geometry.stride != (1, 1):
        return conv_padded(x, kernel, geometry)
    groups = min(images, blocks)
    bands = min(height, -(-blocks // groups))
    rows = []
    for group in jnp.split(x, _bounds(images, groups)[1:-1]):
        bounds = _bounds(height, bands)
        parts = [
            _rows(group, kernel, geometry, begin, end)
            for begin, end in zip(bounds[:-1], bounds[1:], strict=True)
        ]
        rows.append(jnp.concatenate(parts, axis=1))
    return jnp.concatenate(rows)


def _bounds(length: int, parts: int) -> list[int]:
    return [length * i // parts for i in range(parts + 1)]


def _rows(x: Array, kernel: Array, geometry: Geometry, begin: int, end: int) -> Array:
    """Return the rows [begin, end) of the output, for stride 1."""
    (top, _), columns = geometry.padding
    first = begin - top
    last = end - top + (kernel.shape[0] - 1) * geometry.rate[0]
    padding = (max(0, -first), max(0, last - x.shape[1])), columns
    block = x[:, max(0, first) : min(last, x.shape[1])]
    return conv_padded(block, kernel, dataclasses.replace(geometry, padding=padding))


def depthwise_xla(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """XLA's grouped convolution, one group per channel: x [n h w c], kernel [kh kw 1 c*m]."""
    return conv_xla(x, kernel, geometry, groups=x.shape[3])


def transposed_xla(x: Array, kernel: Array, stride: Pair, padding: tuple[Pair, Pair]) -> Array:
    """XLA's convolution of x [n h w cin], with zeros between its pixels, and [kh kw cin cout]."""
    pads = zip(kernel.shape[:2], padding, strict=True)
    return lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        window_strides=(1, 1),
        padding=[(k - 1 - before, k - 1 - after) for k, (before, after) in pads],
        lhs_dilation=stride,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
