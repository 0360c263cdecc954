"""Images of all kinds become palette PNGs and overlays; a broken one does not stop the others."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from small_task import CLASSES, SmallNet, small_experiment, small_variables

from seg_jax import experiment as experiments
from seg_jax.checks import UserError
from seg_jax.inference import forward, predict, windows
from seg_jax.types import voc_palette

EXPERIMENT = small_experiment(bucket=64)
VARIABLES = small_variables(EXPERIMENT.model)


def run(images, out, *, experiment=EXPERIMENT, **options):
    return predict.predict(
        experiment,
        VARIABLES,
        images,
        out,
        classes=CLASSES,
        palette=voc_palette(),
        progress=False,
        **options,
    )


@pytest.fixture
def photo(rng):
    smooth = np.kron(rng.integers(0, 256, (5, 8, 3)), np.ones((8, 8, 1)))[:38, :61]
    return smooth.astype(np.uint8)


def test_writes_the_prediction_as_a_palette_png_of_the_image_s_size(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    written = tmp_path / "new" / "out" / "photo.png"
    assert run([tmp_path / "photo.png"], written.parent) == ((written,), ())
    with Image.open(tmp_path / "new" / "out" / "photo.png") as written:
        assert written.mode == "P"
        assert written.size == (61, 38)
        assert written.getpalette() == voc_palette().ravel().tolist()
        label = np.array(written)
    np.testing.assert_array_equal(label, forward.predict_labels(EXPERIMENT, VARIABLES, photo))
    assert len(np.unique(label)) > 1
    with Image.open(tmp_path / "new" / "out" / "photo_overlay.png") as drawn:
        assert drawn.width >= 61
        assert drawn.height > 38  # the legend
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == [
        "photo.png",
        "photo_overlay.png",
    ]


def test_probabilities_are_those_of_the_label_map(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    outcome = run([tmp_path / "photo.png"], tmp_path / "out", probabilities=True)
    assert outcome.failures == ()
    shares = np.load(tmp_path / "out" / "photo.npy")
    assert shares.dtype == np.float32
    expected = forward.predict_probabilities(EXPERIMENT, VARIABLES, photo)
    np.testing.assert_array_equal(shares, expected)
    with Image.open(tmp_path / "out" / "photo.png") as written:
        np.testing.assert_array_equal(np.array(written), shares.argmax(-1))


def test_refined_probabilities_decide(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    seen = []

    def refine(image, shares):
        seen.append((image, shares))
        return shares[..., ::-1]

    run([tmp_path / "photo.png"], tmp_path / "out", refine=refine, probabilities=True)
    ((image, shares),) = seen
    np.testing.assert_array_equal(image, photo)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "photo.npy"), shares[..., ::-1])
    with Image.open(tmp_path / "out" / "photo.png") as written:
        np.testing.assert_array_equal(np.array(written), shares[..., ::-1].argmax(-1))


def test_results_are_upright(photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # row 0 is on the right when upright
    Image.fromarray(photo).save(tmp_path / "turned.png", exif=exif)
    run([tmp_path / "turned.png"], tmp_path / "out")
    with Image.open(tmp_path / "out" / "turned.png") as written:
        assert written.size == (38, 61)


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (70, 33), (130, 65)])
def test_an_image_may_have_any_size(rng, tmp_path, size):
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    with_canvas = small_experiment(canvas=(64, 64), bucket=64)
    assert run([tmp_path / "a.png"], tmp_path / "out", experiment=with_canvas).failures == ()
    whole = forward.predict_labels(small_experiment(bucket=1), VARIABLES, image)
    with Image.open(tmp_path / "out" / "a.png") as written:
        np.testing.assert_array_equal(np.array(written), whole)


@dataclasses.dataclass(frozen=True)
class OneMoreThanEights:
    """A model that takes only heights and widths of 8 k + 1."""

    def legal_sizes(self, side):
        below = side - (side - 1) % 8
        return (side,) if below == side else (below, below + 8)


def test_a_larger_canvas_is_one_that_the_model_takes():
    small = small_experiment(OneMoreThanEights(), canvas=(33, 41), bucket=16)
    assert windows.covering(small, (33, 41)) is small
    assert windows.covering(small, (33, 42)).evaluation.canvas == (49, 49)
    assert windows.covering(small, (64, 3)).evaluation.canvas == (65, 17)
    tiles = small_experiment(SmallNet(padding="VALID"), mode="tile", canvas=(20, 20))
    assert windows.covering(tiles, (500, 500)) is tiles


def test_every_experiment_takes_images_beyond_its_canvas():
    for name in experiments.names():
        experiment = experiments.get(name)
        legal = getattr(experiment.model, "legal_sizes", lambda side: (side,))
        for size in ((1, 1), (333, 2000), (1081, 7)):
            seen = windows.covering(experiment, size)
            canvas = windows.input_size(size, seen.evaluation)
            assert all(legal(side) == (side,) for side in canvas), (name, size, canvas)
            if experiment.evaluation.mode == "whole":
                assert canvas[0] >= size[0] and canvas[1] >= size[1], (name, size, canvas)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_other_kinds_of_images_are_predicted(photo, tmp_path, mode):
    path = tmp_path / ("photo.tif" if mode == "CMYK" else "photo.png")
    Image.fromarray(photo).convert(mode).save(path)
    assert run([path], tmp_path / "out").failures == ()
    with Image.open(tmp_path / "out" / "photo.png") as written:
        assert written.size == (61, 38)


def test_bad_files_are_reported_at_the_end_and_stop_nothing(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    (tmp_path / "c.png").write_text("not an image")
    Image.fromarray(photo[..., 0].astype(np.uint16) * 257).save(tmp_path / "d.png")
    Image.fromarray(photo).save(tmp_path / "z.png")
    files = [tmp_path / name for name in ("a.jpg", "b.jpg", "c.png", "d.png", "e.png", "z.png")]
    written, failures = run(files, tmp_path / "out")
    assert [path.name for path in written] == ["a.png", "z.png"]
    assert [failure.path.name for failure in failures] == ["b.jpg", "c.png", "d.png", "e.png"]
    reasons = [failure.reason for failure in failures]
    assert "cannot be decoded" in reasons[0]
    assert "16 bits" in reasons[2]
    assert "no such file" in reasons[3]
    assert not any(str(tmp_path) in reason.split(" (")[0] for reason in reasons)
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"a.png", "a_overlay.png", "z.png", "z_overlay.png"}


def test_a_pattern_s_results_keep_their_folders(photo, tmp_path):
    for clip in ("a", "b"):
        (tmp_path / "clips" / clip).mkdir(parents=True)
        Image.fromarray(photo).save(tmp_path / "clips" / clip / "0001.png")
    outcome = run([tmp_path / "clips" / "*" / "*.png"], tmp_path / "out")
    assert outcome.written == tuple(tmp_path / "out" / clip / "0001.png" for clip in ("a", "b"))


def test_no_result_overwrites_an_input_or_another_result(photo, tmp_path):
    for name in ("a.png", "a.jpg"):
        Image.fromarray(photo).save(tmp_path / name)
    with pytest.raises(UserError, match=r"a\.png: the prediction of .*a\.png would overwrite"):
        run([tmp_path / "a.png"], tmp_path)
    with pytest.raises(UserError, match=r"a\.png and .*a\.jpg would both be written.*quote"):
        run([tmp_path / "a.png", tmp_path / "a.jpg"], tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--out .*file: cannot be created as a folder"):
        run([tmp_path / "a.png"], tmp_path / "file")
