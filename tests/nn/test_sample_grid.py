"""Coordinate maps against weights of 1 pushed through the layers themselves, in one dimension."""

import numpy as np
import pytest

from seg_jax.nn.sample_grid import Grid


def windows(size, kernel, stride, padding):
    """Rows: outputs; columns: the input samples that an output covers."""
    starts = np.arange(0, size + 2 * padding - kernel + 1, stride) - padding
    return np.array([[s <= i < s + kernel for i in range(size)] for s in starts], float)


def centres(matrix):
    """Mean position, in the image, of what each sample covers."""
    return matrix @ np.arange(matrix.shape[1]) / matrix.sum(axis=1)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (2, 2), (7, 2)])
def test_conv_and_its_transpose(kernel, stride, padding):
    first = windows(64, 3, 2, 1)
    both = windows(len(first), kernel, stride, padding) @ first
    grid = Grid().conv(3, stride=2, padding=1).conv(kernel, stride=stride, padding=padding)
    inside = slice(4, len(both) - 4)  # the border's windows are cut off
    expected = grid.stride * np.arange(len(both)) + grid.origin
    np.testing.assert_allclose(centres(both)[inside], expected[inside])
    back = grid.transposed(kernel, stride=stride, padding=padding)
    assert back == Grid().conv(3, stride=2, padding=1)


def test_rate_spreads_the_taps():
    assert Grid().conv(3, rate=6) == Grid().conv(13)


def test_offset_of():
    fine, coarse = Grid(8, -95.5), Grid(8, -23.5)
    assert fine.offset_of(coarse) == 9
    with pytest.raises(ValueError, match="no crop aligns"):
        fine.offset_of(Grid(16, -23.5))
    with pytest.raises(ValueError, match="no crop aligns"):
        fine.offset_of(Grid(8, -24.5))
