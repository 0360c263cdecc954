"""Xception and DeepLab v3+'s head written out in NumPy from the released network's tables: one
image [h w c] at a time, with running averages.
"""

import numpy as np
import plain_layers as plain


def pick(variables, name):
    """The variables of a part of the network."""
    return {collection: variables[collection][name] for collection in ("params", "batch_stats")}


def depthwise(x, kernel, *, stride, rate):
    """3x3 on every channel by itself, zeros around; tap by tap over the kept outputs."""
    kernel = np.float64(kernel)
    padded = np.pad(x, ((rate, rate), (rate, rate), (0, 0)))
    out = np.zeros((-(-x.shape[0] // stride), -(-x.shape[1] // stride), x.shape[2]))
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            top, left = i * stride, j * stride
            window = padded[top : top + 2 * rate + 1 : rate, left : left + 2 * rate + 1 : rate]
            out[i, j] = (window * kernel[:, :, 0]).sum(axis=(0, 1))
    return out


def norm(x, variables, epsilon):
    return plain.batch_norm(x, variables["params"]["bn"], variables["batch_stats"]["bn"], epsilon)


def conv_norm(x, variables, epsilon, *, stride=1, rate=1):
    conv = variables["params"]["conv"]
    pad = (conv["kernel"].shape[0] - 1) // 2 * rate
    return norm(plain.conv(x, conv, pad=pad, stride=stride, rate=rate), variables, epsilon)


def separable(x, variables, epsilon, *, stride=1, rate=1, activation=lambda x: x):
    part = pick(variables, "depthwise")
    x = depthwise(x, part["params"]["conv"]["kernel"], stride=stride, rate=rate)
    x = activation(norm(x, part, epsilon))
    return activation(conv_norm(x, pick(variables, "pointwise"), epsilon))


def xception(x, variables, plan):
    """Every unit's result, and what its second separable convolution gives.

    plan: of each unit its name, stride, rate, and shortcut: "conv", "sum" or "none".
    """
    x = plain.relu(conv_norm(x, pick(variables, "entry_flow_conv1_1"), 1e-3, stride=2))
    x = plain.relu(conv_norm(x, pick(variables, "entry_flow_conv1_2"), 1e-3))
    results = {}
    for name, stride, rate, shortcut in plan:
        unit, y, seconds = pick(variables, name), x, None
        for number in (1, 2, 3):
            part = pick(unit, f"separable_conv{number}")
            step = stride if number == 3 else 1
            if shortcut == "none":
                y = separable(y, part, 1e-3, stride=step, rate=rate, activation=plain.relu)
            else:
                y = separable(plain.relu(y), part, 1e-3, stride=step, rate=rate)
            seconds = y if number == 2 else seconds
        if shortcut == "conv":
            y = y + conv_norm(x, pick(unit, "shortcut"), 1e-3, stride=stride)
        elif shortcut == "sum":
            y = y + x
        x = y
        results[name] = x, seconds
    return results


def head(x, low_level, variables, rates, size, kind=separable):
    """ASPP, decoder and scores, of the encoder's map and the low-level features."""

    def relu_norm(x, variables):
        return plain.relu(conv_norm(x, variables, 1e-5))

    def conv3x3(x, variables, rate=1):
        if kind is separable:
            return separable(x, variables, 1e-5, rate=rate, activation=plain.relu)
        return plain.relu(conv_norm(x, variables, 1e-5, rate=rate))

    aspp, decoder = pick(variables, "aspp"), pick(variables, "decoder")
    pooled = relu_norm(x.mean(axis=(0, 1), keepdims=True), pick(aspp, "image_pooling"))
    maps = [np.broadcast_to(pooled, (*x.shape[:2], pooled.shape[-1]))]
    maps.append(relu_norm(x, pick(aspp, "aspp0")))
    for number, rate in enumerate(rates, start=1):
        maps.append(conv3x3(x, pick(aspp, f"aspp{number}"), rate))
    x = relu_norm(np.concatenate(maps, axis=-1), pick(aspp, "concat_projection"))
    low_level = relu_norm(low_level, pick(decoder, "feature_projection0"))
    x = np.concatenate([plain.interp(x, low_level.shape[:2]), low_level], axis=-1)
    x = conv3x3(x, pick(decoder, "decoder_conv0"))
    x = conv3x3(x, pick(decoder, "decoder_conv1"))
    return plain.interp(plain.conv(x, variables["params"]["logits"], pad=0), size)
