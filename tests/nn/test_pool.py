"""Pooling against slow NumPy loops that follow Caffe's and PyTorch's rules window by window."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from seg_jax.nn import lowering
from seg_jax.nn.pool import (
    adaptive_average_pool,
    average_pool,
    global_average_pool,
    max_pool,
    max_pool_with_indices,
    max_unpool,
)
from seg_jax.nn.pool_windows import pooled_size

# size, window, stride, padding, rounding
GEOMETRIES = [
    ((8, 6), 2, 2, 0, "floor"),
    ((7, 5), 2, 2, 0, "ceil"),
    ((7, 8), 3, 2, 1, "floor"),  # ResNet's
    ((8, 9), 3, 2, 1, "ceil"),  # DeepLab v2's
    ((6, 7), 3, 1, 1, "floor"),  # LargeFOV's pool5
    ((9, 8), 2, 3, 0, "ceil"),  # gaps between the windows
    ((9, 11), (3, 5), (2, 3), (0, 2), "ceil"),
]


def starts(size, window, stride, padding, rounding):
    """Where windows start on one side: add windows while the rule asks for one more."""
    found = [-padding]
    while True:
        start, end = found[-1] + stride, found[-1] + window
        if rounding == "floor" and start + window > size + padding:
            return found
        if rounding == "ceil" and (end >= size + padding or start >= size):
            return found
        found.append(start)


def pairs(*values):
    return [v if isinstance(v, tuple) else (v, v) for v in values]


def all_starts(size, window, stride, padding, rounding):
    """Rows and columns at which windows start."""
    sides = zip(size, *pairs(window, stride, padding), strict=True)
    return [starts(*side, rounding) for side in sides]


def slow_max_pool(x, window, stride, padding, rounding):
    """Values, flat places of the first maxima, by scanning with a strict ">" as Caffe does."""
    ((kh, kw),) = pairs(window)
    tops, lefts = all_starts(x.shape[1:3], window, stride, padding, rounding)
    shape = (x.shape[0], len(tops), len(lefts), x.shape[3])
    y, indices = np.full(shape, -np.inf, x.dtype), np.zeros(shape, np.int32)
    for image, row, column, channel in np.ndindex(*shape):
        where = image, row, column, channel
        for i in range(max(tops[row], 0), min(tops[row] + kh, x.shape[1])):
            for j in range(max(lefts[column], 0), min(lefts[column] + kw, x.shape[2])):
                if x[image, i, j, channel] > y[where]:
                    y[where], indices[where] = x[image, i, j, channel], i * x.shape[2] + j
    return y, indices


def slow_unpool(y, indices, size, *, add):
    """y at its places in zeros: added (the gradient of max_pool) or written (max_unpool)."""
    flat = np.zeros((y.shape[0], size[0] * size[1], y.shape[3]), y.dtype)
    for image, row, column, channel in np.ndindex(*y.shape):
        where = image, indices[image, row, column, channel], channel
        flat[where] = y[image, row, column, channel] + (flat[where] if add else 0)
    return flat.reshape(y.shape[0], *size, y.shape[3])


def with_ties(rng, *shape):
    """Few distinct values, many zeros: as after a ReLU."""
    return np.maximum(rng.integers(-3, 4, shape), 0).astype(np.float32)


@pytest.mark.parametrize("size, window, stride, padding, rounding", GEOMETRIES)
def test_max_pool_and_its_gradient(rng, size, window, stride, padding, rounding):
    x = with_ties(rng, 2, *size, 3)
    y, indices = slow_max_pool(x, window, stride, padding, rounding)
    weight = rng.normal(size=y.shape).astype(np.float32)

    @jax.jit
    def run(x, weight):
        keywords = dict(window=window, stride=stride, padding=padding, rounding=rounding)
        loss = lambda x: jnp.sum(max_pool(x, **keywords) * weight)  # noqa: E731
        return max_pool_with_indices(x, **keywords), jax.grad(loss)(x)

    (got, places), gradient = run(x, weight)
    assert places.dtype == jnp.int32
    np.testing.assert_array_equal(got, y)
    np.testing.assert_array_equal(places, indices)
    expected = slow_unpool(weight, indices, size, add=True)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size, window, stride, padding, rounding", GEOMETRIES)
def test_the_tpus_form_is_the_same_with_ties(rng, size, window, stride, padding, rounding):
    """Whole windows are equal after a ReLU: the gradient goes to the same pixel in both forms."""
    x = with_ties(rng, 2, *size, 3)

    def run(platform):
        with lowering.for_platform(platform):
            keywords = dict(window=window, stride=stride, padding=padding, rounding=rounding)
            y, back = jax.vjp(lambda x: max_pool(x, **keywords), jnp.asarray(x))
            weight = np.arange(y.size, dtype=np.float32).reshape(y.shape)  # sums are exact
            return y, back(weight)[0], jax.make_jaxpr(back)(weight)

    (y, gradient, form), (expected, expected_gradient, other) = run("tpu"), run("cpu")
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(gradient, expected_gradient)
    assert "select_and_scatter" in str(form) and "select_and_scatter" not in str(other)


@pytest.mark.parametrize(
    "size, rounding", [((8, 6), "floor"), ((7, 5), "ceil"), ((7, 5), "floor"), ((6, 7), "ceil")]
)
def test_the_tpus_blocks_of_two_are_the_same_with_ties(rng, size, rounding):
    """Values, indices, both gradients, at odd sizes as well; indices of elsewhere are dropped."""
    x = jnp.asarray(with_ties(rng, 2, *size, 3))
    weight = rng.normal(size=x.shape).astype(np.float32)

    def everything(x):
        (y, places), back = jax.vjp(lambda x: max_pool_with_indices(x, rounding=rounding), x)
        values = jnp.arange(1.0, y.size + 1).reshape(y.shape)
        elsewhere = places.at[0, 0, 0, 0].set(99)
        image, gather = jax.vjp(lambda v: max_unpool(v, elsewhere, size), values)
        no_tangent = np.zeros(y.shape, jax.dtypes.float0)
        return y, places, back((values, no_tangent))[0], image, gather(weight)[0]

    def run(platform):
        with lowering.for_platform(platform):
            traced = jax.jit(lambda x: everything(x)).trace(x)
            return traced.lower().compile()(x), str(traced.jaxpr)

    (ours, form), (expected, other) = run("tpu"), run("cpu")
    for one, two in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(one, two)
    assert "dimension=3" in form and "dimension=3" not in other  # pairs of columns as channels


def test_the_tpus_forms_keep_nan_and_infinity():
    x = jnp.full((1, 4, 4, 1), -jnp.inf).at[0, 0, 0].set(jnp.nan)
    with lowering.for_platform("tpu"):
        y = max_pool(x, window=3, stride=2, padding=1)
        z, places = max_pool_with_indices(x)
    for found in (y, z):
        assert jnp.isnan(found[0, 0, 0, 0]) and jnp.isneginf(found.ravel()[1:]).all()
    np.testing.assert_array_equal(places[0, :, :, 0], [[0, 2], [8, 10]])


def test_max_pool_gradient_equals_that_of_reduce_window(rng):
    """Another implementation, where no two values are equal."""
    x = rng.permutation(2 * 9 * 8 * 3).reshape(2, 9, 8, 3).astype(np.float32)

    def theirs(x):
        pads = ((0, 0), (1, 1), (1, 1), (0, 0))
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)

    ours = lambda x: max_pool(x, window=3, stride=2, padding=1)  # noqa: E731
    square = lambda pool: jax.jit(jax.grad(lambda x: jnp.sum(pool(x) ** 2)))(x)  # noqa: E731
    np.testing.assert_array_equal(jax.jit(ours)(x), theirs(x))
    np.testing.assert_allclose(square(ours), square(theirs), rtol=1e-6)


@pytest.mark.parametrize("window, stride, padding", [(2, 2, 0), (3, 2, 1), (3, 1, 1)])
def test_gradients_sum_in_a_fixed_order(window, stride, padding):
    """XLA's select-and-scatter and scatter add in no fixed order on GPUs."""

    def lowered(pool):
        step = jax.jit(jax.grad(lambda x: jnp.sum(pool(x) ** 2))).lower(jnp.ones((1, 8, 8, 2)))
        return step.as_text() + step.compile().as_text()

    ours = lowered(lambda x: max_pool(x, window=window, stride=stride, padding=padding))
    assert "scatter" not in ours
    area = (1, window, window, 1)
    theirs = lowered(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, area, area, "SAME"))
    assert "select_and_scatter" in theirs  # the search would find it


