"""Contact sheets show the right pixels in the right colours, and say what they show."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from seg_jax import __main__ as command_line
from seg_jax import data
from seg_jax.checks import UserError
from seg_jax.report import contact_sheet
from seg_jax.types import IGNORE


@pytest.fixture
def root(tmp_path):
    """Nine images of one colour each; class number % 3 on the right half, void in a corner."""
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for number in range(9):
        image = np.full((32, 64, 3), 20 * number, np.uint8)
        mask = np.zeros((32, 64), np.uint8)
        mask[:, 32:] = number % 3
        mask[:8, :8] = IGNORE
        Image.fromarray(image).save(tmp_path / f"images/{number}.png")
        Image.fromarray(mask).save(tmp_path / f"masks/{number}.png")
    (tmp_path / "classes.txt").write_text("sky\nroad\n<car>\nunicorn\n")
    (tmp_path / "train.txt").write_text("".join(f"{number}\n" for number in range(9)))
    return tmp_path


@pytest.fixture
def source(root):
    return data.open_source("folder", root, "train")


class TestChoose:
    def test_a_seed_draws_the_same_ones_in_list_order(self, source):
        draws = [contact_sheet.choose(source, 4, seed=seed) for seed in range(20)]
        assert contact_sheet.choose(source, 4, seed=7) == draws[7]
        assert all(draw == sorted(set(draw)) and len(draw) == 4 for draw in draws)
        assert {index for draw in draws for index in draw} == set(range(9))
        assert contact_sheet.choose(source, 99) == list(range(9))

    def test_only_images_with_a_class(self, source):
        assert contact_sheet.choose(source, 9, class_name="road") == [1, 4, 7]
        with pytest.raises(UserError, match="class: unknown name 'raod'; did you mean road"):
            contact_sheet.choose(source, 9, class_name="raod")
        with pytest.raises(UserError, match="unicorn occurs in none of the images"):
            contact_sheet.choose(source, 9, class_name="unicorn")


def test_png_has_image_and_mask_side_by_side(source):
    sheet = np.asarray(contact_sheet.as_image(source, [1, 5]))
    palette = source.palette
    for place, number in enumerate([1, 5]):
        left = place * (2 * 256 + 16)
        middle = 18 + 64  # below the caption, half of 128 rows
        assert sheet[middle, left + 100].tolist() == [20 * number] * 3
        mask = sheet[18 : 18 + 128, left + 256 + 8 : left + 2 * 256 + 8]
        assert mask[64, 200].tolist() == palette[number % 3].tolist()
        assert mask[64, 60].tolist() == palette[0].tolist()
        assert mask[5, 5].tolist() == [224, 224, 192]  # VOC's colour of void
        colours = {tuple(colour) for colour in mask[:, :256].reshape(-1, 3).tolist()}
        assert len(colours) == len(np.unique(source.label(number)))  # no blend at the borders


def test_html_holds_the_masks_values_and_escapes_names(source):
    text = contact_sheet.as_html(source, [2, 4])
    masks = re.findall(r'<img class="png" src="data:image/png;base64,([^"]+)', text)
    for encoded, number in zip(masks, [2, 4], strict=True):
        stored = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
        np.testing.assert_array_equal(stored, source.label(number))
    assert text.count("data:image/jpeg") == 4
    assert "&lt;car&gt; 50.0 %" in text and "<car>" not in text
    assert "void 3.1 %" in text and "folder:" in text and "unicorn" not in text


def test_other_files_than_png_and_html_are_refused(source, tmp_path):
    with pytest.raises(
        UserError, match=r"sheet\.pdf: a contact sheet is written as \.png or \.html"
    ):
        contact_sheet.write(source, [0], tmp_path / "sheet.pdf")


def test_command_line(root, tmp_path, capsys):
    for name in ("sheet.png", "new/sheet.html"):
        out = tmp_path / name
        code = command_line.main(["data", "view", str(root), "--out", str(out), "--images", "3"])
        assert code == 0 and out.stat().st_size > 1000
        assert "3 images of folder:" in capsys.readouterr().out


def test_real_images(test_data):
    source = data.open_source("voc2012", test_data / "data/VOCdevkit", "val")
    chosen = contact_sheet.choose(source, 3, class_name="cat")
    assert all((source.label(index) == 8).any() for index in chosen)
    assert contact_sheet.as_image(source, chosen).width == 3 * (2 * 256 + 16)
