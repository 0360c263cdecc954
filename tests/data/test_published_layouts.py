"""Cityscapes, ADE20K and ISBI's stacks, each as a tiny folder in the published layout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_jax import data
from seg_jax.checks import UserError
from seg_jax.data.datasets import ade20k, cityscapes, folder
from seg_jax.data.validate import check
from seg_jax.types import IGNORE

CLASS_LISTS = Path(__file__).parents[2] / "docs" / "classes"


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(mask: np.ndarray) -> np.ndarray:
    return np.repeat(mask[..., None], 3, axis=-1)


def make_cityscapes(root: Path) -> Path:
    mask = np.arange(34, dtype=np.uint8).reshape(2, 17)
    for split, city, frame in (
        ("train", "zurich", "000000_000019"),
        ("train", "aachen", "000173_000019"),
        ("val", "lindau", "000001_000019"),
    ):
        name = f"{split}/{city}/{city}_{frame}"
        write(root / f"leftImg8bit/{name}_leftImg8bit.png", picture(mask))
        write(root / f"gtFine/{name}_gtFine_labelIds.png", mask)
        write(root / f"gtFine/{name}_gtFine_instanceIds.png", mask)
        (root / f"gtFine/{name}_gtFine_polygons.json").write_text("{}")
    return root


def make_ade20k(root: Path) -> Path:
    home = root / "ADEChallengeData2016"
    mask = np.arange(151, dtype=np.uint8)[None]
    for part, name in (("training", "train"), ("validation", "val")):
        for number in (2, 1):
            file = f"{part}/ADE_{name}_{number:08d}"
            write(home / f"images/{file}.jpg", picture(mask))
            write(home / f"annotations/{file}.png", mask)
    return root


class TestCityscapes:
    @pytest.fixture
    def root(self, tmp_path):
        return make_cityscapes(tmp_path)

    def test_pairs_city_by_city(self, root):
        source = data.open_source("cityscapes", root, "train")
        assert source.ids == ("aachen_000173_000019", "zurich_000000_000019")
        assert source.description == "cityscapes-part train: 2 of 2975 images"
        assert cityscapes.splits(root) == ("train", "val")

    def test_label_ids_become_the_19_classes(self, root):
        """Cordts et al., CVPR 2016, table of classes: these 15 ids are not scored."""
        record = data.open_source("cityscapes", root, "val")[0]
        stored = np.arange(34)
        not_scored = {0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30}
        label = record["label"].ravel()
        assert set(stored[label == IGNORE]) == not_scored
        np.testing.assert_array_equal(label[label != IGNORE], np.arange(19))  # in order of the ids
        name = dict(zip(stored.tolist(), label.tolist(), strict=True))
        assert cityscapes.CLASSES[name[7]] == "road" and cityscapes.CLASSES[name[26]] == "car"
        assert cityscapes.CLASSES[name[33]] == "bicycle"

    def test_what_is_wrong_is_named(self, root):
        with pytest.raises(UserError, match=r"split 'test' of Cityscapes: .*known: train, val"):
            data.open_source("cityscapes", root, "test")
        mask = next((root / "gtFine/val").rglob("*labelIds.png"))
        write(mask, np.full((2, 17), 34, np.uint8))
        with pytest.raises(UserError, match=r"lindau.*labelIds\.png: label value 34"):
            data.open_source("cityscapes", root, "val")[0]
        mask.unlink()
        with pytest.raises(UserError, match=r"mask .*lindau.*_gtFine_labelIds\.png does not exist"):
            data.open_source("cityscapes", root, "val")
        with pytest.raises(UserError, match="holds no folders leftImg8bit/ and gtFine/; unzip"):
            data.open_source("cityscapes", root / "gtFine", "val")


class TestADE20K:
    @pytest.fixture
    def root(self, tmp_path):
        return make_ade20k(tmp_path)

    def test_zero_is_void_and_ids_start_at_one(self, root):
        source = data.open_source("ade20k", root, "val")
        assert source.ids == ("ADE_val_00000001", "ADE_val_00000002")
        assert source.description == "ade20k-part val: 2 of 2000 images"
        label = source[0]["label"].ravel()
        assert label[0] == IGNORE
        np.testing.assert_array_equal(label[1:], np.arange(150))

    def test_the_150_classes(self):
        """Some of the benchmark's numbers (objectInfo150.txt), which start at 1."""
        assert len(set(ade20k.CLASSES)) == 150
        for number, name in {
            1: "wall",
            13: "person",
            21: "car",
            59: "screen door",
            150: "flag",
        }.items():
            assert ade20k.CLASSES[number - 1] == name

    def test_what_is_wrong_is_named(self, root):
        write(root / "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png",
              np.full((1, 151), 151, np.uint8))  # fmt: skip
        with pytest.raises(UserError, match=r"ADE_val_00000001\.png: label value 151"):
            data.open_source("ade20k", root, "val")[0]
        with pytest.raises(UserError, match=r"split 'test' of ADE20K: .*known: train, val"):
            data.open_source("ade20k", root, "test")
        with pytest.raises(UserError, match="holds no ADE20K: .*unzip ADEChallengeData2016.zip"):
            data.open_source("ade20k", root / "ADEChallengeData2016/images", "val")


