"""`data check` finds every problem at once and measures what it reads."""

import json

import numpy as np
import pytest
from PIL import Image

from seg_jax import data
from seg_jax.checks import UserError
from seg_jax.data import class_weights
from seg_jax.data.datasets import camvid
from seg_jax.data.validate import check
from seg_jax.types import IGNORE


@pytest.fixture
def folder(tmp_path):
    """Ten sound pairs of 8x6 pixels: class 0 above, class 1 below, a void pixel."""
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    mask = np.zeros((6, 8), np.uint8)
    mask[4:] = 1
    mask[0, 0] = 255
    for number in range(10):
        Image.fromarray(np.full((6, 8, 3), 20 * number, np.uint8)).save(
            tmp_path / f"images/{number}.png"
        )
        Image.fromarray(mask).save(tmp_path / f"masks/{number}.png")
    (tmp_path / "classes.txt").write_text("sky\nroad\nunicorn\n")
    return tmp_path


def problems(folder):
    return "\n".join(check.check("folder", folder).problems)


def test_sound_data_has_no_problems_and_right_statistics(folder):
    report = check.check("folder", folder)
    assert report.problems == ()
    train, val = report.splits
    assert (train.split, train.images, train.readable) == ("train", 8, 8)
    assert (val.split, val.images) == ("val", 2)
    assert train.sizes == ((6, 8), (6, 8)) and train.size_counts == (((6, 8), 8),)
    assert train.void.share == pytest.approx(1 / 48)
    sky, road, unicorn = train.classes
    assert (sky.pixels, sky.images, road.pixels) == (8 * 31, 8, 8 * 16)
    assert sky.share == pytest.approx(31 / 47)
    # Both are in every image: freq = 31/48 and 16/48, their median is the mean of the two.
    assert road.weight == pytest.approx((31 + 16) / 2 / 16)
    assert unicorn.weight is None and unicorn.images == 0
    assert train.notes == ("classes that never occur: unicorn",)


