"""A run is scored from its checkpoint; record and images land in its folder."""

import dataclasses
import errno
import json
import os

import numpy as np
import pytest
from PIL import Image
from small_task import CLASSES, MemorySource, small_experiment, small_variables

from seg_jax import config, data, metrics, results
from seg_jax.checks import UserError
from seg_jax.cli.predict import predict_with
from seg_jax.evaluation import evaluate, example_images, run
from seg_jax.inference import forward, protocols
from seg_jax.metrics import bootstrap
from seg_jax.papers import Protocol
from seg_jax.results import image_counts
from seg_jax.runs import folder as run_folder

EXPERIMENT = dataclasses.replace(small_experiment(canvas=(32, 48)), name="small_memory")
VARIABLES = small_variables(EXPERIMENT.model)
SPLITS = {
    "val": MemorySource(((20, 31), (16, 16), (31, 40)) * 4),
    "train": MemorySource(((20, 31),) * 5, split="train", seed=1),
}


@pytest.fixture
def opened():
    """(data set, root, split) of every source that was opened; `outside` where that was allowed."""
    return []


@pytest.fixture
def folder(tmp_path, monkeypatch, opened):
    """A run folder whose checkpoint and data set are in memory."""

    def open_source(dataset, root, split, *, allow_outside):
        opened.append((dataset, root, split) + (("outside",) if allow_outside else ()))
        if split not in SPLITS:
            raise UserError(f"split {split!r}: none")
        return SPLITS[split]

    monkeypatch.setattr(data, "open_source", open_source)
    monkeypatch.setattr(
        run.checkpoints, "restore_variables", lambda path, which: (EXPERIMENT, VARIABLES, 600)
    )
    path = tmp_path / "runs" / "mine"
    path.mkdir(parents=True)
    log = {"kind": "train", "step": 600, "loss": 0.5, "seconds": 83.0}
    (path / "metrics.jsonl").write_text(json.dumps(log) + "\n")
    return path


def test_a_stored_run_may_not_allow_files_outside_the_data_set(folder, opened):
    """A stranger's run could bring a list that leads to one's own images."""
    where = dataclasses.replace(EXPERIMENT.data, allow_outside=True)
    permitting = dataclasses.replace(EXPERIMENT, data=where)
    run_folder.write_config(folder, permitting)
    stored, _ = run_folder.read_config(folder)
    assert stored == EXPERIMENT
    run.evaluate_run(folder, experiment=stored, progress=False)
    assert {each[3:] for each in opened} == {()}
    opened.clear()
    run.evaluate_run(folder, experiment=permitting, progress=False)  # as the user's own option does
    assert {each[3:] for each in opened} == {("outside",)}
    assert (folder / "result.json").is_file()  # the same evaluation, not another protocol's


def test_the_record_says_what_was_measured_on_what_and_how(folder):
    found = run.evaluate_run(folder, command="python -m seg_jax evaluate x", progress=False)
    assert results.load(folder) == found
    scores = evaluate.evaluate(EXPERIMENT, VARIABLES, SPLITS["val"], progress=False)
    np.testing.assert_array_equal(found.scores.confusion, scores.confusion)
    images = image_counts.load(folder / "result_images.csv", found)  # checks the sums
    assert images.ids == SPLITS["val"].ids
    first = SPLITS["val"][0]["label"]
    true = [(first == kind).sum() for kind in range(len(CLASSES))]
    assert images.counts[0, 0].tolist() == true
    assert found.metrics["boundary_f1"] == scores.boundary_f1
    assert (found.experiment, found.run, found.classes) == ("small_memory", "mine", CLASSES)
    assert found.digest == config.digest(EXPERIMENT)
    assert config.digest(config.from_dict(found.config)) == found.digest
    assert (found.data.name, found.data.split, found.data.images) == ("memory", "val", 12)
    assert found.cutting == "single: whole image, padded to 32x48 px"
    assert found.training == results.Training(
        data=results.Split("memory", "train", 5, "memory train: 5 images", "0" * 64),
        pretraining="none",
        steps=600,
        batch_size=4,
        crop=(16, 16),
        seed=0,
        seconds=83.0,
        parameters=3 * 3 * 3 * 4 + 4 + 4 * 3 + 3,
    )
    assert found.command == "python -m seg_jax evaluate x"
    assert found.evaluation_seconds > 0


def test_images_are_the_model_s_predictions_spread_over_the_split(folder):
    run.evaluate_run(folder, progress=False)
    files = sorted(path.name for path in (folder / "predictions").iterdir())
    names = [f"image{index}" for index in range(12)]  # eight spread evenly, and four others
    kinds = ("input.jpg", "prediction.png", "truth.png")
    assert files == sorted(f"{name}.{kind}" for name in names for kind in kinds)
    for index in (0, 11):
        example = SPLITS["val"][index]
        expected = forward.predict_labels(EXPERIMENT, VARIABLES, example["image"])
        with Image.open(folder / "predictions" / f"image{index}.prediction.png") as file:
            np.testing.assert_array_equal(np.array(file), expected)
        with Image.open(folder / "predictions" / f"image{index}.truth.png") as file:
            np.testing.assert_array_equal(np.array(file), example["label"])


