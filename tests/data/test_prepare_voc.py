"""VOC 2012 and SBD from archives in the published layout, made here of a few pictures."""

import hashlib
import os
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from voc_archives import (
    COUNTS,
    DEVKIT,
    OF_SBD,
    OF_VOC,
    SIZE,
    VOC_LISTS,
    A,
    B,
    C,
    Case,
    V,
    W,
    X,
    Y,
    add,
    archive,
    jpeg,
    make,
    mat,
    png,
    write_sbd,
    write_voc,
)  # fmt: skip

from seg_jax import __main__ as command_line
from seg_jax import data, files
from seg_jax.checks import UserError
from seg_jax.data.datasets import voc2012 as voc
from seg_jax.data.prepare import archives, sbd
from seg_jax.data.prepare import voc as prepare_voc
from seg_jax.data.prepare.seg11valid import SEG11VALID
from seg_jax.types import IGNORE


@pytest.fixture
def case(tmp_path) -> Case:
    return make(tmp_path)


def published_lists(test_data: Path) -> dict[str, list[str]]:
    folder = test_data / "data/voc2012_full_lists"
    return {path.stem: path.read_text().split() for path in folder.glob("*.txt")}


def stand_in_for_sbd(lists) -> dict[str, list[str]]:
    """SBD's own lists are not here: these have its sizes, and all that trainaug takes from it."""
    outside = sorted(set(lists["trainaug"]) - set(lists["train"]))
    both = sorted(set(lists["trainval"]) - set(SEG11VALID))
    ids = sorted(outside + both)
    return {"train": ids[:8498], "val": sorted([*ids[8498:], *SEG11VALID[:60]])}


class TestLists:
    def test_all_are_written_and_read(self, case):
        text = case.run()
        expected = {
            "train": [A, B, C], "val": [V, W], "trainaug": [A, B, C, X, Y],
            "trainval_aug": [A, V, W, B, C, X, Y], "sbd_train": [A, C, X], "sbd_val": [W, Y],
            "seg11valid": [V, W],
        }  # fmt: skip
        for name, ids in expected.items():
            read = data.open_source("voc2012", case.root, name)
            assert read.ids == tuple(sorted(ids)), name
            assert re.search(rf"{name} +{len(ids)} ", text), text
        assert "trainaug and val share no image" in text
        assert "5 masks; 1 are of images in VOC's val and left out of trainaug" in text

    def test_only_what_is_read_is_extracted(self, case):
        case.run()
        folders = {name.rsplit("/", 1)[0].removeprefix(f"{DEVKIT}/") for name in case.files()}
        assert folders == {
            "JPEGImages", "SegmentationClass", "SegmentationClassSBD", "SegmentationClassAug",
            "ImageSets/Segmentation",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("split", "name", "owner"),
        [
            ("train", A, OF_VOC),
            ("trainaug", A, OF_VOC),  # VOC's own mask has void along the borders
            ("trainaug", X, OF_SBD),
            ("trainval_aug", W, OF_VOC),
            ("sbd_train", A, OF_SBD),  # as FCN was trained
            ("seg11valid", W, OF_VOC),
        ],
    )
    def test_masks_are_whose_they_should_be(self, case, split, name, owner):
        case.run()
        read = data.open_source("voc2012", case.root, split)
        label = read[read.ids.index(name)]["label"]
        assert (label[1:] == owner).all()
        assert (label[0] == (IGNORE if owner == OF_VOC else OF_SBD)).all()

    def test_voc_alone_and_sbd_later(self, case):
        release = prepare_voc.Release(archive(case.voc_tar), archive(case.sbd_tgz), COUNTS, {})
        text = prepare_voc.prepare(case.root, case.voc_tar, release=release)
        assert "trainaug" not in text and voc.splits(case.root) == ("train", "val", "trainval")
        case.voc_tar.unlink()
        assert "trainaug" in prepare_voc.prepare(case.root, None, case.sbd_tgz, release=release)
        with pytest.raises(UserError, match="--voc is missing: name voc.tar"):
            prepare_voc.prepare(case.root, None, release=release)

    def test_published_lists_come_out(self, test_data):
        lists = published_lists(test_data)
        assert set(SEG11VALID) < set(lists["val"])
        made = prepare_voc.augmented_lists(lists, stand_in_for_sbd(lists))
        assert made["trainaug"] == tuple(sorted(lists["trainaug"]))
        for name, ids in made.items():
            assert len(ids) == voc.COUNTS[name] and voc.is_official(name, ids), name


