"""Layers written out in NumPy and SciPy, one image [h w c] at a time, in float64: slow and plain.

They share no code with seg_jax: the networks of the papers are rebuilt from them in the tests.
"""

import functools

import jax
import numpy as np
from scipy import signal

# Compiles in half the time: the tests run a network once or twice.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def conv(x, params, *, pad, stride=1, rate=1):
    """Correlate with every filter, zeros between its taps at a rate above 1, and add its bias."""
    kernel, bias = np.float64(params["kernel"]), np.float64(params.get("bias", 0.0))
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    if kernel.shape[:2] == (1, 1):
        return x[::stride, ::stride] @ kernel[0, 0] + bias
    if rate > 1:
        size = (kernel.shape[0] - 1) * rate + 1
        stuffed = np.zeros((size, size, *kernel.shape[2:]))
        stuffed[::rate, ::rate] = kernel
        kernel = stuffed
    maps = [
        signal.correlate(x, kernel[..., filter_], mode="valid", method="direct")[..., 0]
        for filter_ in range(kernel.shape[-1])
    ]
    return np.stack(maps, axis=-1)[::stride, ::stride] + bias


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


def windows(x, window, stride, pad):
    """Yield (row, column, slices of the window) of Caffe's pools: a last window that is only partly
    filled counts if it starts on the image or on the padding before it.
    """
    starts = []
    for side in x.shape[:2]:
        count = -((side + 2 * pad - window) // -stride) + 1
        if (count - 1) * stride >= side + pad:
            count -= 1
        starts.append([i * stride - pad for i in range(count)])
    for i, top in enumerate(starts[0]):
        for j, left in enumerate(starts[1]):
            rows = slice(max(top, 0), top + window)
            columns = slice(max(left, 0), left + window)
            yield i, j, (rows, columns)


def _pooled(x, window, stride, pad, value):
    cells = {(i, j): value(x[where], where) for i, j, where in windows(x, window, stride, pad)}
    rows, columns = (1 + max(index) for index in zip(*cells, strict=True))
    return np.stack([np.stack([cells[i, j] for j in range(columns)]) for i in range(rows)])


def max_pool_padded(x, *, window, stride, pad):
    return _pooled(x, window, stride, pad, lambda part, _: part.max(axis=(0, 1)))


def average_pool_3x3(x):
    """Stride 1, padding 1; Caffe divides by 9 at the border as well."""
    return _pooled(x, 3, 1, 1, lambda part, _: part.sum(axis=(0, 1)) / 9)


def max_pool_2x2_places(x):
    """The flat index (row * w + column) of each window's first maximum, channel by channel."""

    def first(part, where):
        places = np.empty(x.shape[-1], int)
        for channel in range(x.shape[-1]):
            best = -np.inf
            for i in range(part.shape[0]):
                for j in range(part.shape[1]):
                    if part[i, j, channel] > best:
                        best = part[i, j, channel]
                        row, column = where[0].start + i, where[1].start + j
                        places[channel] = row * x.shape[1] + column
        return places

    return _pooled(x, 2, 2, 0, first)


def unpool(x, places, size):
    """Zeros, and every value at its place."""
    out = np.zeros((size[0] * size[1], x.shape[-1]))
    for channel in range(x.shape[-1]):
        out[places[..., channel].ravel(), channel] = x[..., channel].ravel()
    return out.reshape(*size, -1)


def interp(x, size):
    """Caffe's Interp layer: bilinear, corners on corners."""
    out = np.empty((*size, x.shape[-1]))
    steps = [
        (old - 1) / (new - 1) if new > 1 else 0.0
        for old, new in zip(x.shape[:2], size, strict=True)
    ]
    for i in range(size[0]):
        for j in range(size[1]):
            (top, left), (y, z) = (
                (int(i * steps[0]), int(j * steps[1])),
                (i * steps[0], j * steps[1]),
            )
            bottom, right = min(top + 1, x.shape[0] - 1), min(left + 1, x.shape[1] - 1)
            y, z = y - top, z - left
            upper = x[top, left] * (1 - z) + x[top, right] * z
            lower = x[bottom, left] * (1 - z) + x[bottom, right] * z
            out[i, j] = upper * (1 - y) + lower * y
    return out


def batch_norm(x, params, statistics, epsilon):
    """With the running averages."""
    scale = np.float64(params["scale"]) / np.sqrt(np.float64(statistics["var"]) + epsilon)
    return (x - np.float64(statistics["mean"])) * scale + np.float64(params["bias"])


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


def abstract_variables(model, image_shape):
    """Shapes of a model's variables."""
    return jax.eval_shape(
        lambda key: model.init(key, np.zeros(image_shape, np.float32), train=False),
        jax.random.key(0),
    )


def random_params(model, image_shape, rng):
    """Random parameters of a model, float32: He's deviation for kernels, none of them zero."""

    def draw(leaf):
        fan_in = max(1, np.prod(leaf.shape[:-1]))
        return np.float32(rng.normal(0, np.sqrt(2 / fan_in), leaf.shape))

    return jax.tree.map(draw, abstract_variables(model, image_shape))["params"]


def random_variables(model, image_shape, rng):
    """Random parameters and running averages of a model with norms, float32; scales and variances
    lie between 1/2 and 3/2, shifts and means about 0.
    """

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            return np.float32(rng.normal(0, np.sqrt(2 / np.prod(leaf.shape[:-1])), leaf.shape))
        values = rng.uniform(-0.5, 0.5, leaf.shape)
        return np.float32(values + (name in ("scale", "var")))

    return jax.tree_util.tree_map_with_path(draw, abstract_variables(model, image_shape))


def assert_close(actual, expected, tolerance=1e-4):
    """Largest difference relative to the largest value."""
    assert actual.shape == expected.shape
    assert abs(actual - expected).max() <= tolerance * abs(expected).max()