def test_every_problem_is_reported_in_one_run(folder):
    (folder / "images/0.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    (folder / "masks/1.png").unlink()
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(folder / "masks/2.png")
    Image.fromarray(np.full((6, 8), 250, np.uint8)).save(folder / "masks/3.png")
    Image.fromarray(np.full((6, 8), 4000, np.uint16)).save(folder / "masks/5.png")
    found = problems(folder)
    for words in (
        r"images/0.png: cannot be decoded",
        r"masks/1.png does not exist",
        r"masks/2.png: mask of 6x8 pixels for an image of 8x6; rotate",
        r"masks/3.png: label value 250 is neither a class id (0..2) nor void (255)",
        r"a common mark for void",
        r"masks/5.png: pixels of mode I;16 (16 bits)",
    ):
        assert words in found, words
    assert len(check.check("folder", folder).problems) == 5


def test_lists_are_checked(folder):
    (folder / "train.txt").write_text("0\r\n1\r\n1\r\nghost\r\n")
    (folder / "val.txt").write_text("1\n2\n")
    (folder / "none.txt").write_text("\n")
    found = problems(folder)
    assert "train: id '1' occurs 2 times in the list" in found
    assert "images/ghost.jpg does not exist" in found
    assert "none: the list is empty" in found
    assert "1 ids are in both train and val, e.g. '1'" in found


def test_camvids_void_in_a_folder_is_explained(folder):
    for number in range(10):
        Image.fromarray(np.tile(np.arange(4, dtype=np.uint8), (6, 2))).save(
            folder / f"masks/{number}.png"
        )
    found = problems(folder)
    assert "label value 3" in found and "just above the last class and in most masks" in found
    assert "a line in classes.txt, e.g. '3 void'" in found
    (folder / "classes.txt").write_text("0 sky\n1 road\n2 car\n3 void\n")
    report = check.check("folder", folder)
    assert not report.problems
    assert "mask value 3 is void in this data set: 25 % of the pixels" in report.splits[0].notes[0]


def test_interpolated_masks_are_recognised(folder, rng):
    Image.fromarray(rng.integers(0, 256, (6, 8), dtype=np.uint8)).save(folder / "masks/0.png")
    assert "resized with interpolation" in problems(folder)


def test_black_and_white_masks_get_a_note(folder):
    for number in range(10):
        mask = np.zeros((6, 8), np.uint8)
        mask[2:4] = 255
        Image.fromarray(mask).save(folder / f"masks/{number}.png")
    notes = check.check("folder", folder).splits[0].notes
    assert any("only 0 and 255" in note and "'255 NAME'" in note for note in notes)


def test_exif_rotations_get_a_note(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(folder / "images/0.png", exif=exif)
    notes = check.check("folder", folder).splits[0].notes
    assert any("1 images carry an EXIF rotation" in note for note in notes)


def test_median_frequency_weights_equal_a_loop(rng):
    label = rng.choice(6, size=(20, 7, 9), p=[0.5, 0.3, 0.1, 0.05, 0.05, 0.0])
    label[:12][label[:12] == 3] = 0
    frequencies = {}
    for class_id in range(5):
        images = [image for image in label if (image == class_id).any()]
        frequencies[class_id] = sum((i == class_id).sum() for i in images) / (63 * len(images))
    pixels = np.array([(label == c).sum() for c in range(6)])
    image_pixels = np.array([63 * (label == c).any((1, 2)).sum() for c in range(6)])
    weights = class_weights.median_frequency_weights(pixels, image_pixels)
    median = sorted(frequencies.values())[2]
    for class_id, frequency in frequencies.items():
        assert weights[class_id] == pytest.approx(median / frequency)
    assert np.isnan(weights[5])


def test_report_as_text_and_json(folder):
    Image.fromarray(np.full((6, 8), 9, np.uint8)).save(folder / "masks/0.png")
    report = check.check("folder", folder)
    restored = json.loads(json.dumps(report.to_dict()))
    assert restored["dataset"] == "folder" and len(restored["problems"]) == 1
    assert restored["splits"][0]["classes"][1]["name"] == "road"
    text = report.as_text()
    assert "1 problem found" in text and "PROBLEM" in text and "unicorn" in text


def test_recognise(folder, tiny_voc, tmp_path):
    assert check.recognise(folder) == "folder"
    assert check.recognise(tiny_voc) == "synthetic_voc"
    (folder / "train.txt").write_text("0\n")
    assert check.recognise(folder) == "folder"  # CamVid has a train.txt as well
    with pytest.raises(UserError, match="no such folder"):
        check.recognise(tmp_path / "nowhere")
    (tmp_path / "x").mkdir()
    (tmp_path / "x/y").touch()
    with pytest.raises(UserError, match="layout of no known data set"):
        check.recognise(tmp_path / "x")


def test_unknown_splits_are_problems_and_no_data_is_an_error(folder, tmp_path):
    report = check.check("folder", folder, ["tain"])
    assert "unknown name 'tain'" in report.problems[0]
    with pytest.raises(UserError, match="no folder"):
        check.check("camvid", tmp_path / "nowhere")


def test_real_data_is_sound_and_recognised(test_data):
    roots = {name: test_data / "data" / name for name in ("VOCdevkit", "camvid", "isbi2012")}
    assert [check.recognise(root) for root in roots.values()] == ["voc2012", "camvid", "isbi2012"]
    isbi = check.check("isbi2012", roots["isbi2012"])
    assert not isbi.problems
    released = check.check("camvid", test_data / "data/camvid_as_released")
    assert not released.problems


def test_camvids_published_weights_can_be_derived_but_for_sign_symbol(test_data):
    """SegNet's release counts void as a twelfth class when it takes the median."""
    source = data.open_source("camvid", test_data / "data/camvid", "train")
    labels = (source.label(index) for index in range(len(source)))
    counts = np.stack(
        [
            np.bincount(np.where(label == IGNORE, 11, label).ravel(), minlength=12)
            for label in labels
        ]
    )
    weights = class_weights.median_frequency_weights(
        counts.sum(0), ((counts > 0) * counts.sum(1, keepdims=True)).sum(0)
    )
    error = np.array(camvid.PUBLISHED_WEIGHTS) / weights[:11] - 1
    close = {name for name, e in zip(camvid.CLASSES, error, strict=True) if abs(e) < 0.07}
    assert set(camvid.CLASSES) - close == {"sign_symbol", "bicyclist"}
    assert abs(error[camvid.CLASSES.index("bicyclist")]) < 0.11
    assert weights[camvid.CLASSES.index("sign_symbol")] == pytest.approx(3.53, abs=0.005)


def test_camvids_void_is_explained(test_data):
    report = check.check("camvid", test_data / "data/camvid", ["train"])
    assert not report.problems
    assert "mask value 11 is void in this data set: 3.9 %" in report.splits[0].notes[0]
