"""ResNet written out in NumPy, from the layers of `plain_layers`: one image [h w c] at a time."""

import plain_layers as plain

EPSILON = 1e-5


def conv_bn(x, layer, *, stride=1, rate=1):
    """A convolution of odd size, padded so that stride 1 keeps the map's size, and its norm."""
    params, statistics = layer
    pad = (params["conv"]["kernel"].shape[0] - 1) * rate // 2
    x = plain.conv(x, params["conv"], pad=pad, stride=stride, rate=rate)
    return plain.batch_norm(x, params["bn"], statistics["bn"], EPSILON)


def pick(variables, name):
    """The variables of a part of the network."""
    return {c: variables[c][name] for c in ("params", "batch_stats")}


def layer(variables, name):
    return variables["params"][name], variables["batch_stats"][name]


def stem(x, variables, pool_rounding):
    """7x7, or three 3x3; then a 3x3 maximum pool with stride 2 and padding 1."""
    for name, stride in (("conv1", 2), ("conv1_1", 2), ("conv1_2", 1), ("conv1_3", 1)):
        if name in variables["params"]:
            x = plain.relu(conv_bn(x, layer(variables, name), stride=stride))
    pooled = plain.max_pool_padded(x, window=3, stride=2, pad=1)  # rounds up
    if pool_rounding == "ceil":
        return pooled
    return pooled[: (x.shape[0] + 1) // 2, : (x.shape[1] + 1) // 2]


def unit(x, variables, *, strides=(1, 1), rate=1):
    """A bottleneck; strides are those of its first 1x1 and of its 3x3. Returns the residual too."""
    y = plain.relu(conv_bn(x, layer(variables, "conv1"), stride=strides[0]))
    y = plain.relu(conv_bn(y, layer(variables, "conv2"), stride=strides[1], rate=rate))
    residual = conv_bn(y, layer(variables, "conv3"))
    stride = strides[0] * strides[1]
    if "shortcut" in variables["params"]:
        x = conv_bn(x, layer(variables, "shortcut"), stride=stride)
    else:
        x = x[::stride, ::stride]
    return plain.relu(x + residual), residual


def features(image, variables, plan, pool_rounding="ceil"):
    """Maps by block, and the residual of block 1's first unit.

    plan: of each block its units, each ((stride of conv1, stride of conv2), rate).
    """
    x, maps = stem(image, variables, pool_rounding), []
    for block, units in enumerate(plan, start=1):
        for index, (strides, rate) in enumerate(units, start=1):
            own = pick(variables, f"block{block}_unit{index}")
            x, residual = unit(x, own, strides=strides, rate=rate)
            if (block, index) == (1, 1):
                low_level = residual
        maps.append(x)
    return maps, low_level
