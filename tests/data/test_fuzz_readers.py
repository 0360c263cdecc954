"""Bad input, drawn by Hypothesis: a reader reads it rightly, or names the file in one line.

Warnings are errors in these tests, so nothing that a decoder merely mutters passes either.
"""

import io
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from seg_jax import data
from seg_jax.checks import UserError, printable
from seg_jax.data import images
from seg_jax.data.datasets import folder
from seg_jax.data.validate import check
from seg_jax.types import IGNORE

settings.register_profile("readers", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("readers")

SIZE = (7, 11)
RNG = np.random.default_rng(0)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one example: fixtures live as long as all of them."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def encode(pixels: np.ndarray, kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def read_or_name(path: Path, read):
    """Return what `read(path)` returns, None if it refused; it then named the file in one line."""
    try:
        return read(path)
    except UserError as error:
        assert printable(path) in str(error) and "\n" not in str(error)
        return None


IMAGE = RNG.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
MASK = RNG.integers(0, 3, SIZE, dtype=np.uint8)
ENCODED = {
    "jpeg": encode(IMAGE, "JPEG"),
    "progressive.jpeg": encode(IMAGE, "JPEG", progressive=True),
    "png": encode(IMAGE, "PNG"),
    "grey.png": encode(MASK, "PNG"),
    "gif": encode(MASK, "GIF"),
    "tif": encode(MASK, "TIFF"),
    "webp": encode(IMAGE, "WEBP"),
}


class TestBytes:
    @given(kind=st.sampled_from(sorted(ENCODED)), share=st.floats(0, 1, exclude_max=True))
    @example("jpeg", 0.0)
    def test_truncated(self, kind, share):
        content = ENCODED[kind]
        with scratch() as root:
            path = root / f"cut.{kind}"
            path.write_bytes(content[: int(share * len(content))])
            for read in (images.read_image, images.read_label, images.read_upright):
                read_or_name(path, read)
            read_or_name(path, images.image_size)
            read_or_name(path, images.exif_orientation)

    @given(
        kind=st.sampled_from(["jpeg", "progressive.jpeg", "png", "grey.png"]),
        changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=9))),
    )
    def test_overwritten(self, kind, changes):
        content = bytearray(ENCODED[kind])
        for place, new in changes:
            start = int(place * len(content))
            content[start : start + len(new)] = new
        with scratch() as root:
            path = root / f"bad.{kind}"
            path.write_bytes(content)
            image = read_or_name(path, images.read_image)
            if image is not None:
                assert image.dtype == np.uint8 and image.shape[2] == 3
            label = read_or_name(path, images.read_label)
            assert label is None or (label.dtype == np.uint8 and label.ndim == 2)
            read_or_name(path, images.exif_orientation)

    @given(st.binary(max_size=200))
    def test_anything(self, content):
        with scratch() as root:
            path = root / "anything.png"
            path.write_bytes(content)
            assert read_or_name(path, images.read_image) is None

    @pytest.mark.parametrize(
        ("width", "height"), [(0, 5), (5, 0), (2**31 - 1, 1), (60_000, 60_000)]
    )
    def test_empty_and_huge_sizes_in_the_header(self, tmp_path, width, height):
        path = tmp_path / "size.png"
        path.write_bytes(png(np.zeros((1, 1), int), 8, size=(width, height)))
        with pytest.raises(UserError, match=r"size\.png: (too large to decode|cannot be decoded)"):
            images.read_image(path)