class TestRefusal:
    @pytest.mark.parametrize("name", COUNTS)
    def test_a_count_that_is_off_stops_it(self, case, name):
        with pytest.raises(
            UserError, match=rf"list {name} has {COUNTS[name]} ids.*{COUNTS[name] + 1}"
        ):
            case.run(counts=COUNTS | {name: COUNTS[name] + 1})
        made_from_sbd = {"trainaug", "trainval_aug", "sbd_train", "sbd_val", "seg11valid"}
        assert not made_from_sbd & set(voc.splits(case.root))

    def test_other_ids_than_the_published_stop_it(self, case):
        published = hashlib.sha256(f"{V}\n{W}".encode()).hexdigest()
        case.run(digests={"val": published, "seg11valid": published})
        with pytest.raises(UserError, match="list trainaug has 5 ids, but not the published ones"):
            case.run(digests={"trainaug": published})

    def test_an_id_twice_stops_it(self, tmp_path):
        twice = make(tmp_path, sbd_lists={"train": [A, A, X], "val": [W, Y]})
        with pytest.raises(UserError, match="sbd_train has 3 ids, 2 different ones"):
            twice.run(counts=COUNTS | {"trainaug": 5})

    def test_lists_that_must_be_disjoint_are(self, tmp_path):
        leaky = make(tmp_path, sbd_lists={"train": [A, V, X], "val": [W, Y]})
        with pytest.raises(UserError, match=f"sbd_train and seg11valid share 1 ids: {V}"):
            leaky.run()

    def test_an_incomplete_or_foreign_archive_is_named(self, case, tmp_path):
        right = archive(case.voc_tar)
        release = prepare_voc.Release(right, archive(case.sbd_tgz), COUNTS, {})
        content = case.voc_tar.read_bytes()
        for changed, message in (
            (content[:-1000], rf"{len(content) - 1000} of {len(content)} bytes.*incomplete.*curl"),
            (content[:-1] + b"x", rf"MD5 [0-9a-f]{{32}} is not that of voc\.tar.*{right.md5}"),
            (content + b"x", "is not that of voc.tar"),
        ):
            case.voc_tar.write_bytes(changed)
            with pytest.raises(UserError, match=message):
                prepare_voc.prepare(case.root, case.voc_tar, release=release)
        with pytest.raises(UserError, match="nothing.tar: no such file; download https://example"):
            prepare_voc.prepare(case.root, tmp_path / "nothing.tar", release=release)
        assert not case.root.exists()

    def test_a_broken_archive_names_its_file(self, case):
        content = case.sbd_tgz.read_bytes()
        case.sbd_tgz.write_bytes(content[: len(content) // 2])  # its MD5 is taken from this
        with pytest.raises(UserError, match=r"sbd\.tgz: broken archive .*download it again"):
            case.run()

    @pytest.mark.parametrize("full", ["voc", "sbd"])
    def test_a_full_disk_is_known_before_anything_is_written(self, case, monkeypatch, full):
        if full == "sbd":
            case.run()
            shutil.rmtree(case.home / "SegmentationClassSBD")
        before = set(case.files())
        usage = type("Usage", (), {"free": 10})
        monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(UserError, match="GiB are needed and 0.00 GiB free; make room, or name"):
            case.run()
        assert set(case.files()) == before

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"no MATLAB file", "not a file of SBD's cls/"),
            (mat(np.full(SIZE, 21, np.uint8)), "values up to 21; SBD's masks hold 0 to 20"),
            (mat(np.zeros((2, 3, 4), np.uint8)), "not a matrix of numbers"),
            (mat(np.zeros(SIZE[::-1], np.uint8)), "mask of 6x9 pixels for an image of 9x6; rotate"),
        ],
    )
    def test_a_bad_mask_is_named(self, tmp_path, content, message):
        bad = make(tmp_path, **{Y: content})
        with pytest.raises(UserError, match=rf"cls/{Y}\.mat: .*{message}"):
            bad.run()


class TestSafety:
    def test_nothing_is_written_outside(self, case, tmp_path):
        with tarfile.open(case.voc_tar, "a") as tar:
            for name in ("../evil.jpg", f"{DEVKIT}/JPEGImages/../../../../evil.jpg", "/evil.jpg"):
                add(tar, name, b"evil")
            add(tar, f"{DEVKIT}/JPEGImages/sub/evil.jpg", b"evil")
            add(tar, f"{DEVKIT}/JPEGImages/{A}.jpg.orig", b"evil")
        case.run()
        assert b"evil" not in case.files().values()
        assert not list(tmp_path.rglob("evil*")) and not Path("/evil.jpg").exists()

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
    def test_links_and_devices_are_refused(self, case, kind):
        with tarfile.open(case.voc_tar, "a") as tar:
            member = tarfile.TarInfo(f"{DEVKIT}/JPEGImages/2007_000009.jpg")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        with pytest.raises(UserError, match=r"2007_000009\.jpg' is a link or a device"):
            case.run()
        assert not case.files()

    def test_ids_that_are_no_names_become_no_paths(self, tmp_path):
        evil = make(tmp_path, sbd_lists={"train": [A, C, "../../../evil"], "val": [W, Y]})
        with pytest.raises(UserError, match=r"1 of the 3 files of sbd_train are missing"):
            evil.run()
        assert not list(tmp_path.rglob("evil*"))


