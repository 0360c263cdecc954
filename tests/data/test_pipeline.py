"""Batches are a function of the seed and their number, whoever makes them."""

import collections
import dataclasses
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from seg_jax import data
from seg_jax.checks import UserError
from seg_jax.data import pipeline
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import TORCH

PLAIN = Augmentation(crop=(4, 4), flip=0.0)
BLACK = dataclasses.replace(TORCH, padding="black")
LIVELY = Augmentation(crop=(48, 48), scale=(0.5, 1.5))


def config(augmentation=LIVELY, **changes):
    return DataConfig("synthetic_voc", augmentation, TORCH, **changes)


class Numbered:
    """A source whose image number i has the value i everywhere."""

    description = "numbered"

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {
            "id": str(index),
            "image": np.full((4, 4, 3), index, np.uint8),
            "label": np.full((4, 4), index % 2, np.uint8),
        }


def numbers(count, *, batches, batch_size, seed=0, **share):
    """Which image stands in each row of the first batches: int [batches rows]."""
    iterator = pipeline.train_dataset(
        Numbered(count), config(PLAIN), batch_size=batch_size, seed=seed, **share
    )
    rows = [batch["image"][:, 0, 0, 0] for batch in itertools.islice(iterator, batches)]
    iterator.close()
    return np.array(rows, int)


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for key in left:
        assert left[key].dtype == right[key].dtype
        np.testing.assert_array_equal(left[key], right[key])


@pytest.fixture
def source(tiny_voc):
    return data.open_source("synthetic_voc", tiny_voc, "train")


def test_batches_have_the_contracts_shapes_and_types(source):
    settings = config(weight_map="unet_border")
    iterator = pipeline.train_dataset(source, settings, batch_size=3, seed=0)
    batch = next(iterator)
    iterator.close()
    assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
        "image": ((3, 48, 48, 3), np.uint8),
        "label": ((3, 48, 48), np.uint8),
        "weight": ((3, 48, 48), np.float32),
    }
    assert set(np.unique(batch["label"])) <= {*range(8), 255}


def test_a_batch_is_its_examples_whether_or_not_they_are_written_in_place(source):
    """Some of these are blurred, which the compiled loops leave to NumPy."""
    for augmentation in (LIVELY, dataclasses.replace(LIVELY, blur=0.5)):
        make = pipeline.MakeBatch(
            source, config(augmentation, weight_map="unet_border"), 7, 6, slice(1, 6)
        )
        expected = [make._example(draw) for draw in range(13, 18)]
        found = make(2)
        assert list(found) == ["image", "label", "weight"]
        assert_equal(found, {key: np.stack([one[key] for one in expected]) for key in found})


def test_crops_beyond_the_image_are_black_where_the_recipe_says_so():
    """torchvision pads with 0 before it normalises (references/segmentation, pad_if_smaller)."""
    settings = config(Augmentation(crop=(6, 7), flip=0.0))
    for preprocessing, expected in ((TORCH, (124, 116, 104)), (BLACK, (0, 0, 0))):
        own = dataclasses.replace(settings, preprocessing=preprocessing)
        iterator = pipeline.train_dataset(Numbered(1), own, batch_size=1, seed=0)
        batch = next(iterator)
        iterator.close()
        outside = batch["label"][0] == 255
        assert outside.sum() == 6 * 7 - 4 * 4
        assert (batch["image"][0][outside] == expected).all()


def test_every_epoch_is_a_new_permutation_and_batches_span_epochs():
    order = numbers(10, batches=15, batch_size=4).ravel().reshape(6, 10)
    for epoch in order:
        assert sorted(epoch) == list(range(10))
    assert len({tuple(epoch) for epoch in order}) == 6


def test_neighbouring_seeds_share_no_epoch():
    epochs = [
        tuple(epoch)
        for seed in range(4)
        for epoch in numbers(12, batches=4, batch_size=12, seed=seed)
    ]
    assert len(set(epochs)) == 16


def test_every_place_in_the_order_is_reached_evenly():
    order = numbers(6, batches=600, batch_size=6)
    counts = np.stack([np.bincount(order[:, place], minlength=6) for place in range(6)])
    chi_square = ((counts - 100) ** 2 / 100).sum(1)
    assert (chi_square < 20.5).all()  # 99.9 % quantile of chi-square with 5 degrees of freedom


def test_the_same_picture_is_changed_anew_in_every_epoch(source):
    one = dataclasses.replace(
        source, ids=source.ids[:1], image_paths=source.image_paths[:1],
        label_paths=source.label_paths[:1],
    )  # fmt: skip
    iterator = pipeline.train_dataset(one, config(), batch_size=1, seed=0)
    seen = {next(iterator)["image"].tobytes() for _ in range(6)}
    iterator.close()
    assert len(seen) == 6


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_hold_the_rows_of_one_global_batch(source, processes):
    def batches(**share):
        iterator = pipeline.train_dataset(source, config(), batch_size=6, seed=5, **share)
        result = list(itertools.islice(iterator, 4))
        iterator.close()
        return result

    parts = [batches(process_index=index, process_count=processes) for index in range(processes)]
    for number, whole in enumerate(batches()):
        joined = {key: np.concatenate([part[number][key] for part in parts]) for key in whole}
        assert_equal(joined, whole)