def png(pixels: np.ndarray, bits: int, *, palette: bytes = b"", size=None) -> bytes:
    """Encode a PNG by hand (PNG 1.2, W3C): grey, or indices into a palette, of any bit depth."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b""
    for row in pixels:
        digits = "".join(f"{value:0{bits}b}" for value in row.tolist())
        digits += "0" * (-len(digits) % 8)
        rows += b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big")
    width, height = size or pixels.shape[::-1]
    header = struct.pack(">IIBBBBB", width, height, bits, 3 if palette else 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"PLTE", palette) if palette else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


class TestMasks:
    @given(
        bits=st.sampled_from([1, 2, 4, 8]),
        as_palette=st.booleans(),
        seed=st.integers(0, 2**32 - 1),
        size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
        top=st.integers(1, 255),
    )
    @example(bits=8, as_palette=True, seed=0, size=(3, 3), top=150)  # ADE20K's; not VOC's
    @example(bits=4, as_palette=False, seed=0, size=(3, 3), top=15)
    def test_values_are_those_stored_whatever_the_bits(self, bits, as_palette, seed, size, top):
        top = min(top, 2**bits - 1)
        stored = np.random.default_rng(seed).integers(0, top + 1, size)
        palette = bytes(range(256)) * 3 if as_palette else b""  # more entries than classes
        with scratch() as root:
            path = root / "mask.png"
            path.write_bytes(png(stored, bits, palette=palette[: 3 * 2**bits]))
            np.testing.assert_array_equal(images.read_label(path), stored)

    @given(
        mode=st.sampled_from(["I;16", "I", "F", "RGB", "RGBA", "LA", "CMYK", "L", "P", "1"]),
        values=st.lists(st.integers(0, 255), min_size=1, max_size=12),
    )
    @example("L", [150])
    @example("P", [0, 150])
    @example("I;16", [200])
    def test_a_mask_is_read_rightly_or_named(self, mode, values):
        with scratch() as root:
            source = one_pair(root)
            row = np.array([values], np.uint8)
            if mode == "I;16":
                mask = Image.fromarray(row.astype(np.uint16))
            elif mode == "P":
                mask = Image.fromarray(row)
                mask.putpalette(bytes(768))
            else:
                mask = Image.fromarray(row).convert(mode)
            path = source.label_file(0).with_suffix(".tif")
            mask.save(path)
            source.label_file(0).unlink()
            Image.fromarray(np.zeros((1, len(values), 3), np.uint8)).save(source.image_file(0))
            source = data.open_source("folder", root, "train")
            record = read_or_name(path, lambda _: source[0])
            meaning = {0: 0, 1: 1, 2: 2, IGNORE: IGNORE}  # three classes and void
            if mode in ("L", "P") and set(values) <= meaning.keys():
                assert record["label"].tolist() == [[meaning[value] for value in values]]
            elif mode == "1":
                assert record is not None and set(np.unique(record["label"])) <= {0, 1}
            else:
                assert record is None

    @given(*[st.tuples(st.integers(1, 6), st.integers(1, 6))] * 2)
    def test_sizes_that_differ(self, size, mask_size):
        with scratch() as root:
            source = one_pair(root)
            Image.fromarray(np.zeros((*size, 3), np.uint8)).save(source.image_file(0))
            Image.fromarray(np.zeros(mask_size, np.uint8)).save(source.label_file(0))
            record = read_or_name(source.label_file(0), lambda _: source[0])
            assert (record is not None) == (size == mask_size)
            assert len(check.check("folder", root, ["train"]).problems) == (size != mask_size)


def one_pair(root: Path, name: str = "a", suffix: str = ".png") -> data.source.Source:
    for part in ("images", "masks"):
        (root / part / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(IMAGE).save(root / f"images/{name}{suffix}", "PNG")
    Image.fromarray(MASK).save(root / f"masks/{name}.png", "PNG")
    (root / "classes.txt").write_text("sky\nroad\ncar\n")
    (root / "train.txt").write_text(f"{name}\n", encoding="utf-8")
    return data.open_source("folder", root, "train")


# Any character a file may carry: no slash, no zero, no line end.
CHARACTERS = st.characters(exclude_characters="/\0\r\n", exclude_categories=["Cs"])
NAMES = st.text(CHARACTERS, min_size=1, max_size=40).filter(
    lambda name: name == name.strip(" \t") and not name.startswith((".", "\ufeff"))
)


class TestNames:
    @given(NAMES, st.sampled_from([".png", ".PNG", ".jpeg"]))
    @example("zwei Wörter, ein Bild", ".png")
    @example("雪 山 (1)", ".PNG")
    @example("x.jpg", ".png")  # an id that looks like a file
    @example("line\u2028separator\x85", ".png")
    def test_unicode_and_spaces(self, name, suffix):
        assume(len(name.encode()) < 200)  # what a file system takes
        with scratch() as root:
            source = one_pair(root, name, suffix)
            assert source.ids == (name,)
            np.testing.assert_array_equal(source[0]["label"], MASK)
            (root / "train.txt").unlink()
            assert data.open_source("folder", root, "train").ids == (name,)
            source.label_file(0).write_bytes(b"")
            assert read_or_name(source.label_file(0), lambda _: source[0]) is None

    @given(
        ids=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8),
        end=st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\n \r\n"]),
        mark=st.sampled_from(["", "\ufeff"]),
        blank=st.sampled_from(["", " ", "\t"]),
    )
    def test_line_ends_and_duplicates(self, ids, end, mark, blank):
        with scratch() as root:
            for name in "abcdefgh":
                one_pair(root, name)
            text = mark + "".join(f"{blank}{name}{blank}{end}" for name in ids)
            (root / "train.txt").write_bytes(text.encode())
            try:
                assert data.open_source("folder", root, "train").ids == tuple(ids)
                assert len(set(ids)) == len(ids)
            except UserError as error:
                twice = [name for name in ids if ids.count(name) > 1]
                assert f"id '{twice[0]}' occurs {ids.count(twice[0])} times" in str(error)

    @pytest.mark.parametrize("dataset", ["voc2012", "camvid", "folder"])
    @given(content=st.binary(max_size=60))
    @example(content=b"x" * 5000)  # longer than a file's name may be
    @example(content=b"\xff\xfe")
    @example(content=b"a\0b")
    def test_any_list(self, dataset, content):
        with scratch() as root:
            for part in ("ImageSets/Segmentation", "images", "masks"):
                (root / part).mkdir(parents=True)
            (root / "classes.txt").write_text("sky\n")
            for path in (root / "train.txt", root / "ImageSets/Segmentation/train.txt"):
                path.write_bytes(content)
            with pytest.raises(UserError) as caught:
                data.open_source(dataset, root, "train")
            assert str(root) in str(caught.value)

    @given(
        st.text(max_size=60) | st.from_regex(r"([0-9]{1,5000}[ ,:]+[a-z]+\n){1,3}", fullmatch=True)
    )
    @example("1" * 5000 + " road")  # int() refuses it
    @example("٣ road")  # a digit, but not ours
    def test_any_class_list(self, text):
        with scratch() as root:
            path = root / "classes.txt"
            path.write_text(text, encoding="utf-8")
            found = read_or_name(path, folder.read_classes)
            if found is not None:
                classes, label_ids, _ = found
                assert set(label_ids.values()) - {IGNORE} == set(range(len(classes)))


class TestSymbolicLinks:
    def test_loops_end_and_are_named(self, tmp_path):
        one_pair(tmp_path)
        (tmp_path / "images/loop").symlink_to(tmp_path / "images")
        (tmp_path / "masks/loop").symlink_to("..")
        assert len(data.open_source("folder", tmp_path, "train")) == 1
        (tmp_path / "train.txt").unlink()
        (tmp_path / "images/self.png").symlink_to("self.png")
        with pytest.raises(UserError, match=r"images/self\.png does not exist"):
            data.open_source("folder", tmp_path, "val")
        (tmp_path / "train.txt").symlink_to("train.txt")
        with pytest.raises(UserError, match=r"train\.txt: cannot be read as a list"):
            data.open_source("folder", tmp_path, "train")

    @pytest.mark.parametrize("dataset", sorted(set(data.names()) - {"synthetic_voc"}))
    def test_a_root_that_is_a_loop(self, tmp_path, dataset):
        (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(UserError, match="no folder .*loop"):
            data.open_source(dataset, tmp_path / "loop", "train")

    def test_linked_folders_are_followed(self, tmp_path):
        one_pair(tmp_path / "real")
        for part in ("images", "masks", "classes.txt"):
            (tmp_path / "linked").mkdir(exist_ok=True)
            (tmp_path / "linked" / part).symlink_to(tmp_path / "real" / part)
        assert data.open_source("folder", tmp_path / "linked", "train").ids == ("a",)


def test_a_missing_file_between_listing_and_reading(tmp_path):
    source = one_pair(tmp_path)
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(UserError, match=r"images/a\.png: no such file"):
        source[0]
