"""Files, folders of frames, patterns and lists give images and the paths of their results."""

import io
from pathlib import Path

import pytest

from seg_jax.checks import UserError
from seg_jax.inference import inputs


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names):
    for name in map(Path, names):
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_text("")


def found(*arguments):
    return [(str(path), str(place)) for path, place in inputs.find(map(Path, arguments))]


def test_a_file_s_results_lie_in_the_output_folder_itself(at_home):
    assert found("there/a.b.jpg", "c.PNG") == [("there/a.b.jpg", "a.b"), ("c.PNG", "c")]


def test_a_folder_of_frames_comes_in_the_order_of_their_numbers(at_home):
    touch("in/f10.png", "in/f9.JPG", "in/f1.png", "in/notes.txt", "in/._f1.png", "in/deep/f2.png")
    (at_home / "in" / "folder.png").mkdir()
    assert [path for path, _ in found("in")] == ["in/f1.png", "in/f9.JPG", "in/f10.png"]


def test_a_pattern_s_results_keep_the_folders_below_its_fixed_part(at_home):
    touch("clips/a/1.png", "clips/b/1.png", "clips/b/c/2.png", "clips/b/3.jpg")
    one_level = [("clips/a/1.png", "a/1"), ("clips/b/1.png", "b/1")]
    assert found("clips/*/*.png") == one_level
    assert found("clips/**/*.png") == [*one_level, ("clips/b/c/2.png", "b/c/2")]
    assert found("clips/*") == [*one_level, ("clips/b/3.jpg", "b/3")]  # folders, and their images
    assert found(at_home / "clips/b/*.jpg") == [(str(at_home / "clips/b/3.jpg"), "3")]


def test_a_name_with_brackets_is_a_name_first(at_home):
    touch("scan[1].png", "scan1.png")
    assert found("scan[1].png") == [("scan[1].png", "scan[1]")]
    assert found("scan[12].png") == [("scan1.png", "scan1")]


def test_a_list_on_standard_input(at_home, monkeypatch):
    touch("in/2.png", "in/1.png")
    monkeypatch.setattr("sys.stdin", io.StringIO("in\r\n\nwith space*.jpg\nin/2.png\n"))
    listed = [("in/1.png", "1"), ("in/2.png", "2"), ("with space*.jpg", "with space*")]
    assert found("-") == listed


def test_each_image_once(at_home):
    touch("in/a.png")
    assert found("in/a.png", "in", "in/*.png") == [("in/a.png", "a")]


@pytest.mark.parametrize(
    ("argument", "message"),
    [("empty", "empty: no images in this folder"), ("*.png", r"\*\.png: no file matches")],
)
def test_nothing_found_is_the_user_s_mistake(at_home, argument, message):
    (at_home / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        found(argument)
    with pytest.raises(UserError, match="no images to predict"):
        found()
