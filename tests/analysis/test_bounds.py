"""Rules against the function itself: a spike of 1e20 in one row must show up where they say.

No function here lets spikes cancel: an element depends on a row exactly if a spike there changes
it, of one of four pictures that grow towards one corner each (in max-unpooling a spike shows where
the maximum was, and where it goes).
"""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from seg_jax.analysis import bounds
from seg_jax.analysis.trace import Value, Walk
from seg_jax.nn import lowering, pool, resize

SHAPE = (2, 9, 7, 4)


def interpolation():
    return jnp.asarray(resize.half_pixel_matrix(9, 5), jnp.float32)


def conv(x, kernel_shape, *, stride=(1, 1), padding=((0, 0), (0, 0)), rate=(1, 1), spacing=(1, 1),
         groups=1, numbers=("NHWC", "HWIO", "NHWC")):  # fmt: skip
    return lax.conv_general_dilated(
        x, jnp.ones(kernel_shape), stride, padding, lhs_dilation=spacing, rhs_dilation=rate,
        dimension_numbers=numbers, feature_group_count=groups,
    )  # fmt: skip


def unpool(x):
    pooled, places = pool.max_pool_with_indices(x, rounding="ceil")
    return pool.max_unpool(pooled, places, (9, 7))


FUNCTIONS = {
    "elementwise": lambda x: jnp.where(x > 2.0, x * 2.0, x + 1.0),
    "scalar operand": lambda x: x * 2.0 + jnp.max(x[:, 3]),
    "reshape, axes apart": lambda x: x.reshape(2, 3, 3, 7, 2, 2),
    "reshape, axes mixed": lambda x: x.reshape(2, 63, 4).reshape(2, 21, 12),
    "reshape, all": lambda x: x.reshape(-1),
    "reshape, axes of length 1": lambda x: x[:1, :, :1].reshape(9, 4, 1),
    "transpose": lambda x: x.transpose(3, 1, 0, 2),
    "squeeze": lambda x: x[:, 2:3].squeeze(1),
    "rev": lambda x: x[:, ::-1, :, ::-1],
    "slice": lambda x: x[:, 1:8:3, 2:],
    "dynamic_slice": lambda x: lax.dynamic_slice(x, (0, jnp.int32(3), 2, 0), (2, 4, 5, 4)),
    "pad": lambda x: jnp.pad(x[:, :, :1], ((0, 0), (2, 1), (0, 0), (0, 0))),
    "pad, cropping and interior": lambda x: lax.pad(
        x, 0.0, [(0, 0, 0), (-2, 3, 2), (0, 0, 0), (0, 0, 0)]
    ),
    "concatenate rows": lambda x: jnp.concatenate([x[:, 5:], x, x[:, :2]], axis=1),
    "concatenate channels": lambda x: jnp.concatenate(
        [x[:, 2:], jnp.ones((2, 7, 7, 1)), x[:, :7]], -1
    ),
    "reduce": lambda x: jnp.sum(x, axis=(2, 3)),
    "reduce all": lambda x: jnp.max(x),
    "reduce_window": lambda x: lax.reduce_window(
        x, 0.0, lax.add, (1, 3, 1, 1), (1, 2, 1, 1), [(0, 0), (1, 2), (0, 0), (0, 0)]
    ),
    "reduce_window, dilated": lambda x: lax.reduce_window(
        x, -jnp.inf, lax.max, (1, 3, 1, 1), (1, 1, 1, 1), "VALID", (1, 2, 1, 1), (1, 3, 1, 1)
    ),
    "conv": lambda x: conv(x, (3, 2, 4, 5), padding=((1, 1), (0, 0))),
    "conv, strided": lambda x: conv(x, (4, 1, 4, 1), stride=(3, 2)),
    "conv, atrous": lambda x: conv(x, (3, 1, 4, 1), rate=(2, 1), padding=((4, 0), (0, 0))),
    "conv, transposed": lambda x: conv(x, (3, 2, 4, 1), spacing=(2, 2), padding=((2, 1), (1, 1))),
    "conv, other layouts": lambda x: conv(
        x.transpose(0, 3, 1, 2), (5, 4, 3, 2), numbers=("NCHW", "OIHW", "NCHW")
    ),
    "conv, channels of different rows": lambda x: conv(
        jnp.concatenate([x[:, :5], x[:, 4:]], -1), (1, 1, 2, 12), groups=4
    ),
    "conv, depthwise on different rows": lambda x: conv(
        jnp.concatenate([x[:, :5], x[:, 4:]], -1), (2, 1, 1, 16), groups=8
    ),
    "product with a constant": lambda x: jnp.einsum("ah,nhwc->nawc", interpolation(), x),
    "product from the right": lambda x: jnp.tensordot(x, interpolation().T, ((1,), (0,))),
    "product with weights": lambda x: jnp.einsum("nhwc,cd->nhwd", x, jnp.ones((4, 3))),
    "product of two images": lambda x: jnp.einsum("nhwc,nkwc->nhkw", x[:, 2:4], x[:, 6:]),
    "nested calls": lambda x: jax.checkpoint(jax.jit(lambda y: y[:, 1:] + y[:, :-1]))(x),
    "custom gradient": lambda x: jax.nn.relu(x[:, 3:6]),
    "max pool": lambda x: pool.max_pool(x, window=3, stride=2, padding=1, rounding="ceil"),
    "unpool": unpool,
    "average pool": lambda x: pool.average_pool(x, window=3, stride=1, padding=1),
    "adaptive pool": lambda x: pool.adaptive_average_pool(x, (4, 2)),
    "global pool": lambda x: x + pool.global_average_pool(x[:, 2:7]),
    "align corners": lambda x: resize.resize_align_corners(x, (17, 4)),
    "bilinear upsampling": lambda x: resize.upsample_bilinear_fixed(x, kernel_size=4, stride=2),
}  # fmt: skip


