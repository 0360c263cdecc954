"""Palettes: whose classes get which, and whether colour-blind readers can tell them apart."""

import itertools

import numpy as np
import pytest

from seg_jax.data import colours, label_map
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.datasets import folder
from seg_jax.data.preprocessing import TORCH
from seg_jax.types import VOC_CLASSES, voc_palette


def least(palette, count):
    """The smallest distance between two of the first colours."""
    first = palette[:count].astype(float)
    return min(colours.distances(a[None], b)[0] for a, b in itertools.combinations(first, 2))


def test_own_classes_get_okabe_and_itos_colours_and_vocs_keep_theirs(tmp_path):
    np.testing.assert_array_equal(colours.of(VOC_CLASSES), voc_palette())
    np.testing.assert_array_equal(colours.of(("a", "b"), "voc"), voc_palette())
    own = colours.of(("Background", "cell", "wall"))
    assert own[:3].tolist() == [[0, 0, 0], [230, 159, 0], [86, 180, 233]]
    assert colours.of(("road", "sky"))[:2].tolist() == [[230, 159, 0], [86, 180, 233]]
    assert len({tuple(colour) for colour in colours.safe(False).tolist()}) == 256
    (tmp_path / "classes.txt").write_text("background\ncell\n")
    np.testing.assert_array_equal(folder.read_classes(tmp_path / "classes.txt")[2], own)
    where = DataConfig("folder", Augmentation((8, 8)), TORCH, root=tmp_path / "absent")
    absent = label_map.find(where, 3)
    assert absent.colours[0] == (230, 159, 0)


def test_distance_is_that_of_known_colours():
    """CIELAB of white, red and green under D65; deuteranopia brings red and green together."""
    white, red, green = (np.array(c, float) for c in ((255,) * 3, (255, 0, 0), (0, 128, 0)))
    lab = colours._lab(colours._linear(np.stack([white, red])))
    np.testing.assert_allclose(lab, [[100, 0, 0], [53.24, 80.09, 67.20]], atol=0.15)
    normal = np.linalg.norm(lab[1] - colours._lab(colours._linear(green[None]))[0])
    assert normal > 110 > 60 > colours.distances(red[None], green)[0]


@pytest.mark.parametrize("count", [7, 12, 20])
def test_colour_blind_readers_can_tell_the_safe_ones_apart(count):
    """A difference of 2.3 is just noticeable; VOC's first 20 come within 1.6 of each other."""
    assert least(colours.safe(False), count) > 17
    assert least(voc_palette(), count) < 12
