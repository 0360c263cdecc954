"""The public cases through `train` and `predict` as users type them: right, or one clear line."""

import shutil

import numpy as np
import pytest
from command_line import run
from PIL import Image

TRAIN = (
    "train", "two_layers_synthetic", "--data.dataset", "folder", "--train.steps", "1",
    "--train.batch-size", "4", "--data.augmentation.crop", "32", "32",
)  # fmt: skip
# Folder: exit code, what is said, and further options.
CASES = {
    "02-carvana-gif": (0, "model.num_classes 8 -> 2", ()),
    "04-binary-0-255": (0, "the masks hold only 0 and 255", ()),
    "04-binary-0-255 mapped": (0, "next: ", ("--data.map", "255=1")),
    "05-one-class": (0, "the masks hold only 0 and 255", ()),  # whose one class is 0
    "06-tiff-white-is-zero": (0, "model.num_classes 8 -> 3", ()),
    "08-narrow": (2, "08-narrow has no folder images/", ()),
    "09-two-column-list": (0, "train: 4 images", ()),
    "09b-utf16-list": (0, "train: 4 images", ()),
    "10-Void-capital": (0, "model.num_classes 8 -> 2", ()),
    "11-void-only": (0, "every pixel is void", ()),
    "12-class-absent": (0, "classes that never occur: unicorn", ()),
    "13-jpg-masks": (2, "p0.jpg: a mask cannot be a JPEG", ()),
    "14-three-pictures": (0, "train: 2 images", ()),
    "15-rgb-grey-mask": (2, "colour", ()),
    "16-big": (0, "train: 4 images", ()),
    "17-mask-suffix": (0, "train: 5 images", ()),
    "20-camvid-style": (0, "model.num_classes 8 -> 3", ()),
    "21-nfd-names": (0, "train: 8 images", ()),
}


@pytest.fixture
def at_home(tmp_path, monkeypatch, someone_elses):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_every_public_case_is_here(test_data):
    there = {path.name for path in (test_data / "cases").iterdir() if path.is_dir()}
    assert there - {"07-multiband-tiff"} == {case.split()[0] for case in CASES}  # see below


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_case_through_a_whole_training(test_data, at_home, capsys, case):
    expected, said, options = CASES[case]
    root = test_data / "cases" / case.split()[0]
    code, out, err = run(capsys, *TRAIN, "--workdir", "run", "--data.root", root, *options)
    assert code == expected, err
    if expected == 0:
        assert said in out and "trained run to step 1" in out
        assert ("warning" in out) == (said.split()[0] in ("the", "there", "every", "classes")), out
    else:
        assert said in err and err.count("error: ") == 1
        assert not (at_home / "run/checkpoints").exists()
        assert "Traceback" not in err


@pytest.mark.slow
def test_narrow_and_other_images_are_predicted_or_named(test_data, at_home, capsys):
    cases = test_data / "cases"
    assert run(capsys, *TRAIN, "--workdir", "run", "--data.root", cases / "17-mask-suffix")[0] == 0
    code, out, err = run(capsys, "predict", "run", cases / "08-narrow", "--out", "narrow")
    assert code == 0, err
    for path in (cases / "08-narrow").iterdir():
        with Image.open(path) as image, Image.open(at_home / "narrow" / path.name) as label:
            assert label.mode == "P" and label.size == image.size
            assert np.array(label).max() <= 2
    others = sorted(path for path in (cases / "07-multiband-tiff").iterdir() if path.is_file())
    code, out, err = run(capsys, "predict", "run", *others, "--out", "others")
    assert code == 2 and f"0 of {len(others)} images" in out
    for path in others:
        (line,) = [line for line in err.splitlines() if line.startswith(f"{path}: ")]
        assert "channels" in line or "mode" in line or "bits" in line
    shutil.rmtree("run")