def traced(function, shape=SHAPE):
    with lowering.use("xla"):
        closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(shape, jnp.float32))
    walk = Walk()
    (value,) = walk.run(closed.jaxpr, closed.consts, [Value(shape, bounds.image_bounds(shape))])
    return value, walk.unknown


def touched(function, shape, axis):
    """Return bool [rows or columns, *output]: which elements a spike in it changes."""
    ramp = 1 + np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    changed = False
    for image in (ramp, ramp[:, ::-1], ramp[:, :, ::-1], ramp[:, ::-1, ::-1]):
        spikes = np.stack([image] * shape[axis])
        for place in range(shape[axis]):
            spikes[(place, *(slice(None),) * axis, place)] = 1e20
        plain = np.asarray(function(jnp.asarray(image)))
        changed = changed | np.array([np.asarray(function(x)) != plain for x in spikes])
    return changed


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bounds_are_where_a_spike_shows(name):
    function = FUNCTIONS[name]
    value, unknown = traced(function)
    assert not unknown
    compiled = jax.jit(function)
    for axis in (1, 2):
        hit = touched(compiled, SHAPE, axis)
        size = hit.shape[0]
        index = np.arange(size).reshape(-1, *(1,) * (hit.ndim - 1))
        first = np.where(hit, index, bounds.NOTHING).min(0)
        last = np.where(hit, -index, bounds.NOTHING).min(0)
        low, high = value.bounds[2 * (axis - 1) : 2 * axis]
        for found, truth in ((low, first), (high, last)):
            found = np.broadcast_to(found, truth.shape)
            # What depends on nothing at all at the border may be thought to depend on something.
            inside = truth != bounds.NOTHING
            np.testing.assert_array_equal(found[inside], truth[inside])


def test_padding_along_the_bounds_own_axis_depends_on_nothing():
    value, _ = traced(lambda x: jnp.pad(x, ((0, 0), (2, 1), (0, 0), (0, 0))))
    rows = value.bounds[0][0, :, 0, 0]
    assert list(rows == bounds.NOTHING) == [True] * 2 + [False] * 9 + [True]


def test_empty_parts_depend_on_nothing():
    value, unknown = traced(lambda x: jnp.concatenate([x[:, :0].reshape(0, 7, 4), x[0]], axis=0))
    assert not unknown
    np.testing.assert_array_equal(value.bounds[0].ravel(), range(9))


def test_primitive_without_a_rule_is_named_and_taken_as_global():
    value, unknown = traced(lambda x: jnp.sort(x, axis=1) + x)
    assert unknown == {"sort"}
    assert value.bounds[0].max() == 0 and value.bounds[1].max() == -8  # every row, everywhere


def test_primitive_without_a_rule_on_what_is_global_anyway_is_exact():
    _, unknown = traced(lambda x: jnp.sort(pool.global_average_pool(x)))
    assert not unknown


def test_slice_at_a_place_that_depends_on_the_image_is_named():
    _, unknown = traced(
        lambda x: lax.dynamic_slice_in_dim(x, jnp.argmax(x[0, :, 0, 0]).astype(int), 3, 1)
    )
    assert len(unknown) == 1 and "dynamic_slice" in unknown.pop()


def test_branches_are_joined():
    value, unknown = traced(
        lambda x: lax.cond(x[0, 5, 0, 0] > 0, lambda: x[:, :4], lambda: x[:, 2:6])
    )
    assert not unknown
    np.testing.assert_array_equal(value.bounds[0].ravel(), [0, 1, 2, 3])
    np.testing.assert_array_equal(-value.bounds[1].ravel(), [5, 5, 5, 5])
