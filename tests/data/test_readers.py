"""Every data set through the one door, `open_source`."""

import hashlib
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_jax import data
from seg_jax.checks import UserError
from seg_jax.data.datasets import camvid, isbi2012
from seg_jax.data.datasets import voc2012 as voc
from seg_jax.types import IGNORE, VOC_CLASSES


def write_pair(image_path: Path, mask_path: Path, mask: np.ndarray):
    for path in (image_path, mask_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.repeat(mask[..., None] * 3, 3, axis=-1)).save(image_path)
    Image.fromarray(mask).save(mask_path)


def make_voc(root: Path, lists: dict[str, list[str]], *, newline="\n") -> Path:
    home = root / "VOC2012"
    (home / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, ids in lists.items():
        text = newline.join(ids) + newline
        (home / "ImageSets" / "Segmentation" / f"{split}.txt").write_bytes(text.encode())
        for number, name in enumerate(ids):
            mask = np.full((5, 6), number % 21, np.uint8)
            mask[0] = IGNORE
            write_pair(
                home / f"JPEGImages/{name}.jpg", home / f"SegmentationClass/{name}.png", mask
            )
    return root


@pytest.fixture
def small_voc(tmp_path):
    return make_voc(tmp_path / "VOCdevkit", {"train": ["a", "b", "c"], "val": ["d"]})


class TestOpenSource:
    def test_unknown_names_and_splits_get_the_closest_ones(self, small_voc):
        with pytest.raises(UserError, match=r"data set: unknown name 'cam_vid'; did you mean cam"):
            data.open_source("cam_vid", None, "train")
        with pytest.raises(UserError, match=r"split 'vall': no .*vall\.txt.*did you mean val"):
            data.open_source("voc2012", small_voc, "vall")

    @pytest.mark.parametrize("dataset", sorted(set(data.names()) - {"synthetic_voc"}))
    def test_missing_data_says_where_it_was_looked_for_and_how_to_get_it(
        self, dataset, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("SEG_JAX_DATA", str(tmp_path))
        place = re.escape(str(tmp_path / dataset))
        with pytest.raises(UserError, match=rf"no folder {place}; .* there.*--data\.root"):
            data.open_source(dataset, None, "train")
        (tmp_path / dataset).mkdir()
        with pytest.raises(UserError, match=rf"{place} (holds no|has no folder)"):
            data.open_source(dataset, None, "train")

    def test_default_root_is_the_environments_or_the_users(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SEG_JAX_DATA", str(tmp_path))
        assert data.default_root("camvid") == tmp_path / "camvid"
        monkeypatch.delenv("SEG_JAX_DATA")
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
        assert data.default_root("camvid") == tmp_path / "share/seg_jax/data/camvid"

    def test_what_can_be_known_at_once_is_an_error_at_once(self, small_voc):
        lists = small_voc / "VOC2012/ImageSets/Segmentation"
        (lists / "empty.txt").write_text("\n\n")
        with pytest.raises(UserError, match=r"voc2012-part empty in .*: the list is empty"):
            data.open_source("voc2012", small_voc, "empty")
        (lists / "twice.txt").write_text("a\nb\na\n")
        with pytest.raises(UserError, match=r"id 'a' occurs 2 times in the list"):
            data.open_source("voc2012", small_voc, "twice")
        (lists / "more.txt").write_text("a\nz\n")
        with pytest.raises(
            UserError,
            match=r"listed image .*JPEGImages/z\.jpg does not exist; its folder has a.*and 1 more",
        ):
            data.open_source("voc2012", small_voc, "more")


class TestSource:
    def test_record_size_and_description(self, small_voc):
        source = data.open_source("voc2012", small_voc, "train")
        record = source[2]
        assert record["id"] == "c"
        assert record["image"].shape == (5, 6, 3) and record["image"].dtype == np.uint8
        assert record["label"].dtype == np.uint8
        np.testing.assert_array_equal(record["label"][0], IGNORE)
        np.testing.assert_array_equal(record["label"][1:], 2)
        assert source.size(0) == (5, 6)
        assert len(source) == 3 and source.num_classes == 21 and source.classes == VOC_CLASSES
        assert source.description == "voc2012-part train: 3 of 1464 images"

    def test_checksum_is_that_of_the_list(self, small_voc):
        source = data.open_source("voc2012", small_voc, "train")
        assert source.checksum == hashlib.sha256(b"a\nb\nc").hexdigest()
        assert source.checksum != data.open_source("voc2012", small_voc, "val").checksum

    def test_survives_pickling(self, small_voc):
        source = data.open_source("voc2012", small_voc, "train")
        copy = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(copy[1]["label"], source[1]["label"])

    def test_bad_masks_are_named_with_value_and_remedy(self, small_voc):
        source = data.open_source("voc2012", small_voc, "train")
        mask = np.zeros((5, 6), np.uint8)
        mask[2, 3] = 150
        Image.fromarray(mask).save(source.label_file(0))
        with pytest.raises(
            UserError, match=r"a\.png: label value 150 .*\(0\.\.20\).*void \(255\).*classes\.txt"
        ):
            source[0]
        Image.fromarray(np.zeros((6, 5), np.uint8)).save(source.label_file(1))
        with pytest.raises(UserError, match=r"b\.png: mask of 5x6 .* image of 6x5; rotate"):
            source[1]
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(source.label_file(1))
        with pytest.raises(UserError, match=r"b\.png: mask of 9x9 .*; resize \(nearest"):
            source[1]


class TestVOC:
    def test_root_may_be_voc2012_vocdevkit_or_their_parent(self, small_voc):
        checksums = {
            data.open_source("voc2012", root, "train").checksum
            for root in (small_voc / "VOC2012", small_voc, small_voc.parent)
        }
        assert len(checksums) == 1

    def test_crlf_blank_lines_and_a_mark_at_the_start_are_tolerated(self, tmp_path, small_voc):
        root = make_voc(tmp_path / "crlf", {"train": ["a", "b", "c"]}, newline="\r\n\r\n")
        path = root / "VOC2012/ImageSets/Segmentation/train.txt"
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        plain = data.open_source("voc2012", small_voc, "train")
        assert data.open_source("voc2012", root, "train").ids == plain.ids

    def test_augmented_lists_take_the_augmented_masks(self, small_voc):
        home = small_voc / "VOC2012"
        (home / "ImageSets/Segmentation/trainaug.txt").write_text(
            "/JPEGImages/a.jpg /SegmentationClassAug/a.png\n"  # as DeepLab publishes it
        )
        shutil.copytree(home / "SegmentationClass", home / "SegmentationClassAug")
        source = data.open_source("voc2012", small_voc, "trainaug")
        assert source.label_paths == ("SegmentationClassAug/a.png",)
        assert voc.splits(small_voc) == ("train", "val", "trainaug")

    def test_only_the_official_lists_bear_the_official_name(self, test_data):
        lists = {
            split: (test_data / f"data/voc2012_full_lists/{split}.txt").read_text().split()
            for split in ("train", "val", "trainval", "trainaug")
        }
        lists["trainval_aug"] = sorted({*lists["trainaug"], *lists["val"]})
        for split, ids in lists.items():
            assert len(ids) == voc.COUNTS[split]
            assert voc.is_official(split, tuple(ids[::-1]))
            assert not voc.is_official(split, tuple(ids[1:]))
            assert not voc.is_official(split, ("2007_000001", *ids[1:]))
            assert not voc.is_official("test", tuple(ids))

    def test_the_part_with_real_photographs(self, test_data):
        root = test_data / "data" / "VOCdevkit"
        for split, count, of in (("train", 494, 1464), ("val", 351, 1449)):
            source = data.open_source("voc2012", root, split)
            assert source.description == f"voc2012-part {split}: {count} of {of} images"
            record = source[0]
            assert record["image"].shape[:2] == record["label"].shape == source.size(0)


class TestCamVid:
    def make(self, root, prefix, suffix):
        for split in ("train", "test"):
            lines = []
            for name in ("x1", "x2"):
                mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
                write_pair(
                    root / f"{split}/{name}{suffix}", root / f"{split}annot/{name}.png", mask
                )
                lines.append(f"{prefix}{split}/{name}{suffix} {prefix}{split}annot/{name}.png\n")
            (root / f"{split}.txt").write_text("".join(lines))

    @pytest.mark.parametrize(("prefix", "suffix"), [("/SegNet/CamVid/", ".png"), ("", ".jpg")])
    def test_released_and_relative_lists(self, tmp_path, prefix, suffix):
        self.make(tmp_path / "CamVid", prefix, suffix)
        source = data.open_source("camvid", tmp_path, "train")
        assert source.ids == ("x1", "x2") and source.description.startswith("camvid-part train: 2")
        expected = np.arange(12).reshape(3, 4)
        expected[2, 3] = IGNORE  # 11 is void
        np.testing.assert_array_equal(source[1]["label"], expected)
        assert camvid.splits(tmp_path) == ("train", "test")

    def test_a_broken_line_is_named(self, tmp_path):
        self.make(tmp_path, "", ".png")
        (tmp_path / "train.txt").write_text("train/x1.png\n")
        with pytest.raises(UserError, match=r"train\.txt, line 1: 'train/x1\.png' is not '<image>"):
            data.open_source("camvid", tmp_path, "train")

    def test_twelve_is_no_label(self, tmp_path):
        self.make(tmp_path, "", ".png")
        Image.fromarray(np.full((3, 4), 12, np.uint8)).save(tmp_path / "trainannot/x1.png")
        with pytest.raises(UserError, match=r"x1\.png: label value 12"):
            data.open_source("camvid", tmp_path, "train")[0]

    def test_the_real_one_in_both_layouts(self, test_data):
        for split, count in camvid.COUNTS.items():
            source = data.open_source("camvid", test_data / "data/camvid", split)
            assert source.description == f"camvid {split}: {count} images"
            released = data.open_source("camvid", test_data / "data/camvid_as_released", split)
            assert released.name == "camvid-part" and set(released.ids) <= set(source.ids)
            for index, name in enumerate(released.ids):
                same = source.ids.index(name)
                np.testing.assert_array_equal(released[index]["label"], source[same]["label"])
                difference = np.abs(
                    released[index]["image"].astype(int) - source[same]["image"].astype(int)
                )
                assert difference.mean() < 2  # the one is lossless, the other JPEG


class TestISBI:
    def test_splits_are_disjoint_and_complete(self):
        train, val = (set(isbi2012.SECTIONS[split]) for split in ("train", "val"))
        assert not train & val and train | val == set(range(30))

    def test_membrane_and_cell(self, test_data):
        root = test_data / "data/isbi2012"
        val = data.open_source("isbi2012", root, "val")
        assert val.ids == ("24", "25", "26", "27", "28", "29")
        record = val[0]
        stored = np.asarray(Image.open(root / "label/24.png").convert("L"))
        np.testing.assert_array_equal(record["label"] == 1, stored == 255)
        np.testing.assert_array_equal(record["label"] == 0, stored == 0)
        assert 0.1 < (record["label"] == 0).mean() < 0.35  # membranes are the thin ones
        assert len(data.open_source("isbi2012", root, "trainval")) == 30


class TestFolder:
    def make(self, root, names, classes="road\ncar\n", lists=None):
        for name in names:
            write_pair(
                root / f"images/{name}.png",
                root / f"masks/{name}.png",
                np.array([[0, 1], [1, 255]], np.uint8),
            )
        (root / "classes.txt").write_text(classes)
        for split, ids in (lists or {}).items():
            (root / f"{split}.txt").write_text("\n".join(ids))
        return root

    def test_every_fifth_is_val_without_lists(self, tmp_path):
        root = self.make(tmp_path / "mine", [f"p{n:02d}" for n in range(12)])
        train = data.open_source("folder", root, "train")
        val = data.open_source("folder", root, "val")
        assert val.ids == ("p04", "p09") and len(train) == 10 and not set(train.ids) & set(val.ids)
        assert train.description == "folder:mine train: 10 images"
        assert train.classes == ("road", "car")
        np.testing.assert_array_equal(train[0]["label"], [[0, 1], [1, IGNORE]])

    def test_lists_subfolders_and_suffixes(self, tmp_path):
        lists = {"train": ["a/x.png", "b/x"], "val": ["y"]}
        root = self.make(tmp_path, ["a/x", "b/x", "y z"], lists=lists)
        (root / "images/y z.png").rename(root / "images/y.jpeg")
        (root / "masks/y z.png").rename(root / "masks/y.png")
        assert data.open_source("folder", root, "train").ids == ("a/x", "b/x")
        assert data.open_source("folder", root, "val").image_paths == ("images/y.jpeg",)
        with pytest.raises(UserError, match=r"split 'test': no .*known: train, val"):
            data.open_source("folder", root, "test")

    def test_values_may_be_mapped(self, tmp_path):
        classes = "# value name\n0 void\n1: wet road\n255 sky\n"
        source = data.open_source("folder", self.make(tmp_path, ["a"], classes), "train")
        assert source.classes == ("wet road", "sky")
        np.testing.assert_array_equal(source[0]["label"], [[IGNORE, 0], [0, 1]])

    @pytest.mark.parametrize(
        ("classes", "message"),
        [
            ("road\n1 car\n", r"classes\.txt: 'road' has no value.*number all or none"),
            ("1 road\n1 car\n", r"value 1 \('car'\) occurs twice"),
            ("300 road\n", r"value 300 \('road'\) is above 255"),
            ("# nothing\n", r"0 classes"),
        ],
    )
    def test_a_bad_class_list_is_explained(self, tmp_path, classes, message):
        with pytest.raises(UserError, match=message):
            data.open_source("folder", self.make(tmp_path, ["a"], classes), "train")

    def test_what_is_missing_is_named(self, tmp_path):
        root = self.make(tmp_path, ["a", "b"])
        (root / "masks/b.png").unlink()
        with pytest.raises(UserError, match=r"listed mask .*masks/b\.png does not exist; .* has a"):
            data.open_source("folder", root, "val")
        (root / "classes.txt").unlink()
        with pytest.raises(UserError, match=r"classes\.txt: no such file; write one class a line"):
            data.open_source("folder", root, "train")

    def test_two_images_of_one_id_are_refused(self, tmp_path):
        root = self.make(tmp_path, ["a"])
        shutil.copy(root / "images/a.png", root / "images/a.bmp")
        with pytest.raises(UserError, match=r"a\.png and a\.bmp have the same id 'a'; rename one"):
            data.open_source("folder", root, "train")
