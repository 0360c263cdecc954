import numpy as np
import pytest
from scipy import ndimage

from seg_jax.data import weight_maps
from seg_jax.types import IGNORE


def brute_force(label, w0, sigma):
    """Equation 2 with loops over pixels, cells and the cells' pixels."""
    cells = []
    for class_id in set(np.unique(label)) - {0, IGNORE}:
        components, count = ndimage.label(label == class_id)
        cells += [np.argwhere(components == number) for number in range(1, count + 1)]
    counts = {c: (label == c).sum() for c in set(np.unique(label)) - {IGNORE}}
    valid = sum(counts.values())
    weight = np.zeros(label.shape)
    for y, x in np.ndindex(*label.shape):
        if label[y, x] == IGNORE:
            continue
        distances = sorted(np.hypot(*(cell - (y, x)).T).min() for cell in cells)
        border = 0.0
        if len(distances) > 1:
            border = w0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
        weight[y, x] = valid / (len(counts) * counts[label[y, x]]) + border
    return weight


@pytest.mark.parametrize(("w0", "sigma"), [(10.0, 5.0), (4.0, 2.0)])
def test_equals_brute_force_on_touching_void_and_many_classed_cells(rng, w0, sigma):
    noise = ndimage.gaussian_filter(rng.normal(size=(40, 44)), 2)
    label = (noise > 0.06).astype(np.uint8)
    label[:, 22:] *= 2  # cells of two classes that touch
    label[10:13, 10:20] = IGNORE
    assert ndimage.label(label == 1)[1] > 3
    np.testing.assert_allclose(
        weight_maps.unet_border(label, w0=w0, sigma_px=sigma),
        brute_force(label, w0, sigma),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("gap", [1, 4, 9, 20])
def test_two_half_planes_have_the_closed_form(gap):
    # Between two half planes d1 + d2 is the same everywhere: from pixel centre to pixel centre.
    label = np.ones((30, 60), np.uint8)
    label[:, 20 : 20 + gap] = 0
    term = weight_maps.border_term(label, w0=10.0, sigma_px=5.0)
    np.testing.assert_allclose(
        term[:, 20 : 20 + gap], 10 * np.exp(-((gap + 1) ** 2) / 50), rtol=1e-12
    )
    # Inside a cell d1 = 0 and d2 is the distance to the other one.
    np.testing.assert_allclose(term[:, 19], 10 * np.exp(-((gap + 1) ** 2) / 50), rtol=1e-12)


def test_one_cell_or_none_leaves_the_class_balance_alone():
    label = np.zeros((8, 8), np.uint8)
    np.testing.assert_array_equal(weight_maps.unet_border(label), 1.0)
    label[:4] = 1
    np.testing.assert_array_equal(weight_maps.unet_border(label), 1.0)
    np.testing.assert_array_equal(weight_maps.unet_border(np.full((4, 4), IGNORE, np.uint8)), 0.0)


def test_class_balance_gives_every_class_the_same_sum(rng):
    label = rng.choice([0, 0, 0, 0, 3, 7, IGNORE], (30, 30)).astype(np.uint8)
    weight = weight_maps.class_balance(label)
    sums = [weight[label == class_id].sum() for class_id in (0, 3, 7)]
    np.testing.assert_allclose(sums, sums[0], rtol=1e-12)
    np.testing.assert_allclose(weight[label != IGNORE].mean(), 1.0, rtol=1e-12)


def test_type_and_shape():
    weight = weight_maps.unet_border(np.eye(5, 7, dtype=np.uint8))
    assert weight.dtype == np.float32 and weight.shape == (5, 7)