def test_interrupted_anywhere_it_goes_on(case, tmp_path, monkeypatch):
    whole = Case(case.voc_tar, case.sbd_tgz, tmp_path / "whole")
    whole.run()
    expected, write_bytes, done = whole.files(), files.write_bytes, []

    def interrupted(path, content):
        if len(done) % 2:  # every second write breaks off halfway
            done.append(None)
            with files.write_atomically(path) as file:
                file.write(content[: len(content) // 2])
                raise KeyboardInterrupt
        done.append(path)
        return write_bytes(path, content)

    monkeypatch.setattr(files, "write_bytes", interrupted)
    for _ in range(100):
        try:
            case.run()
            break
        except KeyboardInterrupt:  # a list that is there names files that are there
            for path in case.home.glob("ImageSets/Segmentation/[a-z]*.txt"):
                data.open_source("voc2012", case.root, path.stem)
    written = [path for path in done if path]
    assert len(written) == len(set(written)) > 20, "a finished file was written again"
    assert case.files() == expected


def test_a_second_run_changes_nothing(case):
    case.run()

    def times():
        return {path: path.stat().st_mtime_ns for path in case.root.rglob("*.[pj][np]g")}

    before = times()
    assert "trainaug" in case.run() and times() == before


def test_a_file_system_without_hard_links(case, monkeypatch):
    def refuse(*_):
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", refuse)
    case.run()
    assert len(data.open_source("voc2012", case.root, "trainval_aug")) == 7


@pytest.mark.parametrize("size", [(37, 23), (1, 7), (7, 1), (1, 1)])
def test_sbd_masks_keep_every_pixel(rng, size):
    mask = rng.integers(0, 21, size, dtype=np.uint8)
    np.testing.assert_array_equal(sbd.read_mat(mat(mask), "x.mat"), mask)


def test_real_pictures(test_data, tmp_path):
    """Twelve VOC images; their masks without void stand in for SBD's."""
    part = test_data / "data" / DEVKIT
    train, val = (voc.open_split(part, split).ids[:6] for split in ("train", "val"))
    pictures = {name: (part / f"JPEGImages/{name}.jpg").read_bytes() for name in train + val}
    masks = {n: (part / f"SegmentationClass/{n}.png").read_bytes() for n in train[:4] + val}
    as_sbd = {}
    for name in train[2:] + val[4:]:
        label = np.array(Image.open(part / f"SegmentationClass/{name}.png"))
        as_sbd[name] = np.where(label == IGNORE, 0, label)
    case = Case(
        write_voc(
            tmp_path / "voc.tar",
            pictures,
            masks,
            {"train": train[:4], "val": val, "trainval": train[:4] + val},
        ),
        write_sbd(
            tmp_path / "sbd.tgz",
            {name: mat(label) for name, label in as_sbd.items()},
            {"train": train[2:], "val": val[4:]},
        ),
        tmp_path / "out",
    )
    fcn = sum(name in SEG11VALID for name in val)
    case.run(
        counts={
            "train": 4,
            "val": 6,
            "trainval": 10,
            "trainaug": 6,
            "trainval_aug": 12,
            "sbd_train": 4,
            "sbd_val": 2,
            "seg11valid": fcn,
        }  # fmt: skip
    )
    read = data.open_source("voc2012", case.root, "trainaug")
    original = data.open_source("voc2012", part, "train")
    for index, name in enumerate(read.ids):
        record, stored = read[index], original[original.ids.index(name)]
        np.testing.assert_array_equal(record["image"], stored["image"])
        of_sbd = name in train[4:]
        expected = as_sbd[name] if of_sbd else stored["label"]
        np.testing.assert_array_equal(record["label"], expected)


@pytest.mark.slow
def test_the_published_counts_with_one_pixel_pictures(test_data, tmp_path):
    """All 12,031 ids and 11,355 masks, the published counts and digests."""
    lists = published_lists(test_data)
    trainaug, of_sbd = lists["trainaug"], stand_in_for_sbd(lists)
    picture, mask, sbd_mask = jpeg((1, 1)), png(np.zeros((1, 1), np.uint8)), mat(np.zeros((1, 1)))
    case = Case(
        write_voc(
            tmp_path / "voc.tar",
            dict.fromkeys({*trainaug, *lists["val"]}, picture),
            dict.fromkeys(lists["trainval"], mask),
            {name: lists[name] for name in VOC_LISTS},
        ),
        write_sbd(
            tmp_path / "sbd.tgz",
            dict.fromkeys(of_sbd["train"] + of_sbd["val"], sbd_mask),
            of_sbd,
        ),
        tmp_path / "out",
    )
    text = case.run(counts=voc.COUNTS, digests=voc.OFFICIAL)
    for name, count in voc.COUNTS.items():
        read = data.open_source("voc2012", case.root, name)
        assert read.description == f"voc2012 {name}: {count} images" and f"{count}   Seg" in text


class TestCommandLine:
    def test_it_names_the_archive_it_wants(self, tmp_path, capsys):
        (tmp_path / "VOCtrainval_11-May-2012.tar").write_bytes(b"half")
        code = command_line.main(
            ["data", "prepare", "voc2012", "--voc", str(tmp_path / "VOCtrainval_11-May-2012.tar")]
        )
        assert code == 2
        assert "4 of 1999639040 bytes: the download is incomplete" in capsys.readouterr().err

    def test_only_voc_is_made_from_archives(self, capsys):
        assert command_line.main(["data", "prepare", "camvid"]) == 2
        assert "only voc2012 is made from archives" in capsys.readouterr().err
