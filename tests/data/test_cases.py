"""What people bring: every public case is read rightly, or named in one line."""

import re
import struct
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from seg_jax import data
from seg_jax.checks import UserError
from seg_jax.data import images, palettes
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import TORCH
from seg_jax.data.validate import check, meaning
from seg_jax.types import IGNORE, voc_palette

MASK = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)


def write(root: Path, names=("p0", "p1", "p2", "p3", "p4", "p5"), *, mask=MASK, suffix=".png",
          classes="background\nroad\ncar\n", **options) -> Path:  # fmt: skip
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.zeros((*mask.shape, 3), np.uint8)).save(root / f"images/{name}.png")
        Image.fromarray(mask).save(root / f"masks/{name}{suffix}", **options)
    (root / "classes.txt").write_text(classes)
    return root


def write_palettes(folder, names, *, odd):
    """`write`, with VOC's palette in every mask; that of number `odd` has two colours exchanged."""
    root = write(folder, names=names)
    for number, name in enumerate(names):
        palette = voc_palette()
        if number == odd:
            palette[[1, 2]] = palette[[2, 1]]
        image = Image.fromarray(MASK)
        image.putpalette(palette.tobytes())
        image.save(root / f"masks/{name}.png")
    return root


def labels(root: Path, split: str = "train") -> list[np.ndarray]:
    source = data.open_source("folder", root, split)
    return [source.label(index) for index in range(len(source))]


@pytest.mark.parametrize(
    "suffix",
    ["_mask.gif", "_mask.png", "_label.png", "_gt.bmp", "_seg.tif", "_gtFine_labelIds.png"],
)
def test_masks_with_the_usual_endings_are_found(tmp_path, suffix):
    write(tmp_path, suffix=suffix)
    for label in labels(tmp_path):
        np.testing.assert_array_equal(label, MASK)


def test_a_mask_of_the_image_s_own_name_comes_first(tmp_path):
    write(tmp_path, suffix="_mask.png", mask=MASK * 0)
    write(tmp_path, names=["p0"])
    np.testing.assert_array_equal(labels(tmp_path)[0], MASK)
    assert not labels(tmp_path)[1].any()


def test_jpeg_masks_are_refused_with_the_reason(tmp_path):
    write(tmp_path, suffix=".jpg")
    with pytest.raises(UserError, match=r"masks/p0\.jpg: a mask cannot be a JPEG: its compression"):
        labels(tmp_path)


def test_a_jpeg_under_another_name_is_refused_too(tmp_path):
    write(tmp_path)
    Image.fromarray(MASK).save(tmp_path / "masks/p0.png", "JPEG")
    with pytest.raises(UserError, match=r"p0\.png: a mask cannot be a JPEG"):
        labels(tmp_path)


def test_a_missing_mask_names_what_lies_there(tmp_path):
    write(tmp_path, suffix="-ground-truth.png")
    with pytest.raises(UserError, match=r"p0\.png does not exist; its folder has p0-ground-truth"):
        labels(tmp_path)


@pytest.mark.parametrize("form", ["{i} {m}", "{i}\t{m}", "{i},{m}", "./{i} {m}", "/data/my/{i} {m}",
                                  "{i}", "p3.png", "p3"])  # fmt: skip
def test_lists_with_two_columns_and_prefixes(tmp_path, form):
    write(tmp_path)
    line = form.format(i="images/p3.png", m="masks/p3.png")
    (tmp_path / "train.txt").write_text(line + "\n")
    source = data.open_source("folder", tmp_path, "train")
    assert source.ids == ("p3",)
    assert (source.image_paths, source.label_paths) == (("images/p3.png",), ("masks/p3.png",))


