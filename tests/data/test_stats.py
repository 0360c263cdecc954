"""Class frequencies and the weights derived from them, against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from seg_jax import __main__ as command_line
from seg_jax import data
from seg_jax.data import class_weights
from seg_jax.data.validate import check, stats
from seg_jax.types import IGNORE


@pytest.fixture
def root(tmp_path):
    """Two images of 4x5 and one of 2x5: 10 px of road in one, 2 of car in another, 8 of void."""
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    masks = [np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8), np.zeros((2, 5), np.uint8)]
    masks[0][:2] = 1
    masks[1][0, :2] = 2
    masks[2][:, 1:] = IGNORE
    for number, mask in enumerate(masks):
        Image.fromarray(mask).save(tmp_path / f"masks/{number}.png")
        Image.fromarray(np.zeros((*mask.shape, 3), np.uint8)).save(
            tmp_path / f"images/{number}.png"
        )
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\nunicorn\n")
    (tmp_path / "train.txt").write_text("0\n1\n2\n")
    return tmp_path


def test_statistics_by_hand(root):
    split = check.check("folder", root, ["train"]).splits[0]
    sky, road, car, unicorn = split.classes
    assert [entry.pixels for entry in split.classes] == [30, 10, 2, 0]
    assert [entry.image_pixels for entry in split.classes] == [50, 20, 20, 0]
    assert split.void.pixels == 8 and split.void.share == pytest.approx(0.16)
    assert road.share == pytest.approx(10 / 42)  # of what is not void
    # Frequencies 30/50, 10/20, 2/20; their median is 1/2.
    assert (sky.weight, road.weight, car.weight) == pytest.approx((5 / 6, 1.0, 5.0))
    assert unicorn.weight is None and unicorn.enet_weight == pytest.approx(1 / math.log(1.02))
    assert car.enet_weight == pytest.approx(1 / math.log(1.02 + 2 / 42))
    assert split.size_counts == (((4, 5), 2), ((2, 5), 1))


def test_void_as_one_more_class(root):
    split = check.check("folder", root, ["train"]).splits[0]
    # Void's frequency is 8/10: the median of it and 6/10, 5/10, 1/10 is 0.55.
    weights = class_weights.with_void(split.classes, split.void)
    np.testing.assert_allclose(weights[:3], [0.55 / 0.6, 1.1, 5.5])
    assert np.isnan(weights[3])


def test_enet_weights_lie_between_1_4_and_50():
    """Paszke et al. 2016, section 5.2, gives this interval for c = 1.02."""
    low, high = class_weights.enet_weights(np.array([1.0, 0.0]))
    assert low == pytest.approx(1.42, abs=0.01) and high == pytest.approx(50.5, abs=0.01)


def test_text(root):
    text = stats.as_text(check.check("folder", root, ["train"]))
    assert "width x height: 5x4 (2), 5x2 (1)" in text
    assert "void: 16.00 % of the pixels, in 1 images" in text
    line = next(line for line in text.splitlines() if line.split()[:1] == ["car"])
    assert line.split() == ["car", "4.762", "1", "5.0000", f"{1 / math.log(1.02 + 2 / 42):.3f}"]
    assert "published" not in text and "problem" not in text


def test_published_weights_stand_beside(root):
    text = stats.as_text(check.check("folder", root, ["train"]), (0.9, 1.05, 10.0, 1.0))
    assert "2 of the 4 published weights agree within 7 %" in text
    assert "car (10.0000, here 5.5000)" in text and "unicorn (1.0000, here nan)" in text


def test_camvids_published_weights(test_data):
    """Nine of eleven; sign_symbol's is a known slip of the release."""
    root = test_data / "data/camvid"
    published = data.reader("camvid").published_weights
    text = stats.as_text(check.check("camvid", root, ["train"]), published)
    assert "9 of the 11 published weights agree" in text
    assert "sign_symbol (9.6446, here 3.53" in text and "bicyclist (7.3614, here 8.1" in text


def test_command_line(root, capsys):
    assert command_line.main(["data", "stats", str(root), "--split", "train", "--json"]) == 0
    split = json.loads(capsys.readouterr().out)["splits"][0]
    assert split["classes"][1]["pixels"] == 10 and split["void"]["pixels"] == 8
    (root / "masks/2.png").unlink()
    assert command_line.main(["data", "stats", str(root), "--split", "train"]) == 2
    assert "1 problems: python -m seg_jax data check" in capsys.readouterr().out
