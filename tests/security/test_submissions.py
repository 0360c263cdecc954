"""Hostile archives of results: `submit --check` reads anyone's."""

import gzip
import io
import os
import struct
import tarfile
import time
import tracemalloc
import zlib

import pytest

from seg_jax.checks import UserError
from seg_jax.evaluation import submission_check

PLACE = "results/VOC2012/Segmentation/comp6_test_cls"


def write(path, *entries):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def png(width, height):
    """A palette PNG of class 0: a few kilobytes for any size."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = zlib.compressobj()
    data = b"".join(rows.compress(bytes(width + 1)) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = ((b"IHDR", header), (b"PLTE", bytes(3)), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.fixture(autouse=True)
def bounded():
    """Each of these took gigabytes or many seconds."""
    tracemalloc.start()
    started = time.process_time()
    yield
    assert time.process_time() - started < 5
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_of_six_gib_is_not_read(tmp_path, kind):
    header = tarfile.TarInfo("long")
    header.type, header.size = kind, 6 * 2**30
    path = tmp_path / "r.tgz"
    with gzip.open(path, "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(2**20))
    (problem,) = submission_check.check(path).problems
    assert "damaged or incomplete (a header or file of 6442450944 bytes)" in problem


def test_large_images_are_not_decoded(tmp_path):
    image = png(13_000, 1_300)
    path = write(tmp_path / "r.tgz", *((f"{PLACE}/{index}.png", image) for index in range(6)))
    report = submission_check.check(path)
    assert report.problems["too large for a label map"] == (6, f"{PLACE}/0.png")


def test_an_archive_of_many_members_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(submission_check, "_MOST_MEMBERS", 20)
    path = write(tmp_path / "r.tgz", *((f"{index}", b"") for index in range(30)))
    assert any("more than 20 files" in problem for problem in submission_check.check(path).problems)


def test_an_archive_that_unpacks_to_much_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(submission_check, "_MOST_BYTES", 2**20)
    path = write(tmp_path / "r.tgz", ("zeros", bytes(2**21)), (f"{PLACE}/a.png", png(5, 4)))
    problems = submission_check.check(path).problems
    assert any("unpacked it has more than 1048576 bytes" in problem for problem in problems)


def test_names_are_shown_escaped_and_short(tmp_path):
    names = ["x\nready to be submitted\n", "\x1b[2J\x1b]0;title\x07", "y" * 10_000]
    path = write(tmp_path / "r.tgz", *((f"{name}.png", png(5, 4)) for name in names))
    for name in names:
        text = submission_check.check(write(path, (f"{name}.png", png(5, 4)))).as_text()
        assert all(line.isprintable() and len(line) < 400 for line in text.split("\n"))
        assert "ready to be submitted" not in text.split("\n")


def test_an_eps_is_not_given_to_ghostscript(tmp_path):
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(ran) run\n%%EOF\n"
    report = submission_check.check(write(tmp_path / "r.tgz", (f"{PLACE}/a.png", eps)))
    assert any(problem.startswith("cannot be decoded") for problem in report.problems)


def test_long_names_of_splits_are_in_another_place(tmp_path):
    place = PLACE.replace("test", "t" * 300)
    report = submission_check.check(write(tmp_path / "r.tgz", (f"{place}/a.png", png(5, 4))))
    assert any(problem.startswith("not in results/") for problem in report.problems)


def test_a_pipe_is_no_archive(tmp_path):
    os.mkfifo(tmp_path / "r.tgz")
    with pytest.raises(UserError, match="not a regular file"):
        submission_check.check(tmp_path / "r.tgz")
