"""Convolutions of large kernels with fewer products: the discrete Fourier transform of tiles.

M. Mathieu, M. Henaff, Y. LeCun, "Fast Training of Convolutional Networks through FFTs", ICLR 2014
(arXiv:1312.5851), on tiles that overlap, as in A. Zlateski, Z. Jia, K. Li, F. Durand, "FFT
Convolutions are Faster than Winograd on Modern CPUs, Here is Why" (arXiv:1809.07851). A tile of
16 x 16 pixels gives 10 x 10 outputs of 7 x 7 taps by 529 products instead of 4900.

Along each axis a tile has 2 real and 7 complex frequencies. A complex product is three real ones
(Gauss), whose factors are linear in the pixels: all transforms are products with real matrices.
"""

import dataclasses
import functools

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from seg_jax.nn import own_gradients, parts
from seg_jax.nn.conv_geometry import Geometry, Pair, image_size, kernel_size

Array = jax.Array

TILE = 16  # pixels of a tile, down and across

# So many factors of pixels at a time: more leave the cache, and need memory. In the gradient of the
# kernel so many times as the kernel has, all of which are added to each time.
AT_A_TIME, OF_KERNEL = 2**20, 2


def conv(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """A convolution of stride and rate 1 at any padding: x [n h w cin], kernel [kh kw cin cout].

    Both in float32, of at most 16 taps down and across. Gradients as of `own_gradients.conv`.
    """
    return own_gradients.conv(x, kernel, geometry, _FORM)


def share(size: Pair, kernel: Pair, geometry: Geometry) -> float:
    """Return its products over those of the convolution of an image of this size (h, w)."""
    outputs = geometry.output_size(size, kernel)
    found = 1.0
    for n, taps in zip(outputs, kernel, strict=True):
        of_axis = _transforms(taps)
        found *= -(-n // of_axis.step) * len(of_axis.image) / (n * taps)
    return found


def _value(x: Array, kernel: Array, geometry: Geometry) -> Array:
    return _Tiling.of(geometry, x, kernel, AT_A_TIME).filtered(x, kernel)


def _of_images(_: Array, kernel: Array, gradient: Array, geometry: Geometry) -> Array:
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    return _value(gradient, turned, geometry.transposed(kernel_size(kernel)))


def _of_the_kernel(x: Array, kernel: Array, gradient: Array, geometry: Geometry) -> Array:
    down, across = (len(_transforms(taps).image) for taps in kernel_size(kernel))
    most = max(AT_A_TIME, OF_KERNEL * down * across * kernel.shape[2] * kernel.shape[3])
    return _Tiling.of(geometry, x, kernel, most).correlated(x, gradient).reshape(kernel.shape)


_FORM = own_gradients.Form(_value, _of_images, _of_the_kernel)


@dataclasses.dataclass(frozen=True, eq=False)
class _Transforms:
    """y_i = sum_j d_(i+j) g_j of the pixels d and the taps g is output ((image d) (kernel g)).

    Attributes:
      image: [factors, TILE].
      kernel: [factors, taps].
      output: [step, factors].
    """

    image: np.ndarray
    kernel: np.ndarray
    output: np.ndarray

    @property
    def step(self) -> int:
        """Return the number of outputs of a tile."""
        return len(self.output)


@functools.cache
def _transforms(taps: int) -> _Transforms:
    """Return the transforms along an axis of so many taps."""
    step = TILE - taps + 1

    def wave(frequency: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        angle = 2 * np.pi * frequency * np.arange(length) / TILE
        return np.cos(angle), np.sin(angle)

    image, kernel, output = [], [], []
    for frequency in range(TILE // 2 + 1):
        # Of the pixels: (c - is) d; of the taps, which are correlated: (c + is) g; their product,
        # (re, im), gives output i (re c_i - im s_i) / TILE, and its conjugate as much again.
        (c, s), (ct, st) = wave(frequency, TILE), wave(frequency, taps)
        ci, si = (values / TILE for values in wave(frequency, step))
        if frequency in (0, TILE // 2):
            image, kernel, output = [*image, c], [*kernel, ct], [*output, ci]
            continue
        # re = first - third, im = first + second.
        image += [c - s, c, -s]
        kernel += [ct, st - ct, ct + st]
        output += [2 * (ci - si), -2 * si, -2 * ci]
    image, kernel, output = (np.float32(rows) for rows in (image, kernel, output))
    return _Transforms(image, kernel, np.ascontiguousarray(output.T))


@dataclasses.dataclass(frozen=True)
class _Tiling:
    """Tiles of images, a band of rows of one image at a time.

    Attributes:
      down: transforms of columns of pixels.
      across: of rows.
      padding: before an image: (top, left).
      outputs: (h, w) of an image.
      tiles: (rows, columns) of a band.
      bands: of an image.
    """

    down: _Transforms
    across: _Transforms
    padding: Pair
    outputs: Pair
    tiles: Pair
    bands: int

    @classmethod
    def of(cls, geometry: Geometry, x: Array, kernel: Array, most: int) -> "_Tiling":
        """Return the tiling of images x for a kernel [kh kw cin cout], at most so many factors of
        pixels at a time unless those of a row of tiles are more.
        """
        outputs = geometry.output_size(image_size(x), kernel_size(kernel))
        down, across = (_transforms(taps) for taps in kernel_size(kernel))
        rows, columns = -(-outputs[0] // down.step), -(-outputs[1] // across.step)
        numbers = len(down.image) * len(across.image) * columns * max(kernel.shape[2:])
        bands = parts.bands(rows, rows * numbers, most)
        padding = geometry.padding[0][0], geometry.padding[1][0]
        return cls(down, across, padding, outputs, (-(-rows // bands), columns), bands)

    def filtered(self, x: Array, kernel: Array) -> Array:
        """Return the convolution of images x with a kernel."""
        transformed, shape = self.of_kernel(kernel), (self.down.step, self.across.step, *self.tiles)

        def of_part(part: Array) -> Array:
            factors = self.of_image(part)
            y = lax.dot_general(factors, transformed, (((2,), (1,)), ((0,), (0,))))
            y = _both(self.down.output, self.across.output, self.apart(y))
            return y.reshape(*shape, -1).transpose(2, 0, 3, 1, 4)

        y = lax.map(of_part, self.parts(x))
        y = y.reshape(len(x), -1, self.tiles[1] * self.across.step, kernel.shape[3])
        return y[:, : self.outputs[0], : self.outputs[1]]

    def correlated(self, x: Array, gradient: Array) -> Array:
        """Return the gradient of the kernel, [kh kw, cin cout], from that of the outputs."""

        def of_part(part: tuple[Array, Array]) -> Array:
            factors, outputs = self.of_image(part[0]), self.of_gradient(part[1])
            return lax.dot_general(factors, outputs, (((1,), (1,)), ((0,), (0,))))

        sizes = self.tiles[0] * self.bands * self.down.step, self.tiles[1] * self.across.step
        pads = [(0, size - n) for size, n in zip(sizes, self.outputs, strict=True)]
        outputs = jnp.pad(gradient, ((0, 0), *pads, (0, 0)))
        outputs = outputs.reshape(-1, sizes[0] // self.bands, *outputs.shape[2:])
        total = parts.total(of_part, (self.parts(x), outputs))
        return _both(self.down.kernel.T, self.across.kernel.T, self.apart(total))

    def parts(self, x: Array) -> Array:
        """Return what is done at a time: [parts, h, w, c]."""
        (rows, columns), (top, left) = self.tiles, self.padding
        step, high = self.down.step, (rows - 1) * self.down.step + TILE
        wide = (columns - 1) * self.across.step + TILE
        tall = (self.bands - 1) * rows * step + high
        pads = (top, tall - top - x.shape[1]), (left, wide - left - x.shape[2])
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        bands = [x[:, i * rows * step : i * rows * step + high] for i in range(self.bands)]
        return jnp.stack(bands, 1).reshape(-1, high, wide, x.shape[3])

    def of_image(self, x: Array) -> Array:
        """Return the factors of all tiles of one of `parts`: [factors, tiles, c]."""
        rows, columns = (
            step * np.arange(tiles) + np.arange(TILE)[:, None]
            for step, tiles in zip((self.down.step, self.across.step), self.tiles, strict=True)
        )
        tiles = x[rows[:, None, :, None], columns[None, :, None, :]]
        y = _both(self.down.image, self.across.image, tiles.reshape(TILE, TILE, -1))
        return y.reshape(len(y), -1, x.shape[2])

    def of_gradient(self, y: Array) -> Array:
        """Return the factors of a part of the outputs' gradient: [factors, tiles, c]."""
        (rows, columns), (_, _, channels) = self.tiles, y.shape
        y = y.reshape(rows, self.down.step, columns, self.across.step, channels)
        y = y.transpose(1, 3, 0, 2, 4).reshape(self.down.step, self.across.step, -1)
        y = _both(self.down.output.T, self.across.output.T, y)
        return y.reshape(len(y), -1, channels)

    def of_kernel(self, kernel: Array) -> Array:
        """Return the kernel's factors: [factors, cin, cout]."""
        taps = np.kron(self.down.kernel, self.across.kernel)
        return jnp.matmul(taps, kernel.reshape(taps.shape[1], -1)).reshape(-1, *kernel.shape[2:])

    def apart(self, factors: Array) -> Array:
        """Return factors [down across, ...] as [down, across, rest]."""
        return factors.reshape(len(self.down.image), len(self.across.image), -1)


def _both(down: np.ndarray, across: np.ndarray, x: Array) -> Array:
    """Return the product of x [i, j, n] with both matrices [k, i] and [l, j]: [k l, n]."""
    each = jnp.broadcast_to(across, (x.shape[0], *across.shape))
    y = lax.dot_general(each, x, (((2,), (1,)), ((0,), (0,))))  # [i, l, n]
    return jnp.matmul(down, y.reshape(len(y), -1)).reshape(len(down) * len(across), -1)
