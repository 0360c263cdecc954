"""The counts of single images beside a record."""

import dataclasses

import numpy as np
import pytest
from small_record import CLASSES, small_record

from seg_jax import metrics
from seg_jax.checks import UserError
from seg_jax.metrics import bootstrap
from seg_jax.results import image_counts


@pytest.fixture
def made():
    """A record of three images and its counts; the last image has no labelled pixel."""
    rng = np.random.default_rng(0)
    scores, counts = metrics.Scores.zero(3, (1,)), []
    for image in range(3):
        label = rng.integers(0, 3, (6, 7)) if image < 2 else np.full((6, 7), 255)
        one = metrics.of_image(label, rng.integers(0, 2, (6, 7)), CLASSES, (1,))
        scores += one
        counts.append(bootstrap.image_counts(one.confusion))
    found = image_counts.ImageCounts(("a", 'b, "c"', "ü"), np.stack(counts))
    return small_record(scores=scores), found


def test_written_and_read_they_are_the_same(made, tmp_path):
    record, found = made
    path = image_counts.path_of(tmp_path / "result_test.json")
    assert path.name == "result_test_images.csv"
    image_counts.save(found, record.classes, path)
    again = image_counts.load(path, record)
    assert again.ids == found.ids
    np.testing.assert_array_equal(again.counts, found.counts)
    score = bootstrap.interval([again.counts], samples=10).value
    assert score == pytest.approx(record.metrics["mean_iou"], abs=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("index,image", "image,index", "first line"),
        ("0,a,", "3,a,", "no image 3 of 3"),
        ("2,ü,,0,0,0\n", "", "has 2 images, the record 3"),
        ("2,ü,,0,0,0", "2,ü,disc,0,0,1", "no counts"),
        ("2,ü,,0,0,0", "2,ü,cat,0,0,0", "no class"),
        ("2,ü,,0,0,0", "2,ü,disc,3,3,2", "sums are not those"),
        ("2,ü,,0,0,0", f"2,ü,disc,{10**15},3,2", "impossibly many"),
        ("2,ü,,0,0,0", "2,\x1b[2J,,x,0,0", "invalid literal"),
    ],
)
def test_a_wrong_file_is_refused(made, tmp_path, old, new, message):
    record, found = made
    path = tmp_path / "result_images.csv"
    image_counts.save(found, record.classes, path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as error:
        image_counts.load(path, record)
    assert "\x1b" not in str(error.value)


def test_memory_follows_the_file_not_the_record(made, tmp_path):
    record, found = made
    path = tmp_path / "result_images.csv"
    image_counts.save(found, record.classes, path)
    claims = dataclasses.replace(record, counts=dataclasses.replace(record.counts, images=10**12))
    with pytest.raises(UserError, match="has 3 images"):
        image_counts.load(path, claims)