@pytest.mark.parametrize("number", [0, 6])
def test_the_worst_images_are_kept_beside_those_spread_over_the_split(tmp_path, number):
    source = MemorySource(((12, 16),) * 40)
    counts = np.zeros((40, 3, len(source.classes)), np.int64)
    images = example_images.ExampleImages(tmp_path / "predictions", source, counts, worst=number)
    spread = set(np.linspace(0, 39, 8).astype(int).tolist())
    worst = [1, 17, 30, 38, 2, 9][: number or 4]
    assert not spread & {*worst}
    for index in range(40):
        label = source[index]["label"]
        given = np.minimum(label, 2) if index not in worst else np.full_like(label, 2)
        confusion = metrics.confusion_on_host(label, given, len(source.classes))
        counts[index] = bootstrap.image_counts(confusion)
        images.keep(index, given)
    images.publish()
    images.close()
    found = {int(p.name[5:].partition(".")[0]) for p in (tmp_path / "predictions").iterdir()}
    assert found == spread | {*worst}


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.glob("predictions/*")}


@pytest.mark.parametrize(
    ("code", "read_only"), [(errno.ENOSPC, False), (errno.EROFS, True), (errno.EACCES, True)]
)
def test_a_disk_that_cannot_be_written_costs_no_figures_and_no_earlier_images(
    folder, monkeypatch, code, read_only
):
    before = run.evaluate_run(folder, progress=False)
    images = snapshot(folder)

    def full(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(example_images.Image.Image, "save", full)
    with pytest.raises(run.NotWritten, match="predictions: not written") as stopped:
        run.evaluate_run(folder, progress=False)
    assert stopped.value.record.counts == before.counts
    assert stopped.value.read_only is read_only
    assert snapshot(folder) == images
    monkeypatch.setattr(run.files, "save", full)
    with pytest.raises(run.NotWritten, match="result.json: not written"):
        run.evaluate_run(folder, progress=False)
    assert not [path for path in folder.iterdir() if path.name.endswith(".part")]


def test_an_evaluation_that_fails_leaves_the_earlier_images(folder, monkeypatch):
    run.evaluate_run(folder, progress=False)
    images = snapshot(folder)
    monkeypatch.setattr(
        run.evaluate, "evaluate", lambda *_, **__: (_ for _ in ()).throw(UserError("a bad label"))
    )
    with pytest.raises(UserError, match="a bad label"):
        run.evaluate_run(folder, progress=False)
    assert snapshot(folder) == images and len(images) == 36


def test_nothing_is_deleted_that_the_run_did_not_write(folder, tmp_path):
    (folder / "predictions").mkdir()
    (folder / "predictions" / "notes.txt").write_text("mine")
    run.evaluate_run(folder, progress=False)
    assert (folder / "predictions" / "notes.txt").read_text() == "mine"
    outside = tmp_path / "outside"
    (folder / "predictions").rename(outside)
    (folder / "predictions").symlink_to(outside)
    count = len(list(outside.iterdir()))
    with pytest.raises(UserError, match="predictions is a link to .*outside"):
        run.evaluate_run(folder, progress=False)
    assert len(list(outside.iterdir())) == count == 37


def test_images_of_an_earlier_evaluation_go(folder):
    example_images.write_images(folder / "predictions", SPLITS["val"], 2, SPLITS["val"][2]["label"])
    for path in (folder / "predictions").iterdir():
        path.rename(path.with_name(path.name.replace("image2", "former")))
    run.evaluate_run(folder, progress=False)
    assert not list((folder / "predictions").glob("former.*"))


def test_another_split_never_stands_in_for_the_validation_split(folder):
    run.evaluate_run(folder, split="train", progress=False)
    written = {path.name for path in folder.iterdir()}
    assert written == {"metrics.jsonl", "result_train.json", "result_train_images.csv"}
    assert results.load(folder / "result_train.json").data.split == "train"
    with pytest.raises(UserError, match=r"no result\.json"):
        results.load(folder)


def test_another_protocol_has_a_record_of_its_own(folder):
    evaluation = protocols.apply("scales_flip", EXPERIMENT.evaluation)
    changed = dataclasses.replace(EXPERIMENT, evaluation=evaluation)
    found = run.evaluate_run(folder, experiment=changed, progress=False)
    [path] = folder.glob("result*.json")
    assert path.name == f"result_scales_flip_{config.digest(changed)[:6]}.json"
    assert results.load(path) == found
    assert found.protocol == Protocol(scales=protocols.SIX_SCALES, flip=True)
    assert found.cutting == (
        "scales_flip: whole image, padded to 32x48 px, scales 0.5 0.75 1 1.25 1.5 1.75, "
        "mirror images, mean of the probabilities"
    )


def test_data_may_lie_elsewhere_and_training_images_may_be_gone(
    folder, opened, monkeypatch, tmp_path
):
    monkeypatch.delitem(SPLITS, "train")
    found = run.evaluate_run(folder, root=tmp_path, progress=False)
    assert found.training.data is None
    assert opened[0] == ("memory", tmp_path, "val")
    assert results.load(folder).training.data is None


def test_a_run_predicts_with_its_data_set_s_names_or_without(folder, tmp_path, monkeypatch, rng):
    image = tmp_path / "photo.png"
    Image.fromarray(rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)).save(image)
    run_folder.write_config(folder, EXPERIMENT)
    assert not predict_with(folder, [image], tmp_path / "out", progress=False).failures
    monkeypatch.delitem(SPLITS, "val")  # the data set is not on this machine
    assert not predict_with(folder, [image], tmp_path / "bare", progress=False).failures
    with (
        Image.open(tmp_path / "out" / "photo.png") as first,
        Image.open(tmp_path / "bare" / "photo.png") as second,
    ):
        np.testing.assert_array_equal(np.array(first), np.array(second))
        assert first.getpalette()[3:6] == [128, 0, 0]  # the data set's
        assert second.getpalette()[:3] == [230, 159, 0]  # classes without names
