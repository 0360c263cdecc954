"""Depthwise convolutions as sums of shifted images."""

import jax
import numpy as np
from jax import numpy as jnp

from seg_jax.nn.conv_geometry import Geometry, image_size

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