def test_unpooling_and_its_gradient_need_no_scatter():
    loss = lambda x: jnp.sum(max_unpool(*max_pool_with_indices(x), (8, 8)) ** 2)  # noqa: E731
    step = jax.jit(jax.grad(loss)).lower(jnp.ones((1, 8, 8, 2)))
    assert "stablehlo.scatter" not in step.as_text()


def test_first_maximum_wins_in_row_major_order():
    x = jnp.zeros((1, 4, 4, 1))
    places = max_pool_with_indices(x)[1]
    np.testing.assert_array_equal(places[0, :, :, 0], [[0, 2], [8, 10]])
    places = max_pool_with_indices(x, window=3, stride=2, padding=1)[1]
    np.testing.assert_array_equal(places[0, :, :, 0], [[0, 1], [4, 5]])
    gradient = jax.grad(lambda x: jnp.sum(max_pool(x)))(x)
    np.testing.assert_array_equal(gradient[0, :2, :2, 0], [[1, 0], [0, 0]])


def test_nan_and_infinity():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1).at[0, 0, 0].set(jnp.nan)
    y, places = max_pool_with_indices(x)
    assert jnp.isnan(y[0, 0, 0, 0]) and places[0, 0, 0, 0] == 0
    np.testing.assert_array_equal(y.ravel()[1:], [7, 13, 15])
    # A window of -inf has its place inside the image, not in the padding.
    _, places = max_pool_with_indices(jnp.full((1, 4, 4, 1), -jnp.inf), window=3, padding=1)
    np.testing.assert_array_equal(places[0, :, :, 0], [[0, 1], [4, 5]])


