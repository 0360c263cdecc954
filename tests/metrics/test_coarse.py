"""What is left of a label map at a coarse stride, beside pictures scaled by PIL."""

import numpy as np
import pytest
from PIL import Image

from seg_jax.metrics import coarse
from seg_jax.types import IGNORE


@pytest.fixture
def label():
    drawn = np.zeros((64, 96), np.uint8)
    drawn[5:30, 10:70], drawn[36:60, 40:44], drawn[40:64, 64:90] = 1, 2, 2
    drawn[30:32, 10:70] = IGNORE
    return drawn


def test_stride_1_keeps_everything_but_void(label):
    np.testing.assert_array_equal(coarse.at_stride(label, 1, 3), np.where(label == 255, 0, label))


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_it_is_pils_box_filter_and_bilinear_interpolation_of_each_class(label, stride):
    planes = []
    for value in range(3):
        plane = Image.fromarray((label == value).astype(np.float32))
        small = plane.resize((96 // stride, 64 // stride), Image.Resampling.BOX)
        planes.append(np.asarray(small.resize((96, 64), Image.Resampling.BILINEAR)))
    found = coarse.at_stride(label, stride, 3)
    first, second = np.sort(planes, 0)[-1], np.sort(planes, 0)[-2]
    clear = first - second > 1e-4  # PIL rounds; ties may fall either way
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found[clear], np.argmax(planes, 0)[clear])


def test_the_last_cell_may_be_smaller_and_thin_parts_are_lost():
    label = np.zeros((37, 50), np.uint8)
    label[20:37, 20:50], label[:, 4] = 1, 2
    found = coarse.at_stride(label, 16, 3)
    assert found.shape == label.shape and set(np.unique(found)) == {0, 1}
    assert found[30, 40] == 1 and found[5, 30] == 0
    with pytest.raises(ValueError, match="stride"):
        coarse.at_stride(label, 0, 3)
