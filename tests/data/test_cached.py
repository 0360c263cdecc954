"""Images kept in memory change no batch, are read once, and fit or are refused."""

import dataclasses
import itertools
import pickle
from collections import Counter

import numpy as np
import pytest

from seg_jax import data
from seg_jax.checks import UserError
from seg_jax.data import cached, pipeline, transforms
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import TORCH
from seg_jax.data.source import Source, Subset
from seg_jax.parallel import allocator
from seg_jax.runs import folder

PLAIN = DataConfig("synthetic_voc", Augmentation((48, 48), (0.5, 1.5)), TORCH)
CACHED = dataclasses.replace(PLAIN, cache=True)


@pytest.fixture
def source(tiny_voc):
    return data.open_source("synthetic_voc", tiny_voc, "train")


@pytest.fixture
def reads(monkeypatch):
    """How often each image was read."""
    counts, read = Counter(), Source.__getitem__

    def counted(self, index):
        counts[self.ids[index]] += 1
        return read(self, index)

    monkeypatch.setattr(Source, "__getitem__", counted)
    return counts


def batches(source, config, number):
    iterator = pipeline.train_dataset(source, config, batch_size=4, seed=3)
    found = list(itertools.islice(iterator, number))
    iterator.close()
    return found


def assert_equal(some, others):
    for one, other in zip(some, others, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_batches_are_the_same(source):
    present = np.unique(source.label(0))
    repeated = tuple(int(value) for value in present if 0 < value < 255)[:1]
    for changes in ({}, {"repeat_classes": repeated}):
        plain, kept = (dataclasses.replace(c, **changes) for c in (PLAIN, CACHED))
        assert_equal(batches(source, plain, 8), batches(source, kept, 8))


def test_an_image_is_read_once_also_where_the_list_repeats_it(source, reads):
    repeated = Subset(source, (*range(len(source)), 2, 5))
    make = pipeline.MakeBatch(
        cached.cached(repeated, processes=1), CACHED, 0, len(repeated), slice(None)
    )
    for epoch in range(3):
        make(epoch)
    assert reads == dict.fromkeys(source.ids, 1)


def test_a_worker_gets_no_pixels_and_makes_the_same_batches(source):
    make = pipeline.MakeBatch(cached.cached(source, processes=1), CACHED, 0, 4, slice(None))
    expected = [make(number) for number in range(4)]
    sent = pickle.dumps(make)
    assert len(sent) < 10_000
    assert_equal(expected, map(pickle.loads(sent), range(4)))


def test_a_transform_that_writes_into_its_image_spoils_nothing(source, monkeypatch):
    def dark(image, label, rng):
        image //= 2
        return image, label

    monkeypatch.setitem(transforms._TRANSFORMS._entries, "dark", dark)
    changed = dataclasses.replace(PLAIN.augmentation, extra=("dark",))
    plain, kept = (dataclasses.replace(c, augmentation=changed) for c in (PLAIN, CACHED))
    assert_equal(batches(source, plain, 8), batches(source, kept, 8))  # three epochs


def test_what_does_not_fit_is_refused_with_its_size(source, monkeypatch):
    pixels = sum(source[index]["label"].size for index in range(len(source)))
    for workers, copies in ((0, 1), (1, 1), (3, 3)):
        config = dataclasses.replace(CACHED, workers=workers)
        need = copies * pixels * 4  # three channels and the label, a byte each
        monkeypatch.setattr(allocator, "available_memory", lambda need=need: (2 * need - 1, 2**40))
        with pytest.raises(UserError, match=r"data\.cache: the 10 images of .* without --data\.c"):
            pipeline.train_dataset(source, config, batch_size=4, seed=0)
        monkeypatch.setattr(allocator, "available_memory", lambda need=need: (2 * need, 2**40))
        assert len(cached.cached(source, processes=copies)) == len(source)


def test_a_run_may_go_on_with_or_without_it():
    assert folder.identity(dataclasses.asdict(PLAIN)) != folder.identity(
        dataclasses.asdict(CACHED)
    ), "outside `data`, a field of this name counts"
    assert folder.identity({"data": dataclasses.asdict(PLAIN)}) == folder.identity(
        {"data": dataclasses.asdict(CACHED)}
    )
