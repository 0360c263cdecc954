"""Convolutions as matrix products: one for each tap, or one for all."""

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from seg_jax.nn.conv_geometry import Geometry, Pair, image_size, kernel_size

Array = jax.Array


def one_tap(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """An unpadded 1x1 convolution as one matrix product over the channels."""
    down, right = geometry.stride
    return _product(x[:, ::down, ::right], kernel[0, 0]).astype(x.dtype)


def taps(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """A convolution as one matrix product per tap, over the outputs whose input is in the image.

    At a large rate most taps see mostly padding; a tap that sees only padding costs nothing.
    """
    rows, columns = geometry.spans(image_size(x), kernel_size(kernel))
    out_h, out_w = geometry.output_size(image_size(x), kernel_size(kernel))
    total = jnp.zeros((x.shape[0], out_h, out_w, kernel.shape[3]), _wide(x))
    # Split, not indexed: the gradient is then concatenated once, not padded and added tap by tap.
    flat = kernel.reshape(-1, *kernel.shape[2:])
    each = iter(lax.split(flat, (1,) * len(flat)))
    for row in rows:
        for column in columns:
            tap = next(each)
            if row.count and column.count:
                part = _product(x[:, row.source, column.source], tap[0])
                total += jnp.pad(part, ((0, 0), row.around, column.around, (0, 0)))
    return total.astype(x.dtype)


def patches(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """A convolution as one matrix product of all outputs' patches and the kernel as it is.

    For few outputs of a large kernel, as in FCN's fc6: nothing of the kernel is copied
    (Chellapilla et al., "High Performance Convolutional Neural Networks for Document Processing",
    IWFHR 2006, section 3.1).
    """
    size = kernel_size(kernel)
    outputs = geometry.output_size(image_size(x), size)
    rows, columns = (
        [slice(tap * rate, tap * rate + (count - 1) * stride + 1, stride) for tap in range(taps)]
        for taps, count, rate, stride in zip(
            size, outputs, geometry.rate, geometry.stride, strict=True
        )
    )
    x = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
    parts = [x[:, row, column] for row in rows for column in columns]
    flat = kernel.reshape(-1, kernel.shape[3])
    return _product(jnp.concatenate(parts, axis=3), flat).astype(x.dtype)


def shifted(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """A convolution of stride 1 as one product with all taps, whose results are shifted and added.

    For many channels in and few out, as in GCN and in DeepLab v2's ASPP: the image is read once,
    and what is added is small (Vasudevan et al., ASAP 2017, arXiv:1704.04428, "kn2row").
    """
    rows, columns = geometry.spans(image_size(x), kernel_size(kernel))
    used = [(i, j) for i, row in enumerate(rows) for j, column in enumerate(columns)
            if row.count and column.count]  # fmt: skip
    cout = kernel.shape[3]
    every = jnp.concatenate([kernel[i, j] for i, j in used], axis=1)
    products = _product(x, every).reshape(*x.shape[:3], len(used), cout)
    total = None
    for tap, (i, j) in enumerate(used):
        part = products[:, rows[i].source, columns[j].source, tap]
        part = jnp.pad(part, ((0, 0), rows[i].around, columns[j].around, (0, 0)))
        total = part if total is None else total + part
    assert total is not None  # conv_trimmed takes those that read only padding
    return total.astype(x.dtype)


def transposed(x: Array, kernel: Array, stride: Pair, padding: tuple[Pair, Pair]) -> Array:
    """A transposed convolution as matrix products, one for each stride x stride block of taps.

    The blocks of one product lie side by side in the output; a kernel larger than its stride needs
    several products, shifted by whole strides. The gradient of XLA:CPU's transposed convolution
    with respect to the kernel is 6 to 70 times slower.
    """
    (down, right), (kh, kw, _, _) = stride, kernel.shape
    kernel = jnp.pad(kernel, ((0, -kh % down), (0, -kw % right), (0, 0), (0, 0)))
    height = (x.shape[1] - 1) * down + kh
    width = (x.shape[2] - 1) * right + kw
    (top, bottom), (left, after) = padding
    total = None
    for i in range(0, kh, down):
        for j in range(0, kw, right):
            part = _side_by_side(x, kernel[i : i + down, j : j + right])
            rows = (i - top, height - bottom - i - part.shape[1], 0)
            columns = (j - left, width - after - j - part.shape[2], 0)
            zero = jnp.zeros((), part.dtype)
            part = lax.pad(part, zero, ((0, 0, 0), rows, columns, (0, 0, 0)))
            total = part if total is None else total + part
    assert total is not None  # a kernel has a tap
    return total.astype(x.dtype)


def _side_by_side(x: Array, block: Array) -> Array:
    """Return x [n h w cin] times block [a b cin cout] as an image [n h*a w*b cout]."""
    (n, h, w, cin), (a, b, _, cout) = x.shape, block.shape
    block = block.transpose(2, 0, 1, 3).reshape(cin, a * b * cout)
    y = _product(x, block)
    return y.reshape(n, h, w, a, b, cout).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * a, w * b, cout)


def _wide(x: Array) -> np.dtype:
    """Return the dtype of partial sums, the same as in XLA's convolution."""
    return np.promote_types(x.dtype, np.float32)


def _product(x: Array, kernel: Array) -> Array:
    """Return x [... cin] times kernel [cin cout], as one of matrices: so is its gradient, then,
    which XLA:CPU computes up to twice as fast as that of a product of images.
    """
    flat = jnp.matmul(x.reshape(-1, x.shape[-1]), kernel, preferred_element_type=_wide(x))
    return flat.reshape(*x.shape[:-1], kernel.shape[1])
