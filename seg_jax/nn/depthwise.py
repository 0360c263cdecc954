"""Depthwise convolutions as sums of shifted images; on TPUs with a gradient of their own."""

import functools
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from seg_jax.nn.conv_geometry import Geometry, image_size, kernel_size

Array = jax.Array


def shifts(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """A depthwise convolution as a sum of shifted images, each times its tap."""
    kh, kw, _, channels = kernel.shape
    out_h, out_w = geometry.output_size(image_size(x), (kh, kw))
    multiplier = channels // x.shape[3]
    if multiplier > 1:  # output channel i * multiplier + j reads input channel i
        x = jnp.broadcast_to(x[..., None], (*x.shape, multiplier)).reshape(*x.shape[:3], channels)
    dtype, wide = x.dtype, np.promote_types(x.dtype, np.float32)
    x = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0))).astype(wide)
    kernel = kernel.astype(wide)
    total = None
    for i in range(kh):
        top = i * geometry.rate[0]
        rows = slice(top, top + (out_h - 1) * geometry.stride[0] + 1, geometry.stride[0])
        for j in range(kw):
            left = j * geometry.rate[1]
            columns = slice(left, left + (out_w - 1) * geometry.stride[1] + 1, geometry.stride[1])
            part = x[:, rows, columns] * kernel[i, j, 0].reshape(1, 1, 1, channels)
            total = part if total is None else total + part
    assert total is not None  # a kernel has a tap
    return total.astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def shifts_with_gradient(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """`shifts` of stride 1 and multiplier 1, whose gradients are shifts and sums as well.

    That of `shifts` itself keeps one float32 image for every tap. Here the image is padded before
    it is converted: TPUs then fuse padding, shifts and sum into one pass.
    """
    wide = np.promote_types(x.dtype, np.float32)
    taps = kernel.astype(wide).reshape(-1, 1, 1, 1, kernel.shape[3])
    shifted = _shifted(x, kernel, geometry)
    total = sum(image * taps[number] for number, image in enumerate(shifted))
    return jnp.asarray(total).astype(x.dtype)


def _shifted(x: Array, kernel: Array, geometry: Geometry) -> list[Array]:
    """Return for each tap the pixels of x that it reads, in float32 at least."""
    wide = np.promote_types(x.dtype, np.float32)
    rows, columns = geometry.output_size(image_size(x), kernel_size(kernel))
    padded, (down, right) = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0))), geometry.rate
    return [
        padded[:, i * down : i * down + rows, j * right : j * right + columns].astype(wide)
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    ]


def _forward(x: Array, kernel: Array, geometry: Geometry) -> tuple[Array, tuple[Array, Array]]:
    return shifts_with_gradient(x, kernel, geometry), (x, kernel)


def _backward(
    geometry: Geometry, operands: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    x, kernel = operands
    turned = geometry.transposed(kernel_size(kernel))
    image: Any = shifts_with_gradient(gradient, kernel[::-1, ::-1], turned)
    wide = gradient.astype(np.promote_types(x.dtype, np.float32))
    sums = [(part * wide).sum((0, 1, 2)) for part in _shifted(x, kernel, geometry)]
    return image, jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


shifts_with_gradient.defvjp(_forward, _backward)
