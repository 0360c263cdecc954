"""The evaluation of a split against a slow loop over images at their own size."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest
from small_task import TRACES, MemorySource, SmallNet, small_experiment, small_variables

from seg_jax import metrics
from seg_jax.checks import UserError
from seg_jax.evaluation import evaluate
from seg_jax.inference import forward
from seg_jax.nn import input_sizes, upsampled
from seg_jax.nn.resize import resize_half_pixel
from seg_jax.types import IGNORE

SIZES = ((20, 31), (16, 16), (9, 40), (33, 16), (31, 17), (16, 15), (20, 32))
IMAGE_BY_IMAGE = ("trimap", "boundary", "image_iou", "objects", "membranes")
VALID = SmallNet(padding="VALID", kernel=5)


def slow_scores(experiment, variables, source):
    """One image at a time, at its own size, counted pixel by pixel."""
    k, bands = len(source.classes), experiment.evaluation.trimap_px
    sums = metrics.Scores.zero(k, bands)
    margin = experiment.model.margin
    for index in range(len(source)):
        example = source[index]
        image = np.pad(example["image"], ((margin,) * 2, (margin,) * 2, (0, 0)), mode="reflect")
        x = experiment.data.preprocessing(image)[None]
        logits = experiment.model.apply(variables, x, train=False)["out"]
        label, prediction = example["label"], np.asarray(logits)[0].argmax(-1)
        for pixel in np.argwhere(label != IGNORE):
            sums.confusion[label[tuple(pixel)], prediction[tuple(pixel)]] += 1
        image = metrics.of_image(label, prediction, source.classes, bands)
        for name in IMAGE_BY_IMAGE:
            getattr(sums, name)[...] += getattr(image, name)
    return dataclasses.replace(sums, images=len(source))


def assert_same(found, expected):
    np.testing.assert_array_equal(found.confusion, expected.confusion)
    for name in IMAGE_BY_IMAGE:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
    assert found.images == expected.images
    assert (
        len({*np.diag(found.confusion), 0}) > 2
    )  # several classes are predicted: a real comparison


@pytest.fixture(params=["whole", "tile"])
def task(request):
    if request.param == "whole":
        experiment = small_experiment(batch_size=3)
    else:
        experiment = small_experiment(VALID, mode="tile", canvas=(14, 20), batch_size=3)
    return experiment, small_variables(experiment.model, seed=1), MemorySource(SIZES)


def test_equals_the_slow_loop_on_four_devices_and_on_one(task, monkeypatch):
    expected = slow_scores(*task)
    assert len(jax.local_devices()) == 4
    assert_same(evaluate.evaluate(*task, progress=False), expected)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    assert_same(evaluate.evaluate(*task, progress=False), expected)


def test_any_batch_size_gives_the_same_sums(task):
    experiment, variables, source = task
    larger = dataclasses.replace(
        experiment, evaluation=dataclasses.replace(experiment.evaluation, batch_size=8)
    )
    assert_same(
        evaluate.evaluate(larger, variables, source, progress=False),
        evaluate.evaluate(experiment, variables, source, progress=False),
    )


def test_the_order_of_images_does_not_matter(task):
    experiment, variables, source = task

    class Backwards(MemorySource):
        def __getitem__(self, index):
            return source[len(source) - 1 - index]

    assert_same(
        evaluate.evaluate(experiment, variables, Backwards(SIZES[::-1]), progress=False),
        evaluate.evaluate(experiment, variables, source, progress=False),
    )


def test_hundreds_of_sizes_compile_once_a_bucket(rng):
    sizes = tuple(map(tuple, rng.integers(1, 65, (60, 2)).tolist()))
    assert len(set(sizes)) > 50
    # Another network than in other tests: one that is already compiled would not be traced.
    experiment = small_experiment(SmallNet(kernel=1), bucket=32, batch_size=4)
    variables = small_variables(experiment.model)
    TRACES.clear()
    scores = evaluate.evaluate(
        experiment, variables, MemorySource(sizes), boundaries=False, progress=False
    )
    assert scores.images == 60
    assert sorted(TRACES) == [(4, h, w, 3) for h in (32, 64) for w in (32, 64)]


def test_without_boundaries_only_regions_are_counted(task):
    experiment, variables, source = task
    full = evaluate.evaluate(*task, progress=False)
    scores = evaluate.evaluate(experiment, variables, source, boundaries=False, progress=False)
    np.testing.assert_array_equal(scores.confusion, full.confusion)
    assert np.isnan(scores.boundary_f1)
    assert np.isnan(scores.trimap_iou).all()
    assert scores.images == len(source)


@pytest.mark.parametrize("boundaries", [True, False])
def test_on_image_is_called_once_for_each_image(task, boundaries):
    experiment, variables, source = task
    seen = {}
    evaluate.evaluate(
        experiment,
        variables,
        source,
        boundaries=boundaries,
        on_image=lambda index, prediction: seen.update({index: prediction}),
        progress=False,
    )
    assert sorted(seen) == list(range(len(source)))
    for index, prediction in seen.items():
        image = source[index]["image"]
        expected = forward.predict_labels(experiment, variables, image)
        np.testing.assert_array_equal(prediction, expected)


def test_the_score_during_training_is_that_of_the_validation_split(monkeypatch):
    experiment = small_experiment()
    variables, source = small_variables(experiment.model), MemorySource(SIZES)
    opened = []
    monkeypatch.setattr(
        evaluate.data, "open_source", lambda *which, **_: opened.append(which) or source
    )
    found = evaluate.intermediate(experiment, variables, 7)
    scores = evaluate.evaluate(experiment, variables, source, progress=False)
    assert opened == [("memory", None, "val")]
    names = ("mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "mean_dice")
    by_class = dict(zip(source.classes, scores.per_class_iou.tolist(), strict=True))
    expected = {name: getattr(scores, name) for name in names}
    assert found == {**expected, "per_class_iou": by_class}
    train = dataclasses.replace(experiment.train, evaluate_split="holdout")
    evaluate.intermediate(dataclasses.replace(experiment, train=train), variables, 7)
    assert opened[-1] == ("memory", None, "holdout")


class CoarseNet(nn.Module):
    """A convolution of stride 4, upsampled."""

    num_classes: int = 3
    margin: int = 0

    @nn.compact
    def __call__(self, image, *, train):
        x = nn.Conv(self.num_classes, (5, 5), 4, name="score")(image)
        return {"out": upsampled.upsample(resize_half_pixel, x, image.shape[1:3])}


class CoarseOnGrid(CoarseNet):
    """Takes sides 12 k + 1 only."""

    def legal_sizes(self, side):
        return input_sizes.nearest_sides(side, step=12, rest=1)

    def __call__(self, image, *, train):
        input_sizes.check_sides(image, self.legal_sizes)
        return super().__call__(image, train=train)


@pytest.mark.parametrize("network", [CoarseNet(), CoarseOnGrid()])
def test_labels_in_strips_give_the_same_scores(network):
    experiment = small_experiment(network, batch_size=3)
    image = np.zeros((1, 13, 13, 3), np.float32)
    variables = experiment.model.init(jax.random.key(0), image, train=False)
    source = MemorySource(SIZES[:3])
    strips = experiment.with_evaluation(logits="strips")
    seen = {}
    options: Any = {"boundaries": False, "progress": False}
    found = evaluate.evaluate(
        strips, variables, source, on_image=lambda index, labels: seen.update({index: labels}),
        **options,
    )  # fmt: skip
    assert_same(found, evaluate.evaluate(experiment, variables, source, **options))
    for index, labels in seen.items():
        image = source[index]["image"]
        np.testing.assert_array_equal(labels, forward.predict_labels(experiment, variables, image))
    np.testing.assert_array_equal(forward.predict_labels(strips, variables, image), seen[2])
    with pytest.raises(UserError, match="scores 3 classes, the data set has 4"):
        evaluate.evaluate(strips, variables, MemorySource(SIZES[:1], tuple("abcd")), **options)
    plain = small_experiment().with_evaluation(logits="strips")
    with pytest.raises(UserError, match="evaluation.logits strips: .* end with other layers"):
        evaluate.evaluate(plain, small_variables(plain.model), source, **options)


class Spoiled(MemorySource):
    """A source whose second image is spoiled."""

    def __init__(self, spoil):
        super().__init__(SIZES)
        self.spoil = spoil

    def __getitem__(self, index):
        example = super().__getitem__(index)
        return self.spoil(example) if index == 1 else example


def test_a_label_value_out_of_range_names_the_image():
    source = Spoiled(lambda e: {**e, "label": np.where(e["label"] == 2, 150, e["label"])})
    experiment = small_experiment()
    with pytest.raises(UserError, match=r"image1: .*\[150\].*0\.\.2 or 255"):
        evaluate.evaluate(experiment, small_variables(experiment.model), source, progress=False)


def test_a_label_of_another_size_names_the_image():
    source = Spoiled(lambda e: {**e, "label": e["label"][:-1]})
    experiment = small_experiment()
    with pytest.raises(UserError, match=r"image1: image \(16, 16\), label \(15, 16\)"):
        evaluate.evaluate(experiment, small_variables(experiment.model), source, progress=False)


def test_a_model_of_other_classes_is_refused():
    experiment = small_experiment(SmallNet(num_classes=2))
    with pytest.raises(UserError, match="scores 2 classes, the data set has 3"):
        evaluate.evaluate(
            experiment, small_variables(experiment.model), MemorySource(SIZES), progress=False
        )


def test_an_empty_split_is_refused():
    experiment = small_experiment()
    with pytest.raises(UserError, match="no images"):
        evaluate.evaluate(experiment, small_variables(experiment.model), MemorySource(()))


PROCESS = """
import json, sys
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from small_task import MemorySource, small_experiment, small_variables
from seg_jax.evaluation import evaluate
experiment = small_experiment(batch_size=2)
source = MemorySource({sizes})
variables = small_variables(experiment.model, seed=1)
scores = evaluate.evaluate(experiment, variables, source, progress=False)
print(json.dumps([scores.confusion.tolist(), scores.trimap.tolist(), scores.boundary.tolist(),
                  scores.objects.tolist(), scores.images]))
"""


def test_two_processes_sum_to_one(unused_tcp_address):
    tests = Path(__file__).parents[1]
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": f"{tests}:{tests.parent}",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS.format(sizes=SIZES), unused_tcp_address, str(rank)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    results = [json.loads(output.splitlines()[-1]) for output in outputs]  # after gloo's lines
    experiment = small_experiment(batch_size=2)
    scores = slow_scores(experiment, small_variables(experiment.model, seed=1), MemorySource(SIZES))
    expected = [
        scores.confusion.tolist(),
        scores.trimap.tolist(),
        scores.boundary.tolist(),
        scores.objects.tolist(),
        scores.images,
    ]
    assert results == [expected, expected]


@pytest.fixture
def unused_tcp_address():
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{server.getsockname()[1]}"
