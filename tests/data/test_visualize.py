"""Colours over a picture, and the legend below it."""

import numpy as np

from seg_jax.data import visualize
from seg_jax.types import IGNORE, VOC_CLASSES, voc_palette


def test_background_keeps_the_picture_and_classes_are_blended():
    image = np.full((9, 9, 3), 200, np.uint8)
    label = np.zeros((9, 9), np.uint8)
    label[2:8, 2:8] = 1  # aeroplane: (128, 0, 0)
    drawn = visualize.overlay(image, label, voc_palette())
    np.testing.assert_array_equal(drawn[0, 0], [200, 200, 200])
    blend = [round(200 * 0.45 + c * 0.55) for c in (128, 0, 0)]
    np.testing.assert_array_equal(drawn[4, 4], blend)
    np.testing.assert_array_equal(drawn[7, 7], [128, 0, 0])  # the outline


def test_the_legend_shows_the_classes_that_occur():
    label = np.zeros((60, 300), np.uint8)
    label[:20] = 15  # person: (192, 128, 128)
    label[20:30] = IGNORE
    image = np.zeros((60, 300, 3), np.uint8)
    drawn = np.array(visualize.with_legend(image, label, voc_palette(), VOC_CLASSES))
    legend = {tuple(colour) for colour in drawn[60:].reshape(-1, 3).tolist()}
    assert (192, 128, 128) in legend
    assert (0, 0, 0) in legend
    assert (128, 0, 0) not in legend  # aeroplane
    np.testing.assert_array_equal(drawn[:60], image)


def test_the_legend_of_a_tiny_picture_is_not_cut_off():
    label = np.arange(21, dtype=np.uint8).reshape(3, 7)
    image = np.zeros((3, 7, 3), np.uint8)
    drawn = visualize.with_legend(image, label, voc_palette(), VOC_CLASSES)
    assert drawn.width > 60  # the longest name fits
    assert drawn.height > 3 + 21 * 19  # one row a class