def test_state_restores_exactly_and_is_small(source):
    iterator = pipeline.train_dataset(source, config(), batch_size=4, seed=1)
    for _ in range(3):
        next(iterator)
    text = json.dumps(iterator.get_state())
    assert len(text) < 100
    expected = [next(iterator) for _ in range(3)]
    iterator.set_state(json.loads(text))  # back, in the same iterator
    assert_equal(next(iterator), expected[0])
    iterator.close()

    fresh = pipeline.train_dataset(source, config(), batch_size=4, seed=1)
    fresh.set_state(json.loads(text))
    for batch in expected:
        assert_equal(next(fresh), batch)
    assert fresh.get_state() == {"next_batch": 6}
    fresh.close()


@pytest.mark.slow
def test_worker_processes_make_the_same_batches_restore_and_name_bad_files(source):
    alone = pipeline.train_dataset(source, config(), batch_size=2, seed=2)
    expected = list(itertools.islice(alone, 5))
    alone.close()

    # One damaged file, drawn in the first epoch, i.e. in one of the first five batches.
    broken = dataclasses.replace(source, image_paths=(*source.image_paths[:9], "broken.jpg"))
    (broken.root / "broken.jpg").write_bytes(b"not an image")
    bad_batch = list(pipeline.epoch_order(2, 0, 10)).index(9) // 2
    assert bad_batch >= 2
    pooled = pipeline.train_dataset(broken, config(workers=2), batch_size=2, seed=2)
    pooled.set_state({"next_batch": 1})
    for number in range(1, bad_batch):
        assert_equal(next(pooled), expected[number])
    with pytest.raises(UserError, match=r"broken\.jpg: cannot be decoded"):
        next(pooled)
    pooled.close()
    (broken.root / "broken.jpg").unlink()


def test_threads_name_bad_files_too(source):
    broken = dataclasses.replace(source, image_paths=("JPEGImages/none.jpg",) * len(source))
    iterator = pipeline.train_dataset(broken, config(), batch_size=4, seed=2)
    with pytest.raises(UserError, match=r"none\.jpg: no such file"):
        next(iterator)
    iterator.close()


WORKER_SCRIPT = """
import multiprocessing, sys, time
from pathlib import Path
from seg_jax import data
from seg_jax.data import pipeline
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import TORCH

if __name__ == "__main__":
    source = data.open_source("synthetic_voc", Path(sys.argv[1]), "train")
    config = DataConfig("synthetic_voc", Augmentation((8, 8)), TORCH, workers=1)
    iterator = pipeline.train_dataset(source, config, batch_size=2, seed=0)
    next(iterator)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="asks /proc for processes")
def test_workers_do_not_outlive_a_killed_trainer(tiny_voc, tmp_path):
    script = tmp_path / "trainer.py"
    script.write_text(WORKER_SCRIPT)
    with subprocess.Popen(
        [sys.executable, script, tiny_voc], stdout=subprocess.PIPE, text=True
    ) as trainer:
        workers = [int(pid) for pid in trainer.stdout.readline().split()]
        assert workers
        for worker in workers:
            os.kill(worker, signal.SIGTERM)  # a scheduler's notice is the trainer's business
        time.sleep(0.3)
        assert all(os.path.isdir(f"/proc/{worker}") for worker in workers)
        trainer.kill()
    deadline = time.monotonic() + 10
    while any(os.path.isdir(f"/proc/{worker}") for worker in workers):
        assert time.monotonic() < deadline, "a worker lives on without its trainer"
        time.sleep(0.05)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="batch_size 5 is not a multiple of process_count 2"):
        pipeline.train_dataset(Numbered(3), config(PLAIN), batch_size=5, seed=0, process_count=2)
    with pytest.raises(UserError, match="numbered: there is nothing to train on"):
        pipeline.train_dataset(Numbered(0), config(PLAIN), batch_size=5, seed=0)


def test_what_travels_to_workers_is_small(source):
    assert len(pickle.dumps(source)) < 5000


@pytest.mark.slow
def test_throughput_on_real_photographs(test_data, capsys):
    source = data.open_source("voc2012", test_data / "data" / "VOCdevkit", "train")
    settings = config(Augmentation(crop=(321, 321), scale=(0.5, 1.5)))
    iterator = pipeline.train_dataset(source, settings, batch_size=8, seed=0)
    next(iterator)
    start = time.perf_counter()
    batches = list(itertools.islice(iterator, 10))
    elapsed = time.perf_counter() - start
    iterator.close()
    counts = collections.Counter(batch["image"].shape for batch in batches)
    assert counts == {(8, 321, 321, 3): 10}
    with capsys.disabled():
        print(f"\n{80 / elapsed:.0f} images/s (decode, scale, crop to 321, flip; threads)")
