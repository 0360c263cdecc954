"""Convolutions of 3x3 taps with fewer products: Winograd's minimal filtering F(2x2, 3x3).

A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016
(arXiv:1509.09308), section 4.1: tiles of 4 x 4 pixels give 2 x 2 outputs by 16 products instead of
36. With a rate, the pixels of a tile are a rate apart.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from seg_jax.nn import own_gradients, parts
from seg_jax.nn.conv_geometry import Geometry, Pair, image_size
from seg_jax.nn.own_gradients import Convolution

Array = jax.Array

# B^T, G and A^T of the paper's section 4.1.
_IMAGE = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float32)
_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
# Of all 3 x 3 taps: [16, 9], as one product of matrices with a kernel.
_TAPS = np.kron(_KERNEL, _KERNEL)
_OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float32)
# The four pixels of a tile along one axis: (pair of pixels from the tile's first on, pixel in it).
_FOUR = ((0, 0), (0, 1), (1, 0), (1, 1))

# So many numbers of transformed images at a time: more leave the cache, and need memory.
AT_A_TIME = 2**23


def share(size: Pair, geometry: Geometry) -> float:
    """Return its products over those of the 3x3 convolution of an image of this size (h, w).

    4/9 if the outputs are whole tiles, of twice the rate.
    """
    outputs = geometry.output_size(size, (3, 3))
    (rows, columns), (down, right) = _tiles(outputs, geometry.rate), geometry.rate
    return 16 * rows * columns * down * right / (9 * outputs[0] * outputs[1])


def conv(
    x: Array, kernel: Array, geometry: Geometry, *, filtered_by: Convolution | None = None
) -> Array:
    """A 3x3 convolution of stride 1 at any rate and padding: x [n h w cin], kernel [3 3 cin cout].

    Both in float32; the largest rounding error is at most three times XLA's convolution's in the
    tests. Gradients as of `own_gradients.conv`.

    Args:
      x: images.
      kernel: of 3x3 taps.
      geometry: of stride 1.
      filtered_by: another form of the convolution, by which the value and the gradient of the
        images are computed: only the kernel's gradient is Winograd's, then.
    """
    form = own_gradients.of_kernel_only(filtered_by, _FORM) if filtered_by else _FORM
    return own_gradients.conv(x, kernel, geometry, form)


def _value(x: Array, kernel: Array, geometry: Geometry) -> Array:
    tiling = _Tiling.of(geometry, x, kernel)
    return tiling.filtered(x, _of_kernel(kernel), channels=1)


def _of_images(_: Array, kernel: Array, gradient: Array, geometry: Geometry) -> Array:
    back = _Tiling.of(geometry.transposed((3, 3)), gradient, kernel)
    return back.filtered(gradient, _of_kernel(kernel, _TAPS[:, ::-1]), channels=2)


def _of_the_kernel(x: Array, kernel: Array, gradient: Array, geometry: Geometry) -> Array:
    products = _Tiling.of(geometry, x, kernel).correlated(x, gradient)
    return jnp.matmul(_TAPS.T, products.reshape(16, -1)).reshape(kernel.shape)


_FORM = own_gradients.Form(_value, _of_images, _of_the_kernel)


@dataclasses.dataclass(frozen=True)
class _Tiling:
    """Tiles of images, and those done at a time: images, or a band of one image's rows.

    Attributes:
      rate: distance of a tile's pixels.
      padding: before an image: (top, left).
      outputs: (h, w) of an image.
      tiles: (rows, columns) of an image, whole bands.
      bands: of an image.
      images: at a time; 1 with several bands.
    """

    rate: Pair
    padding: Pair
    outputs: Pair
    tiles: Pair
    bands: int
    images: int

    @classmethod
    def of(cls, geometry: Geometry, x: Array, kernel: Array) -> "_Tiling":
        """Return the tiling of images x for a kernel [3 3 cin cout]."""
        outputs = geometry.output_size(image_size(x), (3, 3))
        rows, columns = _tiles(outputs, geometry.rate)
        # Of one image. Each part reads the whole kernel, and writes one in the gradient.
        numbers = 16 * rows * columns * math.prod(geometry.rate) * max(kernel.shape[2:])
        most = max(AT_A_TIME, 16 * kernel.shape[2] * kernel.shape[3])
        bands = parts.bands(rows, numbers, most)
        whole = [n for n in range(2, len(x) + 1) if len(x) % n == 0 and n * numbers <= most]
        return cls(
            rate=geometry.rate,
            padding=(geometry.padding[0][0], geometry.padding[1][0]),
            outputs=outputs,
            tiles=(-(-rows // bands) * bands, columns),
            bands=bands,
            images=max(whole, default=1),
        )

    def filtered(self, x: Array, kernel: Array, *, channels: int) -> Array:
        """Convolve images with `_of_kernel`'s, whose axis `channels` is theirs."""
        (_, columns), (down, right) = self.tiles, self.rate

        def of_part(part: Array) -> Array:
            image = self.of_image(part)
            y = lax.dot_general(image, kernel, (((2,), (channels,)), ((0,), (0,))))
            y = y.reshape(4, 4, self.images, -1, down, columns, right, y.shape[-1])
            y = _mix(_OUTPUT, [y[:, i] for i in range(4)], 5)
            y = _mix(_OUTPUT, [y[i] for i in range(4)], 2)  # [images rows 2 down columns 2 right c]
            return y.reshape(self.images, -1, columns * 2 * right, y.shape[-1])

        padded = self.padded(x)
        y = lax.map(of_part, padded) if len(padded) > 1 else of_part(padded[0])
        y = y.reshape(len(x), -1, columns * 2 * right, y.shape[-1])
        return y[:, : self.outputs[0], : self.outputs[1]]

    def correlated(self, x: Array, gradient: Array) -> Array:
        """Return the gradient of `_of_kernel`'s, [16, cin, cout], from that of the outputs."""

        def of_part(part: tuple[Array, Array]) -> Array:
            image, outputs = self.of_image(part[0]), self.of_gradient(part[1])
            return lax.dot_general(image, outputs, (((1,), (1,)), ((0,), (0,))))

        (rows, columns), (down, right), (height, width) = self.tiles, self.rate, self.outputs
        pads = ((0, 0), (0, 2 * down * rows - height), (0, 2 * right * columns - width), (0, 0))
        shape = (-1, self.images, rows // self.bands, 2, down, columns, 2, right)
        outputs = jnp.pad(gradient, pads).reshape(*shape, gradient.shape[3])
        return parts.total(of_part, (self.padded(x), outputs))

    def padded(self, x: Array) -> Array:
        """Return what is done at a time: [parts, images, rows + 1, 2, down, columns + 1, 2, right,
        c], with the row and the column of pairs of pixels behind the tiles.
        """
        sizes = zip(self.padding, self.rate, self.tiles, image_size(x), strict=True)
        pads = [(before, 2 * r * (tiles + 1) - size - before) for before, r, tiles, size in sizes]
        (rows, columns), (down, right), (n, _, _, channels) = self.tiles, self.rate, x.shape
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        x = x.reshape(n, rows + 1, 2, down, columns + 1, 2, right, channels)
        if self.bands > 1:
            height = rows // self.bands
            x = jnp.stack([x[:, i : i + height + 1] for i in range(0, rows, height)], 1)
        return x.reshape(-1, self.images, *x.shape[-7:])

    def of_image(self, x: Array) -> Array:
        """Return B^T x B of all tiles of one of `padded`: [16, pixels, c]."""
        rows, columns = x.shape[1] - 1, x.shape[4] - 1
        y = _mix(_IMAGE, [x[:, i : i + rows, j] for i, j in _FOUR], 0)
        y = _mix(_IMAGE, [y[:, :, :, :, i : i + columns, j] for i, j in _FOUR], 1)
        return y.reshape(16, -1, y.shape[-1])

    def of_gradient(self, y: Array) -> Array:
        """Return A y A^T of [images rows 2 down columns 2 right c]: [16, pixels, c]."""
        y = _mix(_OUTPUT.T, [y[:, :, 0], y[:, :, 1]], 0)
        y = _mix(_OUTPUT.T, [y[:, :, :, :, :, 0], y[:, :, :, :, :, 1]], 1)
        return y.reshape(16, -1, y.shape[-1])


def _tiles(outputs: Pair, rate: Pair) -> Pair:
    """Return (rows, columns) of tiles of 2 x 2 outputs that are a rate apart."""
    rows, columns = (-(-n // (2 * r)) for n, r in zip(outputs, rate, strict=True))
    return rows, columns


def _of_kernel(kernel: Array, taps: np.ndarray = _TAPS) -> Array:
    """Return G g G^T: [16, cin, cout]; of the flipped kernel with the taps' columns flipped."""
    return jnp.matmul(taps, kernel.reshape(9, -1)).reshape(16, *kernel.shape[2:])


def _mix(matrix: np.ndarray, column: Sequence[Array], axis: int) -> Array:
    """Return the matrix's product with a column of arrays, its rows along a new axis.

    One operation for all rows: sums without the products with zero run a tenth faster, and compile
    five times as long.
    """
    shape = (*(1,) * axis, -1, *(1,) * (column[0].ndim - axis))
    factors = [values.reshape(shape) for values in matrix.T]
    terms = [f * jnp.expand_dims(x, axis) for f, x in zip(factors, column, strict=True)]
    return functools.reduce(jnp.add, terms)
