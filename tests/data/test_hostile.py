"""Files of strangers: each attack runs nothing, reaches nothing outside, and ends in one line."""

import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from seg_jax import data
from seg_jax.checks import UserError, printable
from seg_jax.data import images, label_map, source
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.prepare import mat5, sbd
from seg_jax.data.preprocessing import TORCH
from seg_jax.data.validate import check

EVIL = "import pathlib; pathlib.Path({!r}).touch()\n"


@contextmanager
def alarm(seconds: int):
    """Nothing here may hang."""

    def stop(*_):
        raise AssertionError(f"still running after {seconds} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def write_folder(root: Path, names=("a", "b"), classes="sky\nroad\n") -> Path:
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.full((4, 5, 3), 9, np.uint8)).save(root / f"images/{name}.png")
        Image.fromarray(np.eye(4, 5, dtype=np.uint8)).save(root / f"masks/{name}.png")
    (root / "classes.txt").write_text(classes)
    return root


def big_png(side: int) -> bytes:
    """A PNG of side x side black pixels, as small as one can be."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    rows = zlib.compress(bytes((1 + -(-side // 8)) * side), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    from seg_jax.data.prepare import tfds

    root = write_folder(tmp_path_factory.mktemp("mine"))
    return tfds.pack("folder", root, tmp_path_factory.mktemp("packed"))


class TestCode:
    @pytest.fixture
    def hostile(self, packed, tmp_path, monkeypatch):
        """A copy of a packed data set beside a module that leaves a mark when it is imported."""
        (tmp_path / "evil_module.py").write_text(EVIL.format(str(tmp_path / "mark")))
        monkeypatch.syspath_prepend(tmp_path)
        yield shutil.copytree(packed, tmp_path / "packed")
        assert not (tmp_path / "mark").exists()

    def open_everywhere(self, root, message):
        with pytest.raises(UserError, match=message):
            data.open_source("tfds", root, "train")
        with pytest.raises(UserError, match=message):
            check.check("tfds", root)
        with pytest.raises(UserError):
            check.recognise(root)
        config = DataConfig("tfds", Augmentation((8, 8)), TORCH, root=root)
        assert label_map.find(config, 2).names == ("class 0", "class 1")

    @pytest.mark.parametrize(
        "change",
        [
            lambda f: {**f, "pythonClassName": "evil_module.X"},
            lambda f: {"type": "evil_module.X", "content": {}},
            lambda f: {**f, "python_class_name": "evil_module.X"},
            lambda f: {"featuresDict": {"features": {"id": {"pythonClassName": "evil_module.X"}}}},
            lambda f: [f],
        ],
    )
    def test_features_name_no_class_but_ours(self, hostile, change):
        path = hostile / "features.json"
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
        self.open_everywhere(hostile, r"features\.json: other features than id, image and label")

    def test_a_second_key_hides_nothing(self, hostile):
        path = hostile / "features.json"
        text = path.read_text()
        path.write_text('{"pythonClassName": "evil_module.X",' + text[1:])
        self.open_everywhere(hostile, r"features\.json: no JSON \(a key that occurs twice\)")

    @pytest.mark.parametrize(
        "change",
        [
            lambda i: i["splits"][0].update(filepathTemplate="../../{DATASET}-{SPLIT}"),
            lambda i: i["splits"][0].update(name="../train"),
            lambda i: i.update(name="../../other"),
            lambda i: i.update(moduleName="evil_module"),
            lambda i: i.update(fileFormat="tfrecord"),
            lambda i: i.update(redistributionInfo={"license": "x"}),
            lambda i: i.update(splits=3),
        ],
    )
    def test_shards_lie_in_the_folder(self, hostile, change):
        path = hostile / "dataset_info.json"
        info = json.loads(path.read_text())
        change(info)
        path.write_text(json.dumps(info))
        self.open_everywhere(hostile, r"dataset_info\.json: .*not written by `data pack`")

    @pytest.mark.parametrize("name", ["features.json", "dataset_info.json", "metadata.json"])
    @pytest.mark.parametrize("text", ["[" * 200_000, "{}", "[]", "3", "", "\xff", '{"type": 1}'])
    def test_anything_else_is_one_line(self, hostile, name, text):
        (hostile / name).write_text(text, encoding="latin-1")
        with pytest.raises(UserError, match=name) as caught:
            data.open_source("tfds", hostile, "train")
        assert len(str(caught.value)) < 1000

    @pytest.mark.parametrize(
        "change",
        [
            lambda m: m["classes"].append("x" * 1_000_000),
            lambda m: m.update(classes=[f"c{n}" for n in range(300)]),
            lambda m: m.update(classes=[1, 2]),
            lambda m: m.update(palette=[[0, 0, 999]] * 256),
            lambda m: m["splits"]["train"].update(official="many"),
            lambda m: m["splits"]["train"].update(ids=[["a"]]),
            lambda m: m["splits"].update(train=None),
        ],
    )
    def test_metadata_is_checked(self, hostile, change):
        path = hostile / "metadata.json"
        metadata = json.loads(path.read_text())
        change(metadata)
        path.write_text(json.dumps(metadata))
        with pytest.raises(UserError, match=r"metadata\.json") as caught:
            data.open_source("tfds", hostile, "train")
        assert len(str(caught.value)) < 1000

    def test_ids_that_lead_outside_and_counts_that_lie(self, hostile):
        path = hostile / "metadata.json"
        metadata = json.loads(path.read_text())
        metadata["splits"]["train"]["ids"] = ["../../private"]
        path.write_text(json.dumps(metadata))
        with pytest.raises(UserError, match=r"'\.\./\.\./private' leads out of the data set"):
            data.open_source("tfds", hostile, "train")
        metadata["splits"]["train"]["ids"] = ["a", "b", "c"]
        path.write_text(json.dumps(metadata))
        with pytest.raises(UserError, match="train has 1 records for 3 ids"):
            data.open_source("tfds", hostile, "train")[0]

    def test_broken_shards_are_named(self, hostile):
        shard = next(hostile.glob("*train.array_record*"))
        content = shard.read_bytes()
        shard.write_bytes(content[: len(content) // 2])
        with pytest.raises(UserError, match="cannot be (read|decoded)"):
            data.open_source("tfds", hostile, "train")[0]
        shard.unlink()
        os.mkfifo(shard)
        with alarm(5), pytest.raises(UserError, match="no regular file"):
            data.open_source("tfds", hostile, "train")

    @pytest.mark.parametrize("kind", ["EPS", "PDF", "PSD", "ICO", "PCX"])
    def test_other_formats_are_refused_and_ghostscript_never_starts(
        self, tmp_path, monkeypatch, kind
    ):
        for name in ("gs", "gswin64c"):
            script = tmp_path / name
            script.write_text(f"#!/bin/sh\ntouch {tmp_path / 'mark'}\n")
            script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        path = tmp_path / "harmless.png"
        if kind == "PSD":
            path.write_bytes(
                b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 4, 4, 8, 3) + bytes(99)
            )
        else:
            Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path, kind)
        for read in (
            images.read_image, images.read_upright, images.read_label, images.image_size,
            images.exif_orientation, images.page_count,
        ):  # fmt: skip
            with pytest.raises(UserError, match=r"harmless\.png: cannot be decoded \(not an image"):
                read(path)
        assert not (tmp_path / "mark").exists()


class TestOutside:
    @pytest.mark.parametrize("line", ["../../private", "../private.png", "x/../../../private"])
    def test_a_list_of_a_folder(self, tmp_path, line):
        root = write_folder(tmp_path / "a" / "root")
        for place in (tmp_path, tmp_path / "a"):
            Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(place / "private.png")
            Image.fromarray(np.zeros((4, 5), np.uint8)).save(place / "private.jpg")
        (root / "train.txt").write_text(f"a\n{line}\n")
        with pytest.raises(UserError, match="leads out of the data set's folder.*allow-outside"):
            data.open_source("folder", root, "train")
        found = check.check("folder", root, ["train"])
        assert "leads out" in "\n".join(found.problems) and found.splits[0].readable == 1

    @pytest.mark.parametrize("path", ["../secret.png", "{outside}/secret.png"])
    def test_a_list_of_camvid_unless_it_is_allowed(self, tmp_path, path):
        root = tmp_path / "CamVid"
        (root / "train").mkdir(parents=True)
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "secret.png")
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(root / "train/mask.png")
        path = path.format(outside=tmp_path)
        (root / "train.txt").write_text(f"{path} train/mask.png\n")
        with pytest.raises(UserError, match="leads out"):
            data.open_source("camvid", root, "train")
        with pytest.raises(UserError, match="leads out"):  # also where nobody has checked the list
            data.reader("camvid")(root, "train")[0]
        allowed = data.open_source("camvid", root, "train", allow_outside=True)
        assert allowed[0]["image"].shape == (4, 5, 3) and allowed.ids == ("secret",)

    def test_a_list_of_voc(self, tmp_path):
        lists = tmp_path / "VOC2012/ImageSets/Segmentation"
        lists.mkdir(parents=True)
        (lists / "train.txt").write_text("..\n")
        with pytest.raises(UserError, match=r"'\.\.' leads out"):
            data.open_source("voc2012", tmp_path, "train")

    def test_links_that_the_user_has_made_are_followed(self, tmp_path):
        real = write_folder(tmp_path / "real")
        root = tmp_path / "linked"
        root.mkdir()
        for name in ("images", "masks", "classes.txt"):
            (root / name).symlink_to(real / name)
        assert len(data.open_source("folder", root, "train")) == 1

    def test_old_configurations_have_no_such_field(self):
        from seg_jax import config

        stored = config.to_dict(DataConfig("folder", Augmentation((8, 8)), TORCH))
        del stored["allow_outside"], stored["augmentation"]["extra"]
        assert config.from_dict(stored).allow_outside is False


class TestCost:
    def test_a_large_image_is_refused_before_its_pixels(self, tmp_path, monkeypatch):
        path = tmp_path / "large.png"
        path.write_bytes(big_png(13_000))
        assert path.stat().st_size < 30_000
        with alarm(5):
            for read in (images.read_image, images.read_upright, images.read_label):
                with pytest.raises(UserError, match=r"large\.png: too large.*SEG_JAX_MAX_PIXELS"):
                    read(path)
        path.write_bytes(big_png(200))
        monkeypatch.setenv("SEG_JAX_MAX_PIXELS", "39999")
        with pytest.raises(UserError, match=r"200 x 200 pixels are more than 39999"):
            images.image_size(path)
        monkeypatch.setenv("SEG_JAX_MAX_PIXELS", "40000")
        assert images.read_label(path).shape == (200, 200)
        monkeypatch.setenv("SEG_JAX_MAX_PIXELS", "many")
        with pytest.raises(UserError, match="SEG_JAX_MAX_PIXELS is 'many'"):
            images.image_size(path)

    @pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
    @pytest.mark.parametrize("name", ["images/a.png", "masks/a.png", "train.txt", "classes.txt"])
    def test_what_is_no_regular_file_never_hangs(self, tmp_path, kind, name):
        root = write_folder(tmp_path)
        (root / "train.txt").write_text("a\n")
        opened = data.open_source("folder", root, "train")
        (root / name).unlink()
        if kind == "pipe":
            os.mkfifo(root / name)
        elif kind == "folder":
            (root / name).mkdir()
        else:
            (root / name).symlink_to("/dev/zero")
        with alarm(5):
            with pytest.raises(UserError, match="not a regular file|does not exist"):
                data.open_source("folder", root, "train")
            if name.endswith(".png"):
                with pytest.raises(UserError, match=f"{name}: not a regular file"):
                    opened[0]
                with pytest.raises(UserError, match="not a regular file"):
                    images.encoded(root / name)
            assert check.check("folder", root, ["train"]).problems

    def test_lists_and_names_have_limits(self, tmp_path):
        root = write_folder(tmp_path, classes=f"sky\n{'x' * 1_000_000}\n")
        with pytest.raises(UserError, match="class name of 1000000 characters") as caught:
            data.open_source("folder", root, "train")
        assert len(str(caught.value)) < 300
        os.truncate(root / "classes.txt", 2**31)
        with alarm(5), pytest.raises(UserError, match=r"classes\.txt: 2147483648 bytes, more than"):
            data.open_source("folder", root, "train")
        write_folder(tmp_path)
        (root / "train.txt").write_text("y" * 100_000)
        with pytest.raises(UserError, match="has 100000 characters, more than 1024") as caught:
            data.open_source("folder", root, "train")
        assert len(str(caught.value)) < 3000
        os.truncate(root / "train.txt", 2**33)
        with alarm(5), pytest.raises(UserError, match=r"train\.txt: 8589934592 bytes"):
            data.open_source("folder", root, "train")


def mat(mask: np.ndarray, *, compressed: bool, order: str = "<") -> bytes:
    content = io.BytesIO()
    fields = {"Boundaries": np.zeros((2, 1), object), "Segmentation": mask}
    savemat(content, {"other": np.arange(3.0), "GTcls": fields}, do_compression=compressed)
    return content.getvalue()


class TestMat:
    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
    @pytest.mark.parametrize("size", [(5, 7), (1, 1), (2, 1), (1, 9)])
    def test_it_reads_what_scipy_reads(self, rng, compressed, dtype, size):
        content = mat(rng.integers(0, 21, size).astype(dtype), compressed=compressed)
        expected = loadmat(io.BytesIO(content))["GTcls"]["Segmentation"][0, 0]
        found = mat5.struct_field(content, "GTcls", "Segmentation")
        np.testing.assert_array_equal(found, expected)
        assert sbd.read_mat(content, "x").dtype == np.uint8

    def test_sizes_that_lie_end_in_an_error(self, rng):
        """Each of these bytes, changed, may end SciPy's reader with a signal."""
        content = mat(rng.integers(0, 21, (5, 7)).astype(np.uint8), compressed=False)
        read = refused = 0
        for place in range(128, len(content)):
            for value in (0, 0x7F, 0xFF, content[place] ^ 4):
                changed = bytearray(content)
                changed[place] = value
                try:
                    sbd.read_mat(bytes(changed), "bad.mat")
                    read += 1
                except UserError as error:
                    assert str(error).startswith("bad.mat: ")
                    refused += 1
        assert read and refused

    def test_compression_has_a_limit(self, monkeypatch):
        monkeypatch.setattr(mat5, "_LIMIT", 2**20)
        header = mat(np.zeros((2, 2), np.uint8), compressed=True)[:128]
        bomb = zlib.compress(struct.pack("<II", 14, 2**21) + bytes(2**21), 9)
        content = header + struct.pack("<II", 15, len(bomb)) + bomb
        with pytest.raises(UserError, match=r"bomb\.mat: .*more than 1048576 bytes"):
            sbd.read_mat(content, "bomb.mat")


