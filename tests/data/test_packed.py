"""What `data pack` writes holds the same pixels as the folder, for TFDS's readers and for ours."""

import dataclasses
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from voc_archives import make

from seg_jax import __main__ as command_line
from seg_jax import data
from seg_jax.checks import UserError
from seg_jax.data import pipeline
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.prepare import tfds as builders
from seg_jax.data.preprocessing import TORCH
from seg_jax.data.validate import check


def write_folder(root: Path, count: int, rng: np.random.Generator) -> Path:
    """A `folder` data set of noise, with its own values for void and the classes."""
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for number in range(count):
        size = (5 + number % 3, 7)
        picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / f"images/{number:02d}.png")
        mask = Image.fromarray(rng.choice(np.array([0, 4, 9], np.uint8), size))
        mask.save(root / f"masks/{number:02d}.png")
    (root / "classes.txt").write_text("0 void\n4 road\n9 car\n")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("mine"), 15, np.random.default_rng(0))


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory) -> Path:
    return builders.pack("folder", folder, tmp_path_factory.mktemp("tfds"), shards=3)


def assert_equal(left, right):
    assert left.ids == right.ids and left.classes == right.classes
    assert (left.description, left.checksum) == (right.description, right.checksum)
    np.testing.assert_array_equal(left.palette, right.palette)
    for index in range(len(right)):
        assert left.size(index) == right.size(index)
        for key in ("image", "label"):
            np.testing.assert_array_equal(left[index][key], right[index][key])


def test_every_record_equals_the_folders(folder, packed):
    for split in ("train", "val"):
        assert_equal(
            data.open_source("tfds", packed, split), data.open_source("folder", folder, split)
        )
    assert data.reader("tfds").splits(packed) == ("train", "val")
    assert len(list(packed.glob("folder-train.array_record-*-of-00003"))) == 3


def test_tfds_itself_reads_the_class_ids(folder, packed):
    """Decoded by TFDS, not by us."""
    source = data.open_source("folder", folder, "val")
    read = tfds.data_source("folder", split="val", data_dir=packed.parents[1])
    for index, record in enumerate(read):
        np.testing.assert_array_equal(record["label"][..., 0], source[index]["label"])
        np.testing.assert_array_equal(record["image"], source[index]["image"])
        assert record["id"].decode() == source.ids[index]


def test_data_check_reads_it(folder, packed):
    assert check.recognise(packed) == "tfds"
    found, expected = check.check("tfds", packed), check.check("folder", folder)
    assert not found.problems
    for one, other in zip(found.splits, expected.splits, strict=True):
        assert one.classes == other.classes and one.size_counts == other.size_counts


def test_lists_joined_as_in_tfds(packed):
    both = data.open_source("tfds", packed, "val+train")
    train, val = (data.open_source("tfds", packed, split) for split in ("train", "val"))
    assert both.ids == val.ids + train.ids
    np.testing.assert_array_equal(both[len(val) + 2]["image"], train[2]["image"])


def test_training_batches_are_the_same(folder, packed):
    config = DataConfig(
        dataset="folder",
        augmentation=Augmentation(crop=(4, 4), scale=(0.5, 2.0)),
        preprocessing=TORCH,
    )
    batches = []
    for dataset, root in (("folder", folder), ("tfds", packed)):
        source = pickle.loads(pickle.dumps(data.open_source(dataset, root, "train")))
        iterator = pipeline.train_dataset(source, config, batch_size=4, seed=1)
        batches.append([next(iterator) for _ in range(4)])
        iterator.close()
    for one, other in zip(*batches, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])


@pytest.mark.parametrize(
    ("config", "lists"),
    [("voc", ("train", "val")), ("aug", ("trainaug", "val")), ("fcn", ("sbd_train", "seg11valid"))],
)
def test_voc_in_its_three_forms(tmp_path, config, lists):
    case = make(tmp_path)
    case.run()
    root = builders.pack("voc2012", case.root, tmp_path / "tfds", config=config)
    assert root.relative_to(tmp_path).parts == ("tfds", "voc2012_segmentation", config, "1.0.0")
    assert data.reader("tfds").splits(root) == lists
    for split in lists:  # the masks are palette PNGs there
        assert_equal(
            data.open_source("tfds", root, split), data.open_source("voc2012", case.root, split)
        )


def test_it_needs_no_tensorflow(folder, tmp_path):
    code = f"""
import sys
from pathlib import Path
from seg_jax import data
from seg_jax.data.prepare import tfds
root = tfds.pack("folder", Path({str(folder)!r}), Path({str(tmp_path)!r}))
assert data.open_source("tfds", root, "train")[0]["image"].shape == (5, 7, 3)
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_real_pictures(test_data, tmp_path):
    root = builders.pack("camvid", test_data / "data/camvid_as_released", tmp_path)
    for split in ("train", "val", "test"):
        released = data.open_source("camvid", test_data / "data/camvid_as_released", split)
        assert_equal(data.open_source("tfds", root, split), released)


class TestRefusal:
    def test_names(self, folder, tmp_path):
        with pytest.raises(UserError, match=r"'ade20k': there are builders for voc2012, camvid"):
            builders.pack("ade20k", folder, tmp_path)
        with pytest.raises(UserError, match=r"--config 'augg': voc2012 has voc, aug, fcn"):
            builders.pack("voc2012", folder, tmp_path, config="augg")
        with pytest.raises(UserError, match=r"no folder .*nowhere"):
            builders.pack("folder", tmp_path / "nowhere", tmp_path)

    def test_a_bad_mask_stops_it(self, folder, tmp_path):
        bad = shutil.copytree(folder, tmp_path / "bad")
        Image.fromarray(np.full((5, 7), 77, np.uint8)).save(bad / "masks/03.png")
        with pytest.raises(UserError, match=r"bad/masks/03\.png: label value 77"):
            builders.pack("folder", bad, tmp_path / "tfds")
        assert not list((tmp_path / "tfds").rglob("dataset_info.json"))

    def test_what_was_packed_of_another_folder(self, folder, packed, tmp_path):
        assert builders.pack("folder", folder, packed.parents[1]) == packed  # the same: reused
        other = shutil.copytree(folder, tmp_path / "other")
        for part in ("images", "masks"):
            (other / part / "03.png").unlink()
        with pytest.raises(UserError, match=r"has other images in train than .*; delete it"):
            builders.pack("folder", other, packed.parents[1])

    def test_folders_and_lists(self, folder, packed):
        with pytest.raises(UserError, match="holds no dataset_info.json; write the data set with"):
            data.open_source("tfds", folder, "train")
        with pytest.raises(UserError, match="split 'trian' in .*did you mean train"):
            data.open_source("tfds", packed, "trian")

    def test_a_broken_picture_is_named(self, packed):
        source = data.open_source("tfds", packed, "train")
        records = [(content[:20], mask) for content, mask in source.records]
        broken = dataclasses.replace(source, records=records)
        with pytest.raises(UserError, match=r"00 \(image\): cannot be decoded"):
            broken[0]


def test_command_line(folder, tmp_path, capsys):
    code = command_line.main(
        ["data", "pack", "folder", "--root", str(folder), "--out", str(tmp_path)]
    )
    assert code == 0
    assert f"--data.root {tmp_path}/folder/1.0.0" in capsys.readouterr().out