def test_worked_example_of_pooling_and_unpooling():
    x = jnp.asarray([[1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]], jnp.float32)
    y, places = max_pool_with_indices(x.reshape(1, 4, 4, 1))
    np.testing.assert_array_equal(y[0, :, :, 0], [[5, 6], [7, 8]])
    values = jnp.asarray([1.0, 2.0, 3.0, 4.0]).reshape(1, 2, 2, 1)
    expected = [[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]]
    np.testing.assert_array_equal(max_unpool(values, places, (4, 4))[0, :, :, 0], expected)


@pytest.mark.parametrize(
    "sizes, window, padding, rounding",
    [
        ((698, 349, 175, 88, 44, 22), 2, 0, "ceil"),  # FCN, a 500 px side padded by 100
        ((360, 180, 90, 45, 23, 12), 2, 0, "ceil"),  # SegNet on CamVid
        ((161, 81), 3, 1, "ceil"),  # DeepLab v2's ResNet-101 at 321 px
        ((257, 129), 3, 1, "floor"),  # ResNet at 513 px
        ((224, 112, 56, 28), 2, 0, "floor"),
    ],
)
def test_sizes_that_the_papers_state(sizes, window, padding, rounding):
    for size, expected in zip(sizes, sizes[1:], strict=False):
        assert pooled_size(size, window, 2, padding, rounding) == expected


def test_sizes_follow_the_rule_everywhere():
    for rounding in ("floor", "ceil"):
        for size, window, stride in np.ndindex(9, 4, 4):
            geometry = (size + 4, window + 1, stride + 1)
            for padding in range(window + 1):
                expected = len(starts(*geometry, padding, rounding))
                assert pooled_size(*geometry, padding, rounding) == expected


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])  # odd: the last windows are cut
def test_max_unpool_and_its_gradient(rng, size):
    x = with_ties(rng, 2, *size, 3)
    _, places = slow_max_pool(x, 2, 2, 0, "ceil")
    values = rng.normal(size=places.shape).astype(np.float32)
    weight = rng.normal(size=x.shape).astype(np.float32)
    expected = slow_unpool(values, places, size, add=False)
    picked = np.take_along_axis(weight.reshape(2, -1, 3), places.reshape(2, -1, 3), axis=1).reshape(
        places.shape
    )

    @jax.jit
    def run(values, weight):
        results = []
        for window in (2, None):
            y, back = jax.vjp(lambda v: max_unpool(v, places, size, window=window), values)  # noqa: B023
            results.append((y, back(weight)[0]))
        return results

    for y, gradient in run(values, weight):
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(gradient, picked)


def test_max_unpool_takes_any_places_without_a_window(rng):
    """Indices from elsewhere in the image, as from pools that overlap."""
    places = np.stack([rng.permutation(20)[:6] for _ in range(4)], axis=1)
    places = places.reshape(1, 2, 3, 4).astype(np.int32)
    values = rng.normal(size=(1, 2, 3, 4)).astype(np.float32)
    y = max_unpool(jnp.asarray(values), jnp.asarray(places), (4, 5), window=None)
    np.testing.assert_array_equal(y, slow_unpool(values, places, (4, 5), add=False))


def slow_average_pool(x, divisor, window, stride, padding, rounding):
    """Sum and count over each window, cut where the padded image ends."""
    (kh, kw), (above, before) = pairs(window, padding)
    tops, lefts = all_starts(x.shape[1:3], window, stride, padding, rounding)
    around = ((0, 0), (above, above), (before, before), (0, 0))
    image = np.pad(x.astype(np.float64), around)
    counted = np.pad(np.ones_like(x), around, constant_values=divisor == "padded")
    y = np.zeros((x.shape[0], len(tops), len(lefts), x.shape[3]))
    for row, column in np.ndindex(len(tops), len(lefts)):
        top, left = tops[row] + above, lefts[column] + before
        part = (slice(None), slice(top, top + kh), slice(left, left + kw))
        y[:, row, column] = image[part].sum(axis=(1, 2)) / counted[part].sum(axis=(1, 2))
    return y


