"""VOC with seven classes: which images are kept, and what their masks become."""

import numpy as np
import pytest
from PIL import Image
from test_readers import make_voc

from seg_jax import data
from seg_jax.checks import UserError
from seg_jax.types import IGNORE, VOC_CLASSES, voc_palette


def test_other_classes_are_void_and_images_without_any_of_the_six_left_out(tmp_path):
    # make_voc fills mask n with class n % 21, and its first row with void.
    root = make_voc(tmp_path, {"train": [f"i{n:02}" for n in range(21)], "val": ["v0"]})
    source = data.open_source("voc2012_frequent", root, "train")
    wanted = ["cat", "cow", "dog", "horse", "person", "sheep"]
    assert source.ids == tuple(f"i{VOC_CLASSES.index(name):02}" for name in wanted)
    assert source.name == "voc2012-frequent-part"
    for index, name in enumerate(wanted):
        label = source[index]["label"]
        assert source.classes[label[1, 0]] == name
        assert (label[0] == IGNORE).all() and (label[1:] == label[1, 0]).all()
        np.testing.assert_array_equal(
            source.palette[label[1, 0]], voc_palette()[VOC_CLASSES.index(name)]
        )
    mask = np.full((5, 6), VOC_CLASSES.index("bird"), np.uint8)
    mask[0, :3] = 0, VOC_CLASSES.index("cat"), IGNORE
    Image.fromarray(mask).save(root / "VOC2012" / "SegmentationClass" / "i08.png")
    label = data.open_source("voc2012_frequent", root, "train")[0]["label"]
    assert label[0, :3].tolist() == [0, 1, IGNORE] and (label[1:] == IGNORE).all()
    with pytest.raises(UserError, match="no image shows any of"):
        data.open_source("voc2012_frequent", root, "val")


@pytest.mark.slow
def test_the_part_of_voc_here(test_data):
    """460 and 321 images, as issue 23 counts them."""
    root = test_data / "data" / "VOCdevkit"
    sizes = [len(data.open_source("voc2012_frequent", root, split)) for split in ("train", "val")]
    assert sizes == [460, 321]
