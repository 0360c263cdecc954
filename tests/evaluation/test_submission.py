"""Archives for the VOC test server: what is written is taken, and the usual mistakes are named."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from small_task import SmallNet, small_experiment, small_variables

from seg_jax import __main__ as cli
from seg_jax.checks import UserError
from seg_jax.data import images
from seg_jax.evaluation import submission, submission_check
from seg_jax.inference import forward
from seg_jax.pretrained import Pretrained
from seg_jax.types import voc_palette

SIZES = {"2008_000001": (20, 31), "2008_000002": (16, 16), "2011_000003": (33, 18)}
PLACE = "results/VOC2012/Segmentation/comp6_test_cls"


@pytest.fixture
def voc(tmp_path, rng):
    """A VOCdevkit with the images of "test", and no masks."""
    home = tmp_path / "voc" / "VOC2012"
    (home / "ImageSets" / "Segmentation").mkdir(parents=True)
    (home / "ImageSets" / "Segmentation" / "test.txt").write_text("\n".join(SIZES) + "\n")
    (home / "JPEGImages").mkdir()
    for name, (height, width) in SIZES.items():
        pixels = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(home / "JPEGImages" / f"{name}.jpg")
    return tmp_path / "voc"


def label_png(size, *, palette=None, value=None, mode="P", kind="PNG"):
    label = np.arange(size[0] * size[1], dtype=np.uint8).reshape(size) % 21
    if value is not None:
        label[0, 0] = value
    image = Image.fromarray(label)
    image.putpalette((voc_palette() if palette is None else palette).tobytes())
    file = io.BytesIO()
    (image if mode == "P" else image.convert(mode)).save(file, format=kind)
    return file.getvalue()


def results(**changes):
    """{name in the archive: bytes} of a good submission, with some replaced or (None) left out."""
    good = {f"{PLACE}/{name}.png": label_png(size) for name, size in SIZES.items()}
    return {name: content for name, content in {**good, **changes}.items() if content is not None}


def pack(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


FIRST = f"{PLACE}/2008_000001.png"
SIZE = SIZES["2008_000001"]


def test_a_good_archive_is_ready(tmp_path, voc):
    report = submission_check.check(pack(tmp_path / "r.tgz", results()), root=voc)
    assert (report.results, report.problems) == (3, {})
    assert "ready to be submitted" in report.as_text()
    assert report.notes == [f"test in {voc / 'VOC2012'} has 3 images, VOC 2012: 1456"]


MISTAKES = {
    "another folder": (
        {f"{PLACE[8:]}/{name}.png": label_png(size) for name, size in SIZES.items()}
        | {f"{PLACE}/{name}.png": None for name in SIZES},
        f"not in {PLACE}/",
    ),
    "adaptive palette": (
        {FIRST: label_png(SIZE, palette=voc_palette()[::-1].copy())},
        "another palette than VOC's",
    ),
    "colours": ({FIRST: label_png(SIZE, mode="RGB")}, "pixels of mode RGB: save class ids"),
    "grey": ({FIRST: label_png(SIZE, mode="L")}, "pixels of mode L: save class ids"),
    "resized": ({FIRST: label_png((25, 25))}, "not of its image's size"),
    "ids beyond 20": ({FIRST: label_png(SIZE, value=21)}, "class ids beyond 20"),
    "void": ({FIRST: label_png(SIZE, value=255)}, r"void \(255\) predicted"),
    "missing": ({FIRST: None}, "an image of test without a label map: 2008_000001"),
    "another name": (
        {FIRST: None, f"{PLACE}/2008_000001_pred.png": label_png(SIZE)},
        "a label map of no image of test: 2008_000001_pred",
    ),
    "JPEG": ({FIRST: label_png(SIZE, mode="L", kind="JPEG")}, "JPEG under the name of a PNG"),
    "broken": ({FIRST: label_png(SIZE)[:60]}, "cannot be decoded"),
    "macOS": ({f"{PLACE}/._2008_000001.png": b"x"}, "a file that the server does not expect"),
    "two splits": (
        {"results/VOC2012/Segmentation/comp6_val_cls/a.png": label_png(SIZE)},
        "results of another split than test",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_usual_mistakes_are_named(tmp_path, voc, mistake):
    changes, message = MISTAKES[mistake]
    report = submission_check.check(pack(tmp_path / "r.tgz", results(**changes)), root=voc)
    lines = [line for line in report.as_text().splitlines() if line.startswith("problem: ")]
    assert any(message.replace("\\", "") in line for line in lines), report.as_text()
    assert "ready" not in report.as_text()


def test_one_line_a_kind_of_mistake(tmp_path, voc):
    wrong = {f"{PLACE}/{name}.png": label_png(size, mode="RGB") for name, size in SIZES.items()}
    report = submission_check.check(pack(tmp_path / "r.tgz", wrong), root=voc)
    assert list(report.problems.values()) == [(3, FIRST)]
    assert "2008_000001.png and 2 more" in report.as_text()


def test_what_is_no_tgz_is_named(tmp_path, voc):
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        for name, content in results().items():
            archive.writestr(name, content)
    plain = pack(tmp_path / "r.tar", results(), "w:")
    cut = tmp_path / "cut.tgz"
    whole = pack(tmp_path / "whole.tgz", results()).read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    named = pack(tmp_path / "r.bin", results())
    for path, message in (
        (tmp_path / "r.zip", "a zip file"),
        (plain, "a tar file that is not compressed"),
        (cut, "damaged or incomplete"),
        (named, "files named .tgz"),
    ):
        problems = submission_check.check(path, root=voc).problems
        assert any(message in problem for problem in problems), (path, problems)
    with pytest.raises(UserError, match=r"none\.tgz: no such file"):
        submission_check.check(tmp_path / "none.tgz")


def test_without_the_images_the_number_is_checked(tmp_path):
    report = submission_check.check(pack(tmp_path / "r.tgz", results()))
    assert list(report.problems) == ["VOC 2012's test has 1456 images, not 3"]
    assert "--root" in report.notes[0]


def test_links_and_twins_are_named(tmp_path, voc):
    with tarfile.open(tmp_path / "r.tgz", "w:gz") as archive:
        for name, content in [*results().items(), (FIRST, label_png(SIZE))]:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo(f"{PLACE}/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    problems = submission_check.check(tmp_path / "r.tgz", root=voc).problems
    assert set(problems) == {"no plain file", "there twice"}


@pytest.fixture
def task():
    experiment = small_experiment(SmallNet(num_classes=21))
    return experiment, small_variables(experiment.model)


def test_what_is_written_holds_the_predictions_and_passes(tmp_path, voc, task):
    source = submission.open_images(voc, "test")
    path = tmp_path / "sub" / "results.tgz"
    submission.write(*task, source, path, competition="comp5", progress=False)
    report = submission_check.check(path, root=voc)
    assert (report.results, report.problems) == (3, {})
    with tarfile.open(path) as archive:
        names = archive.getnames()
        assert set(names) == {f"{PLACE.replace('comp6', 'comp5')}/{name}.png" for name in SIZES}
        for name in names:
            with Image.open(archive.extractfile(name)) as file:
                found = np.array(file)
            image = images.read_image(
                source.root / "JPEGImages" / f"{name.split('/')[-1][:-4]}.jpg"
            )
            np.testing.assert_array_equal(found, forward.predict_labels(*task, image))
            assert len(np.unique(found)) > 3
    before = path.read_bytes()
    submission.write(*task, source, path, competition="comp5", progress=False)
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["results.tgz"]


def test_a_failed_write_leaves_no_archive(tmp_path, voc, task):
    source = submission.open_images(voc, "test")
    broken = source.image_file(2)
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(UserError, match="2011_000003.jpg"):
        submission.write(
            *task, source, tmp_path / "sub" / "r.tgz", competition="comp6", progress=False
        )
    assert list((tmp_path / "sub").iterdir()) == []
    broken.unlink()
    with pytest.raises(UserError, match=r"1 of the 3 images of test are missing.*VOC2012test\.tar"):
        submission.open_images(voc, "test")


def test_a_model_of_other_classes_is_refused(tmp_path, voc):
    experiment = small_experiment(SmallNet(num_classes=2))
    source = submission.open_images(voc, "test")
    with pytest.raises(UserError, match="scores 2 classes"):
        submission.write(
            experiment,
            small_variables(experiment.model),
            source,
            tmp_path / "r.tgz",
            competition="comp6",
            progress=False,
        )


def test_the_command(tmp_path, voc, task, monkeypatch, capsys):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(submission.pretrained, "load", lambda path, **_: Pretrained(*task))
    run = tmp_path / "run"
    run.mkdir()
    args = ["submit", str(run), "--root", str(voc)]
    assert cli.main(args) == 0
    out = capsys.readouterr().out
    assert f"wrote {run / 'voc2012_comp6_test.tgz'}" in out and "ready to be submitted" in out
    own = (run / "voc2012_comp6_test.tgz").read_bytes()
    assert cli.main([*args, "--protocol", "flip", "--out", str(tmp_path / "flip.tgz")]) == 0
    assert (tmp_path / "flip.tgz").read_bytes() != own
    capsys.readouterr()
    bad = pack(tmp_path / "bad.tgz", results(**{FIRST: None}))
    assert cli.main(["submit", "--check", str(bad), "--root", str(voc)]) == 2
    assert "without a label map: 2008_000001" in capsys.readouterr().out
    assert cli.main(["submit"]) == 2
    assert "a run folder, or --check" in capsys.readouterr().err