class TestISBIStacks:
    def write(self, root, images, labels):
        for name, pages in (("train-volume.tif", images), ("train-labels.tif", labels)):
            first, *rest = (Image.fromarray(page) for page in pages)
            first.save(root / name, save_all=True, append_images=rest)

    def test_a_page_is_a_section(self, tmp_path, rng):
        images = rng.integers(0, 256, (30, 4, 5), dtype=np.uint8)
        labels = 255 * rng.integers(0, 2, (30, 4, 5), dtype=np.uint8)
        self.write(tmp_path, images, labels)
        val = data.open_source("isbi2012", tmp_path, "val")
        assert val.description == "isbi2012 val: 6 images" and val.size(3) == (4, 5)
        for index, section in enumerate(range(24, 30)):
            record = val[index]
            np.testing.assert_array_equal(record["image"], picture(images[section]))
            np.testing.assert_array_equal(record["label"], labels[section] // 255)
        assert (
            check.recognise(tmp_path) == "isbi2012"
            and not check.check("isbi2012", tmp_path).problems
        )

    def test_a_short_stack_is_a_part_and_a_bad_page_is_named(self, tmp_path):
        pages = np.zeros((26, 4, 5), np.uint8)
        labels = pages.copy()
        labels[25] = 7
        self.write(tmp_path, pages, labels)
        val = data.open_source("isbi2012", tmp_path, "val")
        assert val.description == "isbi2012-part val: 2 of 6 images"
        with pytest.raises(UserError, match=r"train-labels\.tif, page 25: label value 7"):
            val[1]
        self.write(tmp_path, pages, labels[:3])
        with pytest.raises(UserError, match=r"train-labels\.tif, page 24: cannot be decoded"):
            data.open_source("isbi2012", tmp_path, "val")[0]

    def test_equal_to_the_pictures(self, test_data, tmp_path):
        root = test_data / "data/isbi2012"
        stacks = (
            [np.asarray(Image.open(root / f"{part}/{n}.png").convert("L")) for n in range(30)]
            for part in ("image", "label")
        )
        self.write(tmp_path, *stacks)
        pictures, stack = (data.open_source("isbi2012", r, "trainval") for r in (root, tmp_path))
        assert pictures.checksum == stack.checksum
        for index in (0, 17, 29):
            for key in ("image", "label"):
                np.testing.assert_array_equal(pictures[index][key], stack[index][key])


@pytest.mark.parametrize(
    ("dataset", "make", "void"),
    [("cityscapes", make_cityscapes, 15 / 34), ("ade20k", make_ade20k, 1 / 151)],
)
def test_lint_recognises_and_measures(tmp_path, dataset, make, void):
    root = make(tmp_path)
    assert check.recognise(root) == dataset
    report = check.check(dataset, root)
    assert not report.problems and [split.split for split in report.splits] == ["train", "val"]
    assert report.splits[0].void.share == pytest.approx(void)


@pytest.mark.parametrize(
    ("name", "count", "some"),
    [
        ("pascal_context_59", 59, {0: IGNORE, 1: "aeroplane", 37: "person", 59: "wood"}),
        ("sun_rgbd_37", 37, {0: IGNORE, 1: "wall", 25: "tv", 37: "bag"}),
        ("coco_stuff_171", 171, {0: "person", 89: "toothbrush", 91: "banner", 181: "wood"}),
    ],
)
def test_documented_class_lists_are_what_folder_reads(name, count, some):
    classes, label_ids, _ = folder.read_classes(CLASS_LISTS / f"{name}.txt")
    assert len(classes) == len(set(classes)) == count
    for value, expected in some.items():
        found = label_ids[value]
        assert (found if found == IGNORE else classes[found]) == expected
    if name.startswith("coco"):  # ids that COCO never annotated
        assert not {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90} & label_ids.keys()
