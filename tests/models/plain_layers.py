"""Layers written out in NumPy and SciPy, one image [h w c] at a time, in float64: slow and plain.

They share no code with seg_jax: the networks of the papers are rebuilt from them in the tests.
"""

import jax
import numpy as np
from scipy import signal


def conv(x, params, *, pad):
    """Correlate with every filter and add its bias."""
    kernel, bias = np.float64(params["kernel"]), np.float64(params["bias"])
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    if kernel.shape[:2] == (1, 1):
        return x @ kernel[0, 0] + bias
    maps = [
        signal.correlate(x, kernel[..., filter_], mode="valid", method="direct")[..., 0]
        for filter_ in range(kernel.shape[-1])
    ]
    return np.stack(maps, axis=-1) + bias


def relu(x):
    return np.where(x > 0, x, 0.0)


def max_pool(x):
    """2x2 pooling with stride 2; a last odd row or column is a window of its own (Caffe)."""
    h, w, c = x.shape
    out = np.empty(((h + 1) // 2, (w + 1) // 2, c))
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max(axis=(0, 1))
    return out


def deconv(x, kernel, stride, bias=0.0):
    """Every pixel stamps its kernel [kh kw cin cout] onto the output, `stride` apart."""
    kernel = np.float64(kernel)
    kh, kw, _, cout = kernel.shape
    h, w, _ = x.shape
    out = np.zeros(((h - 1) * stride + kh, (w - 1) * stride + kw, cout))
    for i in range(h):
        for j in range(w):
            stamp = np.tensordot(x[i, j], kernel, axes=(0, 2))
            out[i * stride : i * stride + kh, j * stride : j * stride + kw] += stamp
    return out + np.float64(bias)


def bilinear_deconv(x, size, stride):
    """Caffe's deconvolution with the release's bilinear filter for every channel."""
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 == 1 else factor - 0.5
    rows, columns = np.ogrid[:size, :size]
    kernel = (1 - abs(rows - centre) / factor) * (1 - abs(columns - centre) / factor)
    return deconv(x, kernel[:, :, None, None] * np.eye(x.shape[-1]), stride)


def random_params(model, image_shape, rng):
    """Random parameters of a model, float32: He's deviation for kernels, none of them zero."""
    shapes = jax.eval_shape(
        lambda key: model.init(key, np.zeros(image_shape, np.float32), train=False),
        jax.random.key(0),
    )

    def draw(leaf):
        fan_in = max(1, np.prod(leaf.shape[:-1]))
        return np.float32(rng.normal(0, np.sqrt(2 / fan_in), leaf.shape))

    return jax.tree.map(draw, shapes)["params"]


def assert_close(actual, expected, tolerance=1e-4):
    """Largest difference relative to the largest value."""
    assert actual.shape == expected.shape
    assert abs(actual - expected).max() <= tolerance * abs(expected).max()