class TestTerminal:
    def test_control_characters_are_shown_escaped(self, tmp_path):
        assert printable("a\x1b[2J\nü\u202e\x9b") == "a\\x1b[2J\\nü\\u202e\\x9b"
        name = "x\nready to be submitted\n\x1b]0;owned\x07"
        root = write_folder(tmp_path, names=("a",), classes=f"sky\n{name.splitlines()[2]}\n")
        (root / "train.txt").write_text("a\n")
        report = check.check("folder", root, ["train"])
        assert "\x1b" not in report.as_text() and "\\x1b]0;owned\\x07" in report.as_text()
        (root / "images" / f"{name}.png").write_bytes(b"")
        with pytest.raises(UserError) as caught:
            images.read_image(root / "images" / f"{name}.png")
        assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)

    def test_pillows_warnings_do_not_reach_the_user(self, tmp_path):
        root = write_folder(tmp_path)
        exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(20)  # more entries than there are
        picture = Image.fromarray(np.zeros((4, 5, 3), np.uint8))
        (root / "images/a.png").unlink()
        picture.save(root / "images/a.jpg", exif=exif)
        (root / "images/b.png").write_bytes(big_png(9_500))  # Pillow warns from 89 million pixels
        code = f"""
from pathlib import Path
from seg_jax.data import images
root = Path({str(root)!r})
assert images.read_image(root / "images/a.jpg").shape == (4, 5, 3)
assert images.exif_orientation(root / "images/a.jpg") == 1
assert images.image_size(root / "images/b.png") == (9500, 9500)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_no_reader_opens_an_image_by_itself():
    """One function decides which formats and sizes are decoded."""
    folder = Path(source.__file__).parent
    text = {path: path.read_text() for path in folder.rglob("*.py") if path.name != "images.py"}
    assert not [path for path, content in text.items() if "Image.open(" in content]