def test_the_second_column_may_be_another_mask(tmp_path):
    write(tmp_path, names=["p0", "other"])
    (tmp_path / "train.txt").write_text("images/p0.png masks/other.png\n")
    assert data.open_source("folder", tmp_path, "train").label_paths == ("masks/other.png",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_in_utf_16(tmp_path, encoding):
    write(tmp_path, names=["ä1", "ä2"])
    (tmp_path / "train.txt").write_bytes("ä2\r\nä1\r\n".encode(encoding))
    assert data.open_source("folder", tmp_path, "train").ids == ("ä2", "ä1")


@pytest.mark.parametrize(("in_list", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_decomposed_names(tmp_path, in_list, on_disk):
    name = "straße_é_ü"
    write(tmp_path, names=[unicodedata.normalize(on_disk, name)])
    mask = tmp_path / f"masks/{unicodedata.normalize(on_disk, name)}.png"
    mask.rename(mask.with_name(f"{unicodedata.normalize(in_list, name)}.png"))
    (tmp_path / "train.txt").write_text(unicodedata.normalize(in_list, name))
    np.testing.assert_array_equal(labels(tmp_path)[0], MASK)


def test_fewer_than_five_images(tmp_path):
    write(tmp_path, names=["a", "b", "c"])
    assert data.open_source("folder", tmp_path, "train").ids == ("a", "b")
    assert data.open_source("folder", tmp_path, "val").ids == ("c",)
    write(tmp_path / "one", names=["a"])
    assert data.open_source("folder", tmp_path / "one", "train").ids == ("a",)
    with pytest.raises(UserError, match="one image cannot be both train and val"):
        data.open_source("folder", tmp_path / "one", "val")


def test_hidden_files_and_folders_are_never_data(tmp_path):
    root = write(tmp_path)
    for part in ("images", "masks"):
        for place in (".ipynb_checkpoints", "__MACOSX", "sub/.thumbnails", "a/b/.git/x"):
            (root / part / place).mkdir(parents=True)
            Image.fromarray(MASK).save(root / part / place / "p0.png")
        (root / part / "._p0.png").write_bytes(b"\0")
        (root / part / "Thumbs.db").write_bytes(b"\0")
    (root / "._train.txt").write_bytes(b"\0\x05\x16\x07")
    assert data.reader("folder").splits(root) == ("train", "val")
    assert data.open_source("folder", root, "train").ids == ("p0", "p1", "p2", "p3", "p5")
    assert not check.check("folder", root).problems


@pytest.mark.parametrize(
    ("classes", "names", "values"),
    [
        ("0 background\n1 road\n2 Void\n", ("background", "road"), {0: 0, 1: 1, 2: IGNORE}),
        ("background\nroad\nVOID\n", ("background", "road"), {0: 0, 1: 1, 2: IGNORE}),
        ("background\nroad\ncar\n255 void\n", ("background", "road", "car"), {0: 0, 1: 1, 2: 2}),
        ("name,r,g,b\nbackground,0,0,0\nroad,128,0,7\n", ("background", "road"), {0: 0, 1: 1}),
    ],
)
def test_class_lists_as_tools_export_them(tmp_path, classes, names, values):
    write(tmp_path, classes=classes)
    source = data.open_source("folder", tmp_path, "train")
    assert source.classes == names
    assert dict(source.label_ids) == {**values, IGNORE: IGNORE}
    if "r,g,b" in classes:
        assert source.palette[1].tolist() == [128, 0, 7]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("name,r,g,b\nroad,1,2\n", r"classes\.txt: 'road,1,2' is not 'name,r,g,b'"),
        ("name,r,g,b\nroad,1,2,900\n", r"'road,1,2,900' has a colour above 255"),
        ("road\n1 car\n255 void\n", r"'road' has no value.*number all or none"),
    ],
)
def test_other_class_lists_are_refused_with_the_line(tmp_path, classes, message):
    with pytest.raises(UserError, match=message):
        labels(write(tmp_path, classes=classes))


class TestDepthAndPhotometry:
    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    @pytest.mark.parametrize("zero_is", ["white", "black"])
    def test_tiff_masks_are_read_as_stored(self, tmp_path, rng, bits, zero_is):
        """Written by hand (TIFF 6.0): PhotometricInterpretation 0 is WhiteIsZero, 1 BlackIsZero."""
        stored = rng.integers(0, 2**bits, (5, 8), dtype=np.uint8)
        per_byte = 8 // bits
        packed = np.zeros((5, 8 // per_byte), np.uint8)
        for place in range(per_byte):
            packed |= stored[:, place::per_byte] << (8 - bits * (place + 1))
        tags = [(256, 8), (257, 5), (258, bits), (259, 1), (262, int(zero_is == "black")),
                (273, 200), (277, 1), (278, 5), (279, packed.size)]  # fmt: skip
        content = b"II*\0" + struct.pack("<IH", 8, len(tags))
        content += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        path = tmp_path / "mask.tif"
        path.write_bytes(content.ljust(200, b"\0") + packed.tobytes())
        np.testing.assert_array_equal(images.read_label(path), stored)

    @pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate"])
    def test_compressed_white_is_zero(self, tmp_path, compression):
        info = TiffImagePlugin.ImageFileDirectory_v2()
        info[262] = 0
        path = tmp_path / "mask.tif"
        Image.fromarray(MASK).save(path, compression=compression, tiffinfo=info)
        with Image.open(path) as file:
            assert file.tag_v2[262] == 0
            inverted = np.array(file)
        np.testing.assert_array_equal(images.read_label(path), 255 - inverted)

    @pytest.mark.parametrize("orientation", range(2, 9))
    def test_a_turned_tiff_is_refused_in_a_data_set(self, tmp_path, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / "turned.tif"
        Image.fromarray(MASK).save(path, exif=exif)
        for read in (images.read_label, images.read_image):
            with pytest.raises(UserError, match=r"turned\.tif: a TIFF with an orientation tag"):
                read(path)

    def test_float_and_16_bits_are_refused(self, tmp_path):
        for name, pixels in (("f.tif", MASK.astype(np.float32)), ("g.png", MASK.astype(np.uint16))):
            Image.fromarray(pixels).save(tmp_path / name)
            for read in (images.read_image, images.read_label):
                with pytest.raises(UserError, match=f"{name}: pixels of mode"):
                    read(tmp_path / name)

    def test_public_files(self, test_data):
        folder = test_data / "cases/07-multiband-tiff"
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            with pytest.raises(UserError, match=f"{path.name}: (a TIFF of|pixels of mode)"):
                images.read_image(path)


class TestPalettes:
    def voc(self, root: Path, palette: np.ndarray, mask: np.ndarray) -> Path:
        for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (root / "VOC2012" / part).mkdir(parents=True)
        home = root / "VOC2012"
        Image.fromarray(np.zeros((*mask.shape, 3), np.uint8)).save(home / "JPEGImages/a.jpg")
        image = Image.fromarray(mask)
        image.putpalette(palette.tobytes())
        image.save(home / "SegmentationClass/a.png")
        (home / "ImageSets/Segmentation/train.txt").write_text("a\n")
        return root

    def test_the_data_set_s_own_is_read(self, tmp_path):
        palette = voc_palette()
        palette[40:200] = 9  # no pixel has these indices
        mask = np.array([[0, 5, 255]], np.uint8)
        root = self.voc(tmp_path, palette, mask)
        np.testing.assert_array_equal(data.open_source("voc2012", root, "train").label(0), mask)

    def test_another_order_is_named_with_the_mapping(self, tmp_path):
        palette = voc_palette()
        palette[[1, 2]] = palette[[2, 1]]
        root = self.voc(tmp_path, palette, np.array([[0, 1, 2]], np.uint8))
        source = data.open_source("voc2012", root, "train")
        with pytest.raises(UserError, match=r"in another order: .* 1=2 \(bicycle\), 2=1 \(aero"):
            source[0]
        assert "in another order" in check.check("voc2012", root).problems[0]

    def test_other_colours_are_an_error(self, tmp_path):
        palette = voc_palette()
        palette[3] = 1, 2, 3
        root = self.voc(tmp_path, palette, np.array([[0, 3]], np.uint8))
        with pytest.raises(
            UserError, match=r"index 3 the colour \(1, 2, 3\).*\(128, 128, 0\); the"
        ):
            data.open_source("voc2012", root, "train").label(0)

    @pytest.mark.parametrize("palette", [bytes(768), bytes(np.repeat(np.arange(256), 3).tolist())])
    def test_a_palette_without_meaning_is_no_error(self, tmp_path, palette):
        colors = np.frombuffer(palette, np.uint8).reshape(256, 3)
        root = self.voc(tmp_path, colors, np.array([[0, 3]], np.uint8))
        assert data.open_source("voc2012", root, "train").label(0).tolist() == [[0, 3]]

    def test_masks_of_a_folder_that_differ_among_each_other(self, tmp_path):
        root = write_palettes(tmp_path, [f"p{n}" for n in range(4)], odd=2)
        (problem,) = check.check("folder", root).problems
        assert (
            "p2.png: the palette gives index 1 the colour (0, 128, 0), but (128, 0, 0)" in problem
        )

    def test_agreement_is_no_problem(self):
        one = np.full((256, 3), -1, np.int16)
        other = one.copy()
        one[1], other[2] = (9, 9, 9), (8, 8, 8)
        assert palettes.disagreement([("a", one), ("b", other), ("c", one)]) is None


@pytest.mark.parametrize(
    ("mask", "classes", "message"),
    [
        ([0, 255], "background\nobject\n", r"only 0 and 255.*255=1 makes it object.*'255 NAME'"),
        ([0, 0], "object\n", r"one class, object: whatever is predicted is right"),
        ([255, 255], "background\nroad\n", r"every pixel is void: nothing can be learnt"),
        ([1, 1], "background\nroad\n", r"every pixel that is not void is road"),
        ([0, 1], "background\nroad\nunicorn\n", r"classes that never occur: unicorn"),
        ([0, 1], "background\nroad\n", None),
        ([0, 255], "0 background\n255 object\n", None),
    ],
)
def test_scores_that_mean_nothing_are_named(tmp_path, mask, classes, message):
    root = write(tmp_path, mask=np.array([mask], np.uint8), classes=classes)
    source = data.open_source("folder", root, "train")
    found = meaning.look(source).warnings
    assert found == tuple(check.check("folder", root, ["train"]).splits[0].notes)
    if message is None:
        assert not found
    else:
        assert len(found) == 1 and re.search(message, found[0])
    if message and "never" in message:
        assert meaning.look(source, most_pixels=1).warnings == ()


def configured(root: Path, **fields) -> DataConfig:
    return DataConfig("folder", Augmentation((8, 8)), TORCH, root=root, **fields)


def test_values_of_masks_are_mapped(tmp_path):
    root = write(tmp_path, mask=np.array([[0, 255, 7, 1]], np.uint8), classes="background\nroad\n")
    source = data.open_configured(configured(root, map=("255=1", "7=void")), "train")
    assert source.label(0).tolist() == [[0, 1, IGNORE, 1]]
    assert meaning.look(source).warnings == ()
    with pytest.raises(UserError, match=r"--data\.map 255=2: .* has the class ids 0 to 1"):
        data.open_configured(configured(root, map=("255=2",)), "train")
    for entry in ("255", "255:1", "300=1", "1=255", "-1=0"):
        with pytest.raises(ValueError, match="VALUE=CLASS_ID or VALUE=void"):
            configured(root, map=(entry,))
    with pytest.raises(ValueError, match="two entries for the value 3"):
        configured(root, map=("3=1", "3=0"))


class TestALook:
    """What is read of the masks before a training."""

    def test_a_rare_palette_is_looked_at_first(self, tmp_path):
        root = write_palettes(tmp_path, [f"p{n:02}" for n in range(40)], odd=17)
        source = data.open_source("folder", root, "train")
        with pytest.raises(UserError, match="p17.png: the palette gives index|p17.png: the masks"):
            meaning.look(source, most_pixels=2 * MASK.size)

    def test_its_cost_is_bounded(self, tmp_path):
        root = write(tmp_path, names=[f"p{n:02}" for n in range(40)])
        source = data.open_source("folder", root, "train")
        whole, part = meaning.look(source), meaning.look(source, most_pixels=5 * MASK.size)
        assert (whole.read, whole.complete) == (32, True)
        assert (part.read, part.complete) == (5, False)

    def test_an_unknown_value_is_found_before_the_first_step(self, tmp_path):
        root = write(tmp_path, mask=np.array([[0, 9]], np.uint8))
        with pytest.raises(UserError, match=r"masks/p\d\.png: label value 9 .*--data\.map 9=void"):
            meaning.look(data.open_source("folder", root, "train"))


CASES = {  # folder of the public cases: classes, images in train, and what is said or None
    "02-carvana-gif": (2, 5, None),
    "04-binary-0-255": (2, 8, "only 0 and 255"),
    "05-one-class": (1, 8, "one class"),
    "06-tiff-white-is-zero": (3, 5, None),
    "09-two-column-list": (3, 4, None),
    "09b-utf16-list": (3, 4, None),
    "10-Void-capital": (2, 8, None),
    "11-void-only": (3, 8, "void"),
    "12-class-absent": (4, 8, "never occur: unicorn"),
    "13-jpg-masks": (3, 5, UserError),
    "14-three-pictures": (3, 2, None),
    "15-rgb-grey-mask": (3, 5, "colour"),
    "16-big": (3, 4, None),
    "17-mask-suffix": (3, 5, None),
    "20-camvid-style": (3, 8, None),
    "21-nfd-names": (3, 8, None),
}


@pytest.mark.parametrize("case", CASES)
def test_the_public_cases(test_data, case):
    classes, count, said = CASES[case]
    root = test_data / "cases" / case
    if said is UserError:
        with pytest.raises(UserError, match=r"p0\.jpg: a mask cannot be a JPEG"):
            data.open_source("folder", root, "train")
        return
    source = data.open_source("folder", root, "train")
    assert (len(source.classes), len(source)) == (classes, count)
    report = check.check("folder", root, ["train"])
    text = "\n".join((*report.problems, *report.splits[0].notes))
    if said:
        assert said in text
    else:
        assert not report.problems, text
        values = np.unique([source.label(index) for index in range(count)])
        assert set(values.tolist()) <= {*range(classes), IGNORE}


def test_default_lists_are_in_the_order_of_ids(tmp_path):
    """Not of file names, in which "p1-x.png" comes before "p1.png"."""
    write(tmp_path, names=["p1", "p1-x", "p2", "p3", "p4", "p5"])
    assert data.open_source("folder", tmp_path, "val").ids == ("p4",)
    assert data.open_source("folder", tmp_path, "train").ids == ("p1", "p1-x", "p2", "p3", "p5")
