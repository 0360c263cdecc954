"""The sentences below a suite's table hold for the numbers that they stand under."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage
from small_record import small_record

from seg_jax import config, data, experiment, metrics, results
from seg_jax.data.synthetic import dataset
from seg_jax.evaluation import run as evaluation
from seg_jax.metrics import bootstrap, coarse
from seg_jax.reproduce import remarks
from seg_jax.reproduce.plan import Run
from seg_jax.results import image_counts

FCN32S, FCN16S = "fcn32s_resnet14_synthetic", "fcn16s_resnet14_synthetic"
V3PLUS = "deeplab_v3plus_resnet14_synthetic"
BUS, TRAIN = map(dataset.CLASSES.index, dataset.TWINS)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn") / "synthetic_voc"
    dataset.write(root, train=1, val=8)
    return data.open_source("synthetic_voc", root, "val")


def finished(source, folder, name, predict, *, pretraining="none"):
    """A run with the record of predictions that `predict` makes of each label."""
    chosen = experiment.get(name)
    where = dataclasses.replace(chosen.data, root=source.root.parent)
    chosen = dataclasses.replace(chosen, data=where)
    sums, per_image = metrics.Scores.zero(len(source.classes), (1, 2)), []
    for index in range(len(source)):
        label = np.array(source.label(index))
        found = metrics.of_image(label, predict(label), source.classes, (1, 2))
        per_image.append(bootstrap.image_counts(found.confusion))
        sums += found
    record = small_record(name, scores=sums)
    record = dataclasses.replace(
        record,
        family=chosen.family,
        classes=source.classes,
        config=config.to_dict(chosen),
        data=evaluation.describe(source),
        training=dataclasses.replace(record.training, pretraining=pretraining),
    )
    run = Run(chosen, folder / name, True)
    run.folder.mkdir(parents=True)
    results.save(record, run.record)
    counts = image_counts.ImageCounts(tuple(source.ids), np.array(per_image))
    image_counts.save(counts, record.classes, image_counts.path_of(run.record))
    return run


def blurred(label):
    return coarse.at_stride(label, 32, len(dataset.CLASSES))


def all_buses(label):
    """The truth, but for trains, which are called buses, and edges, which are worn off."""
    found = np.where(label == TRAIN, BUS, label % 255)
    return np.where(ndimage.binary_erosion(found > 0), found, 0).astype(np.uint8)


def right(label):
    return (label % 255).astype(np.uint8)


def test_sentences_name_the_best_the_worst_and_what_each_step_gained(source, tmp_path):
    runs = [
        finished(source, tmp_path, FCN32S, blurred),
        finished(source, tmp_path, FCN16S, all_buses, pretraining=FCN32S),
        finished(source, tmp_path, V3PLUS, right),
    ]
    text = "\n".join(remarks.remarks(runs))
    scores = [results.load(run.record).metrics for run in runs]
    iou = [f"{100 * one['mean_iou']:.1f}" for one in scores]
    assert f"DeepLab v3+ has the highest mIoU, 100.0, and FCN-32s the lowest, {iou[0]}." in text
    f1, last = min((scores[0]["boundary_f1"], "FCN-32s"), (scores[1]["boundary_f1"], "FCN-16s"))
    best = f"DeepLab v3+, {100 * scores[2]['boundary_f1']:.1f}"
    assert f"met: {best}; last {last}, {100 * f1:.1f}." in text
    assert f"FCN-16s goes on from FCN-32s: mIoU {iou[0]} to {iou[1]}, most in " in text
    # FCN-32s' predictions are the truth at stride 32: what the sentence measures by itself.
    assert f"{iou[0]} at stride 32. With one score every 32 px: FCN-32s {iou[0]}." in text
    assert "FCN-16s from FCN-32s (600 steps). From random weights: FCN-32s, DeepLab v3+." in text


def test_twins_are_scored_by_the_pixels_given_to_either(source, tmp_path):
    runs = [
        finished(source, tmp_path, FCN16S, all_buses),
        finished(source, tmp_path, V3PLUS, right),
    ]
    labels = [np.array(source.label(index)) for index in range(len(source))]
    given = [(label, all_buses(label)) for label in labels]
    kept = [(label[found == BUS], found[found == BUS]) for label, found in given]
    buses = sum(int((label == BUS).sum()) for label, _ in kept)
    trains = sum(int((label == TRAIN).sum()) for label, _ in kept)
    text = "\n".join(remarks.remarks(runs))
    assert "DeepLab v3+ gives 100.0 % to the right one" in text
    assert f"FCN-16s {100 * buses / (buses + trains):.1f} %; guessing gives 50" in text


def test_there_is_nothing_to_say_of_one_run_or_of_different_images(source, tmp_path):
    first = finished(source, tmp_path, FCN32S, right)
    assert remarks.remarks([first]) == []
    second = finished(source, tmp_path, FCN16S, right)
    other = results.load(second.record)
    elsewhere = dataclasses.replace(other.data, checksum="0" * 64)
    results.save(dataclasses.replace(other, data=elsewhere), second.record)
    assert remarks.remarks([first, second]) == []
