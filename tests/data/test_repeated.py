"""Images of hard classes come twice in an epoch, and nothing else changes."""

import collections
import pickle

import numpy as np
import pytest

from seg_jax import data
from seg_jax.checks import UserError
from seg_jax.data import pipeline
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import TORCH
from seg_jax.data.repeated import repeat


def ids_by_class(source, classes):
    """By reading every mask's pixels one by one."""
    return [
        index
        for index in range(len(source))
        if any(int(value) in classes for value in source[index]["label"].ravel())
    ]


@pytest.fixture
def source(tiny_voc):
    return data.open_source("synthetic_voc", tiny_voc, "train")


def some_classes(source):
    """Classes that some images hold, and some do not."""
    present = collections.Counter(
        int(value) for index in range(len(source)) for value in np.unique(source[index]["label"])
    )
    return tuple(v for v, n in present.items() if v not in (0, 255) and n < len(source) // 2)[:2]


def test_images_with_the_classes_are_there_twice(source):
    classes = some_classes(source)
    hard = ids_by_class(source, classes)
    assert 0 < len(hard) < len(source)
    found = pickle.loads(pickle.dumps(repeat(source, classes, progress=False)))
    counts = collections.Counter(found[index]["id"] for index in range(len(found)))
    assert counts == {name: 1 + (i in hard) for i, name in enumerate(source.ids)}
    assert repeat(source, ()) is source


def test_an_epoch_draws_them_twice(source):
    classes = some_classes(source)
    hard = ids_by_class(source, classes)
    config = DataConfig(
        dataset="synthetic_voc",
        augmentation=Augmentation(crop=(128, 128), flip=0.0),
        preprocessing=TORCH,
        repeat_classes=classes,
    )
    batches = pipeline.train_dataset(source, config, batch_size=1, seed=0)
    drawn = [next(batches)["label"][0] for _ in range(len(source) + len(hard))]
    batches.close()
    for index in range(len(source)):
        label = source[index]["label"]
        padded = np.full((128, 128), 255, np.uint8)
        padded[: label.shape[0], : label.shape[1]] = label
        times = sum(np.array_equal(padded, other) for other in drawn)
        assert times == 1 + (index in hard)


def test_an_unknown_class_is_refused(source):
    with pytest.raises(UserError, match=r"repeat_classes \[21\]: class ids .* 0..7"):
        repeat(source, (2, 21))