@pytest.mark.parametrize("divisor", ["padded", "valid"])
@pytest.mark.parametrize("size, window, stride, padding, rounding", GEOMETRIES)
def test_average_pool(rng, size, window, stride, padding, rounding, divisor):
    x = rng.normal(size=(2, *size, 3)).astype(np.float32)
    keywords = dict(window=window, stride=stride, padding=padding, rounding=rounding)
    y = average_pool(jnp.asarray(x), **keywords, divisor=divisor)
    expected = slow_average_pool(x, divisor, window, stride, padding, rounding)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_average_pool_counts_padding_or_not():
    x = jnp.ones((1, 2, 2, 1))
    padded = average_pool(x, window=3, stride=1, padding=1)
    valid = average_pool(x, window=3, stride=1, padding=1, divisor="valid")
    np.testing.assert_allclose(padded[0, :, :, 0], np.full((2, 2), 4 / 9), rtol=1e-6)
    np.testing.assert_allclose(valid[0, :, :, 0], np.ones((2, 2)), rtol=1e-6)


def test_average_pool_has_a_gradient_in_a_compiled_function(rng):
    """Each pixel's is the sum of what the windows over it get, a ninth of each."""
    weights = rng.normal(size=(1, 5, 6, 2)).astype(np.float32)
    gradient = jax.jit(
        jax.grad(lambda x: jnp.sum(weights * average_pool(x, window=3, stride=1, padding=1)))
    )(jnp.zeros((1, 5, 6, 2)))
    around = np.pad(weights, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = sum(around[:, i : i + 5, j : j + 6] for i in range(3) for j in range(3)) / 9
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size, bins", [((12, 12), 6), ((11, 7), 3), ((5, 4), (2, 3)), ((3, 3), 6)])
def test_adaptive_average_pool(rng, size, bins):
    x = rng.normal(size=(2, *size, 3)).astype(np.float32)
    y = adaptive_average_pool(jnp.asarray(x), bins)
    rows, columns = bins if isinstance(bins, tuple) else (bins, bins)
    for i, j in np.ndindex(rows, columns):
        top, bottom = np.floor(i * size[0] / rows), np.ceil((i + 1) * size[0] / rows)
        left, right = np.floor(j * size[1] / columns), np.ceil((j + 1) * size[1] / columns)
        part = x[:, int(top) : int(bottom), int(left) : int(right)]
        np.testing.assert_allclose(y[:, i, j], part.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_pyramid_bins_are_caffes_windows_where_they_divide(rng, bins):
    """PSPNet at 473 px pools 60x60 maps with windows of 60 / bins."""
    x = jnp.asarray(rng.normal(size=(1, 60, 60, 2)), jnp.float32)
    caffe = average_pool(x, window=60 // bins, stride=60 // bins, rounding="ceil")
    np.testing.assert_allclose(adaptive_average_pool(x, bins), caffe, rtol=1e-5, atol=1e-6)


def test_global_average_pool(rng):
    x = rng.normal(size=(2, 5, 4, 3)).astype(np.float32)
    y = global_average_pool(jnp.asarray(x))
    np.testing.assert_allclose(y, x.mean(axis=(1, 2), keepdims=True), rtol=1e-5, atol=1e-7)


def test_bfloat16_is_kept_and_averages_are_summed_in_float32(rng):
    x = jnp.asarray(rng.uniform(1, 2, size=(1, 64, 64, 2)), jnp.bfloat16)
    exact = np.float32(x).mean(axis=(1, 2), keepdims=True)
    assert max_pool(x).dtype == jnp.bfloat16
    for y in (
        global_average_pool(x),
        average_pool(x, window=64, stride=1),
        adaptive_average_pool(x, 1),
    ):
        assert y.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(y), exact, rtol=2**-8)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: max_pool(x[0]), "must be .n h w c."),
        (lambda x: max_pool(x, padding=2), r"padding \(2, 2\) must be smaller than the window"),
        (lambda x: max_pool(x, rounding="round"), "rounding"),
        (lambda x: max_pool(x, window=7), "side of 4 .* smaller than the window 7"),
        (lambda x: max_pool(x, stride=0), "stride must be positive"),
        (lambda x: average_pool(x, window=2, stride=2, divisor="all"), "divisor"),
        (lambda x: adaptive_average_pool(x, 0), "bins must be positive"),
        (lambda x: max_unpool(x, jnp.zeros((1, 4, 4, 3), jnp.int32), (8, 8)), "the same"),
    ],
)
def test_errors_name_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((1, 4, 4, 2)))
