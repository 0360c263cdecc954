"""Message passing over near leaves against the dense definition: pairs, weights, all options."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from seg_jax.kernels.crf import exact_numba_kernels as kernels
from seg_jax.kernels.crf import mean_field, numba_common
from seg_jax.kernels.crf.cases import SETTINGS, scene
from seg_jax.kernels.crf.exact_numba import NEGLIGIBLE, RADIUS, _Near, _Term

UNARY, RGB = scene(23, 31, 5)  # 713 pixels: the last leaf is not full
SHORT = replace(SETTINGS["v2"], iterations=3)
MU = np.random.default_rng(1)
COMPATIBILITIES = {
    "scalar": 1.3,
    "vector": MU.uniform(0.5, 2, 5).astype(np.float32),
    "matrix": MU.uniform(0, 1.5, (5, 5)).astype(np.float32),
}


class OneThread:
    def __call__(self, kernel, size, *arguments, pixels=1):
        return [kernel(0, size, *arguments)]


def both(unary, rgb, params):
    return [
        np.asarray(mean_field(unary, rgb, params, implementation=name))
        for name in ("exact_numba", "reference")
    ]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 4), (1, 17), (13, 17)])
def test_leaves_hold_every_pixel_once_and_lists_every_near_pair(shape, rng):
    rgb = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    feature, _ = numba_common.features(rgb, replace(SHORT, bilateral_rgb=10.0))
    near = _Near(feature, OneThread())
    np.testing.assert_array_equal(np.sort(near.order), np.arange(len(feature)))
    leaf = np.empty(len(feature), int)
    leaf[near.order] = np.arange(len(feature)) // kernels.GROUP
    start, listed = near.near
    seen = np.zeros((len(start) - 1,) * 2, bool)
    for row, (begin, end) in enumerate(zip(start[:-1], start[1:], strict=True)):
        assert len(set(listed[begin:end])) == end - begin
        seen[row, listed[begin:end]] = True
    distance = np.linalg.norm(feature[:, None] - feature[None], axis=-1)
    assert seen[leaf[:, None], leaf[None]][distance <= RADIUS].all()
    assert shape != (13, 17) or seen.mean() < 0.9


def test_weights_are_the_gaussian_in_float32(rng):
    """From equal pixels to where the weight is no normal number; and columns that are nowhere."""
    extent = np.array([2, 2, 1, 1, 1])
    feature = (rng.random((100, 5)) * extent).astype(np.float32)
    feature[:3] = feature[0]
    q = rng.random((100, 7)).astype(np.float32)
    q[:, 3] = 0
    squares = np.square(feature[:, None].astype(float) - feature).sum(-1)
    np.testing.assert_allclose(
        _Near(feature, OneThread())(q), np.exp(-squares / 2) @ q, rtol=2e-6, atol=1e-30
    )
    # Two pixels of one leaf: e^-0.5 of one another's, or none at all.
    for apart, weight in ((1, np.exp(-0.5)), (50, 0)):
        feature = np.zeros((2, 5), np.float32)
        feature[1, 4] = apart
        q = np.eye(2, dtype=np.float32)
        expected = np.array([[1, weight], [weight, 1]])
        np.testing.assert_allclose(_Near(feature, OneThread())(q), expected, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("how", ["after", "symmetric", "before", "none"])
def test_negligible_probabilities_move_a_message_by_no_more(how, rng):
    dense = np.exp(-np.square(rng.normal(size=(40, 40)))).astype(np.float32)
    kernel = dense + dense.T
    q = (rng.random((40, 6)) * np.logspace(-9, 0, 6)).astype(np.float32)
    term = _Term(kernel.__matmul__, len(q), -3.0, how)
    message = np.zeros((40, 8), np.float32)
    term.add(q, message)
    sums = kernel.astype(float).sum(axis=1, keepdims=True)
    expected = (
        -3
        * {
            "after": kernel @ q / sums,
            "symmetric": kernel @ (q / np.sqrt(sums)) / np.sqrt(sums),
            "before": kernel @ (q / sums),
            "none": kernel.astype(float) @ q,
        }[how]
    )
    assert (message[:, 0] == 0).all() and (message[:, 6:] == 0).all()
    off = np.abs(message[:, :6] - expected)
    assert (off <= NEGLIGIBLE + 1e-6 * np.abs(expected)).all()


@pytest.mark.parametrize("mu", COMPATIBILITIES.values(), ids=COMPATIBILITIES)
@pytest.mark.parametrize("how", ["after", "symmetric", "before", "none"])
def test_every_option_is_the_definition(how, mu):
    params = replace(SHORT, normalisation=how, compatibility=mu)
    if how == "none":  # sums of hundreds of pixels in place of means
        params = replace(params, bilateral_weight=0.05, spatial_weight=0.2)
    ours, dense = both(UNARY, RGB, params)
    np.testing.assert_allclose(ours, dense, atol=2e-4)
    assert (ours.argmax(-1) == dense.argmax(-1)).all()
    assert np.abs(dense - np.exp(-UNARY)).max() > 0.1, "a CRF that changes nothing"


def test_a_kernel_without_weight_is_none():
    ours, dense = both(UNARY, RGB, replace(SHORT, bilateral_weight=0.0))
    np.testing.assert_allclose(ours, dense, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 23)])
def test_pictures_of_one_colour_and_of_less_than_a_leaf(shape, rng):
    unary = rng.normal(size=(*shape, 3)).astype(np.float32)
    ours, dense = both(unary, np.full((*shape, 3), 90, np.uint8), SHORT)
    np.testing.assert_allclose(ours, dense, atol=1e-5)


def test_a_batch_and_threads_change_nothing(monkeypatch):
    batch = np.stack([UNARY, UNARY[::-1]]), np.stack([RGB, RGB[::-1]])
    alone = [np.asarray(mean_field(*pair, SHORT, implementation="exact_numba"))
             for pair in zip(*batch, strict=True)]  # fmt: skip
    monkeypatch.setattr(numba_common, "_MIN_PIXELS", 1)
    monkeypatch.setattr(numba_common, "_threads", lambda: 3)
    together = mean_field(*batch, SHORT, implementation="exact_numba")
    np.testing.assert_array_equal(together, np.stack(alone))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["after", "symmetric"])
def test_a_photograph_is_that_of_exact(how, test_data):
    root = test_data / "data" / "VOCdevkit" / "VOC2012" / "JPEGImages"
    with Image.open(root / "2007_000123.jpg") as picture:
        rgb = np.array(picture.convert("RGB").resize((160, 120), Image.Resampling.BILINEAR))
    unary, _ = scene(120, 160, 21)
    params = replace(SETTINGS["v2"], normalisation=how)
    ours, exact = (
        np.asarray(mean_field(unary, rgb, params, implementation=name))
        for name in ("exact_numba", "exact")
    )
    np.testing.assert_allclose(ours, exact, atol=2e-4)
    assert (ours.argmax(-1) == exact.argmax(-1)).all()
    assert (ours.argmax(-1) != unary.argmin(-1)).mean() > 0.01
