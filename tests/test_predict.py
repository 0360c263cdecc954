"""Pictures of every kind in, palette PNG and overlay out; a bad one does not stop the others."""

import numpy as np
import pytest
from PIL import Image, ImageOps
from small_task import CLASSES, small_experiment, small_variables

from seg_jax import inference, predict
from seg_jax.checks import UserError
from seg_jax.types import voc_palette

EXPERIMENT = small_experiment(bucket=64)
VARIABLES = small_variables(EXPERIMENT.model)


def run(images, out):
    return predict.predict(
        EXPERIMENT,
        VARIABLES,
        images,
        out,
        classes=CLASSES,
        palette=voc_palette(),
        progress=False,
    )


@pytest.fixture
def photo(rng):
    smooth = np.kron(rng.integers(0, 256, (5, 8, 3)), np.ones((8, 8, 1)))[:38, :61]
    return smooth.astype(np.uint8)


def test_writes_the_prediction_as_a_palette_png_of_the_picture_s_size(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    assert run([tmp_path / "photo.png"], tmp_path / "new" / "out") == ()
    with Image.open(tmp_path / "new" / "out" / "photo.png") as written:
        assert written.mode == "P"
        assert written.size == (61, 38)
        assert written.getpalette() == voc_palette().ravel().tolist()
        label = np.array(written)
    np.testing.assert_array_equal(label, inference.predict_labels(EXPERIMENT, VARIABLES, photo))
    assert len(np.unique(label)) > 1
    with Image.open(tmp_path / "new" / "out" / "photo_overlay.png") as drawn:
        assert drawn.width >= 61
        assert drawn.height > 38  # the legend
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == [
        "photo.png",
        "photo_overlay.png",
    ]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(photo, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(photo).save(path, exif=exif)
    with Image.open(path) as file:
        upright = np.array(ImageOps.exif_transpose(file))
    np.testing.assert_array_equal(predict.read_upright(path), upright)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_other_kinds_of_pictures_are_taken(photo, tmp_path, mode):
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    Image.fromarray(photo).convert(mode).save(path)
    assert run([path], tmp_path / "out") == ()
    with Image.open(tmp_path / "out" / "picture.png") as written:
        assert written.size == (61, 38)


def test_bad_files_are_reported_at_the_end_and_stop_nothing(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    (tmp_path / "c.png").write_text("not a picture")
    Image.fromarray(photo[..., 0].astype(np.uint16) * 257).save(tmp_path / "d.png")
    Image.fromarray(photo).save(tmp_path / "z.png")
    files = [tmp_path / name for name in ("a.jpg", "b.jpg", "c.png", "d.png", "e.png", "z.png")]
    failures = run(files, tmp_path / "out")
    assert [failure.path.name for failure in failures] == ["b.jpg", "c.png", "d.png", "e.png"]
    reasons = [failure.reason for failure in failures]
    assert "cannot be decoded" in reasons[0]
    assert "16 bits" in reasons[2]
    assert "no such file" in reasons[3]
    assert not any(str(tmp_path) in reason.split(" (")[0] for reason in reasons)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"a.png", "a_overlay.png", "z.png", "z_overlay.png"}


def test_folders_are_searched_for_pictures(photo, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("one.PNG", "two.jpg"):
        Image.fromarray(photo).save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    assert run([tmp_path / "in"], tmp_path / "out") == ()
    assert (tmp_path / "out" / "one.png").exists()
    assert (tmp_path / "out" / "two.png").exists()


def test_nothing_to_predict_is_refused(tmp_path):
    with pytest.raises(UserError, match="no pictures in this folder"):
        run([tmp_path], tmp_path / "out")
    with pytest.raises(UserError, match="no pictures to predict"):
        run([], tmp_path / "out")


def test_no_result_replaces_a_picture_or_another_result(photo, tmp_path):
    for name in ("a.png", "a.jpg"):
        Image.fromarray(photo).save(tmp_path / name)
    with pytest.raises(UserError, match=r"a\.png: the prediction of .*a\.png would replace"):
        run([tmp_path / "a.png"], tmp_path)
    with pytest.raises(UserError, match=r"a\.png and .*a\.jpg would both be written"):
        run([tmp_path / "a.png", tmp_path / "a.jpg"], tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--out .*file: cannot be made a folder"):
        run([tmp_path / "a.png"], tmp_path / "file")
