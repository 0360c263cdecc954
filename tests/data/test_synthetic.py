"""The drawn data set holds what its docstring promises."""

import threading
from functools import partial

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from seg_jax import data
from seg_jax.checks import UserError
from seg_jax.data.synthetic import dataset
from seg_jax.data.synthetic.sprite_table import SPRITES
from seg_jax.types import IGNORE, VOC_CLASSES, voc_palette


@pytest.fixture(scope="module")
def scenes():
    return [dataset.scene(np.random.default_rng([1, seed])) for seed in range(120)]


def files(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_every_class_but_background_has_a_sprite_and_is_one_of_vocs():
    assert dataset.CLASSES == ("background", *SPRITES)
    assert set(dataset.CLASSES) < set(VOC_CLASSES)


def test_class_ids_count_up_and_keep_vocs_colours(tiny_voc):
    source = data.open_source("synthetic_voc", tiny_voc, "train")
    assert source.classes == dataset.CLASSES
    seen = set()
    for index in range(len(source)):
        with Image.open(tiny_voc / "VOC2012" / source.label_paths[index]) as mask:
            stored = np.array(mask)
        label = source[index]["label"]
        np.testing.assert_array_equal(source.palette[label], voc_palette()[stored])
        names = np.array([*VOC_CLASSES, *[""] * 234, "void"])[stored]
        np.testing.assert_array_equal(
            np.array([*dataset.CLASSES, *[""] * 247, "void"])[label], names
        )
        seen |= set(np.unique(label))
    assert seen == {*range(len(dataset.CLASSES)), IGNORE}


def test_it_has_vocs_layout_and_palette(tiny_voc):
    home = tiny_voc / "VOC2012"
    ids = (home / "ImageSets/Segmentation/train.txt").read_text().split()
    val = (home / "ImageSets/Segmentation/val.txt").read_text().split()
    assert (home / "ImageSets/Segmentation/trainval.txt").read_text().split() == ids + val
    assert len(ids) == 10 and len(val) == 4
    for name in ids + val:
        with Image.open(home / f"SegmentationClass/{name}.png") as mask:
            assert mask.mode == "P"
            np.testing.assert_array_equal(np.reshape(mask.getpalette(), (-1, 3)), voc_palette())
            size = mask.size
        with Image.open(home / f"JPEGImages/{name}.jpg") as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", size)


def test_the_same_seed_draws_the_same_bytes_and_another_others(tiny_voc, tmp_path):
    dataset.write(tmp_path / "again", train=10, val=4)
    assert files(tmp_path / "again") == files(tiny_voc)
    dataset.write(tmp_path / "other", seed=1, train=10, val=4)
    other = files(tmp_path / "other")
    assert other.keys().isdisjoint(path for path in files(tiny_voc) if path.suffix == ".jpg")


def test_train_and_val_are_disjoint(tiny_voc):
    train, val = (data.open_source("synthetic_voc", tiny_voc, split) for split in ("train", "val"))
    assert not set(train.ids) & set(val.ids)
    pictures = {source[i]["image"].tobytes() for source in (train, val) for i in range(len(source))}
    assert len(pictures) == 14


def test_sizes_and_classes_vary(scenes):
    shapes = {label.shape for _, label in scenes}
    assert len(shapes) > 60
    assert all(96 <= side <= 112 for shape in shapes for side in shape)
    present = set().union(*(np.unique(label) for _, label in scenes))
    assert present == {*map(VOC_CLASSES.index, dataset.CLASSES), IGNORE}


def test_object_scales_span_more_than_eight_to_one(scenes):
    extents = []
    for _, label in scenes:
        for class_id in set(np.unique(label)) - {0, IGNORE}:
            components, _ = ndimage.label(label == class_id, np.ones((3, 3)))
            for box in ndimage.find_objects(components):
                sides = [part.stop - part.start for part in box]
                if all(0 < part.start and part.stop < side
                       for part, side in zip(box, label.shape, strict=True)):  # fmt: skip
                    extents.append(np.sqrt(np.prod(sides)))
    small, large = np.percentile(extents, [5, 95])
    assert large / small >= 8
    assert np.min(extents) <= 6


def test_thin_parts_are_labelled(scenes):
    """Opening with a 3x3 square removes every part thinner than three pixels."""
    for name, least in (("bicycle", 0.5), ("bus", 0.0)):
        class_id = VOC_CLASSES.index(name)
        masks = [label == class_id for _, label in scenes if (label == class_id).sum() > 100]
        thin = sum((m & ~ndimage.binary_opening(m, np.ones((3, 3)))).sum() for m in masks)
        share = thin / sum(mask.sum() for mask in masks)
        assert share > least if least else share < 0.1, (name, share)


def test_void_is_a_band_of_one_pixel_outside_the_objects(scenes):
    for _, label in scenes:
        objects = (label > 0) & (label != IGNORE)
        beside = ndimage.binary_dilation(objects, np.ones((3, 3))) & ~objects
        # Void not beside an object belongs to one that something else has covered since.
        assert (label[beside] == IGNORE).mean() > 0.6  # the rest: poles in front
        assert (label == IGNORE).mean() > 0.005
    assert np.mean([(label == IGNORE).mean() for _, label in scenes]) < 0.1


def test_only_the_horizon_tells_the_twins_apart(scenes):
    assert SPRITES[dataset.TWINS[0]] is SPRITES[dataset.TWINS[1]]
    bus, train = map(VOC_CLASSES.index, dataset.TWINS)
    kinds = [(bool((label == bus).any()), bool((label == train).any())) for _, label in scenes]
    assert (True, True) not in kinds
    assert kinds.count((True, False)) > 20 and kinds.count((False, True)) > 20


def test_missing_data_is_drawn_at_first_use(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "write", partial(dataset.write, train=2, val=1))
    monkeypatch.setenv("SEG_JAX_DATA", str(tmp_path / "deep" / "data"))
    source = data.open_source("synthetic_voc", None, "val")
    assert source.description == "synthetic_voc val: 1 images"
    assert source.root == tmp_path / "deep/data/synthetic_voc/VOC2012"
    assert [path.name for path in (tmp_path / "deep/data").iterdir()] == ["synthetic_voc"]


def test_two_at_once_both_end_with_the_whole_data_set(tmp_path):
    errors = []

    def write():
        try:
            dataset.write(tmp_path / "both", train=6, val=2)
        except UserError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("not empty" in error for error in errors)  # came when it was there already
    assert len(data.open_source("synthetic_voc", tmp_path / "both", "trainval")) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["both"]


def test_what_stands_there_is_not_overwritten(tmp_path, tiny_voc):
    with pytest.raises(UserError, match="is not empty; choose another folder or delete it"):
        dataset.write(tiny_voc)
    (tmp_path / "file").touch()
    with pytest.raises(UserError):
        data.open_source("synthetic_voc", tmp_path / "file", "train")


def test_pictures_of_another_version_are_refused(tiny_voc, monkeypatch):
    monkeypatch.setattr(dataset, "VERSION", 999)
    with pytest.raises(UserError, match=r"not drawn by this version \(999\).*--data\.root"):
        data.open_source("synthetic_voc", tiny_voc, "train")
