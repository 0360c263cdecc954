"""Records: written and read back, and refused where they are wrong."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from small_record import CLASSES, made_up_scores, small_record, small_run

from seg_jax import results
from seg_jax.checks import UserError
from seg_jax.metrics import Scores


@pytest.fixture
def path(tmp_path):
    results.save(small_record(), tmp_path / "result.json")
    return tmp_path / "result.json"


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_written_and_read_back_is_the_same(path):
    assert results.load(path) == small_record()
    assert results.load(path.parent) == small_record()
    assert [item.name for item in path.parent.iterdir()] == ["result.json"]


def test_metrics_are_those_of_the_scores(path):
    scores, found = made_up_scores(), results.load(path)
    shown = json.loads(path.read_text())["metrics"]
    assert shown["mean_iou"] == scores.mean_iou
    assert shown["boundary_f1"] == scores.boundary_f1
    assert shown["trimap_mean_iou"] == dict(
        zip(("1", "2", "5", "7"), scores.trimap_iou, strict=True)
    )
    assert list(shown["per_class_iou"]) == list(CLASSES)
    assert list(shown["per_class_iou"].values()) == scores.per_class_iou.tolist()
    np.testing.assert_array_equal(found.scores.confusion, scores.confusion)
    assert found.scores.mean_iou == scores.mean_iou


def test_metrics_of_objects_and_errors_of_membranes(tmp_path):
    scores = made_up_scores()
    shown = small_record().metrics
    assert shown["object_iou"] == {"small": scores.object_iou[0], "medium": None, "large": None}
    assert shown["boundary_accuracy"] == scores.boundary_accuracy
    assert "membrane_errors" not in shown
    membranes = np.array([[2**30, 2**31, 0, 1], [1, 1, 1, 1]])
    found = small_record(scores=dataclasses.replace(scores, membranes=membranes))
    results.save(found, tmp_path / "r.json")
    assert results.load(tmp_path / "r.json").metrics["membrane_errors"] == {
        "pixel_error": 0.25, "rand_error": 0.5, "warping_error": 0.0,
    }  # fmt: skip


def test_every_metric_is_defined_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    missing = [name for name in small_record().metrics if f"`{name}`" not in text]
    assert not missing


def test_records_of_schema_1_are_still_read(path):
    def as_of_schema_1(data):
        data["schema"] = 1
        for name in ("image_iou", "objects", "membranes"):
            del data["counts"][name]
        for name in ("mean_dice", "mean_image_iou", "boundary_accuracy", "object_iou"):
            del data["metrics"][name]

    edit(path, as_of_schema_1)
    found = results.load(path)
    assert found.metrics["mean_iou"] == small_record().metrics["mean_iou"]
    assert found.metrics["object_iou"] == {"small": None, "medium": None, "large": None}
    edit(path, lambda data: data["metrics"].update(boundary_f1=0.5))
    with pytest.raises(UserError, match=r"metrics.boundary_f1 is 0.5"):
        results.load(path)


def test_a_score_that_does_not_exist_is_null(tmp_path):
    scores = made_up_scores()
    only_two = scores.confusion.copy()
    only_two[2] = only_two[:, 2] = 0
    scores = dataclasses.replace(scores, confusion=only_two)
    results.save(small_record(scores=scores), tmp_path / "r.json")
    assert '"bar <b>": null' in (tmp_path / "r.json").read_text()
    assert results.load(tmp_path / "r.json").metrics["per_class_iou"]["bar <b>"] is None


def test_without_trimap_bands(tmp_path):
    scores = made_up_scores(trimap_px=())
    results.save(small_record(scores=scores), tmp_path / "r.json")
    assert results.load(tmp_path / "r.json").scores.trimap_iou == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("digest"), "field digest is missing"),
        (lambda d: d["data"].pop("checksum"), "field data.checksum is missing"),
        (lambda d: d.update(extra=1), "unknown field extra"),
        (lambda d: d["training"].update(steps="600"), "training.steps should be int, found '600'"),
        (lambda d: d["training"].update(steps=True), "training.steps should be int, found True"),
        (lambda d: d["classes"].__setitem__(1, 7), r"classes\[1\] should be str, found 7"),
        (lambda d: d.update(protocol=None), "protocol should be an object, found None"),
        (lambda d: d.update(schema=99), "schema is 99, this version reads 1 and 2"),
        (lambda d: d["counts"]["confusion"].pop(), r"counts.confusion has shape \(2, 3\)"),
        (lambda d: d["counts"]["boundary"][0].pop(), "counts.boundary has shape ragged"),
        (lambda d: d["metrics"].update(mean_iou=0.99), r"metrics.mean_iou is 0.99, but .* give 0"),
        (lambda d: d["counts"]["confusion"][0].__setitem__(0, 1), "metrics.mean_iou is 0"),
        (lambda d: d.pop("metrics"), "metrics.mean_iou is None"),
        (lambda d: d["counts"].update(images=4), "counts.images is 4, but data.images 3"),
    ],
)
def test_a_wrong_record_names_file_and_field(path, change, message):
    edit(path, change)
    with pytest.raises(UserError, match=message) as caught:
        results.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_what_is_no_record_names_the_file(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(UserError, match=r"r\.json"):
        results.load(tmp_path / "r.json")


def test_missing_files_and_runs_without_a_record(tmp_path):
    with pytest.raises(UserError, match=r"none\.json: cannot be read"):
        results.load(tmp_path / "none.json")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"run: no result\.json.*seg_jax evaluate"):
        results.load_records([tmp_path / "run"])


def test_records_are_found_in_files_runs_and_folders_of_either(tmp_path):
    for name in ("b", "a"):
        small_run(tmp_path / "runs" / name, name)
    (tmp_path / "runs" / "unfinished").mkdir()
    results.save(small_record("c"), tmp_path / "c.json")
    found = results.load_records([tmp_path / "runs", tmp_path / "c.json", tmp_path / "runs" / "b"])
    assert [item.experiment for item in found] == ["a", "b", "c", "b"]
    assert results.load_records([]) == []


def test_a_failed_write_leaves_the_old_record(path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        results.save(small_record("other"), path)
    assert results.load(path).experiment == "small"


def test_counts_are_exact_beyond_float(tmp_path):
    counts = made_up_scores()
    large = counts.confusion.copy()
    large[0, 0] = 2**53 + 1
    results.save(
        small_record(scores=dataclasses.replace(counts, confusion=large)), tmp_path / "r.json"
    )
    assert results.load(tmp_path / "r.json").scores.confusion[0, 0] == 2**53 + 1
    assert isinstance(results.load(tmp_path / "r.json").scores, Scores)
