"""What U-Net's experiments ask of the data: one grey channel, context mirrored at the borders."""

import numpy as np

from seg_jax.data import transforms
from seg_jax.data.config import Augmentation
from seg_jax.data.preprocessing import Preprocessing
from seg_jax.types import IGNORE


def test_grey_of_a_grey_picture_is_its_grey(rng):
    grey = rng.integers(0, 256, (2, 5, 4, 1)).astype(np.uint8)
    preprocessing = Preprocessing(mean=(100.0,) * 3, std=(50.0,) * 3, order="grey")
    result = preprocessing(np.repeat(grey, 3, axis=-1))
    assert (result.dtype, result.shape[-1]) == (np.float32, preprocessing.inputs)
    np.testing.assert_allclose(result, (np.float64(grey) - 100) / 50, atol=1e-6)


def test_grey_weighs_green_most():
    primaries = np.eye(3, dtype=np.uint8)[None] * 200
    result = Preprocessing(mean=(0.0,) * 3, order="grey")(primaries)
    np.testing.assert_allclose(result[0, :, 0], (59.8, 117.4, 22.8), rtol=1e-6)


def test_mirrored_context_lets_every_pixel_be_predicted(rng):
    """A valid network with margin 3 answers for the middle of its crop: with the image's whole
    surroundings mirrored, that middle is the picture."""
    image = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    label = rng.integers(0, 21, (6, 8)).astype(np.uint8)
    config = Augmentation(crop=(12, 14), flip=0.0, mirror_px=3)
    wide, wide_label = transforms.augment(image, label, rng, config, pad_value=(0, 0, 0))
    np.testing.assert_array_equal(wide[3:-3, 3:-3], image)
    np.testing.assert_array_equal(wide_label[3:-3, 3:-3], label)
    for distance in (1, 2, 3):  # as far outside the border as the pixel shown is inside it
        np.testing.assert_array_equal(wide[3 - distance, 3:-3], image[distance])
        np.testing.assert_array_equal(wide[3:-3, -4 + distance], image[:, -1 - distance])
    assert np.all(wide_label[:3] == IGNORE) and np.all(wide_label[:, -3:] == IGNORE)
