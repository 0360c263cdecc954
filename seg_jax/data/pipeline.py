"""Training batches, shuffled, decoded and augmented by Grain, and exactly resumable.

The global order depends on the seed only. Batch b holds draws b * batch_size to
(b + 1) * batch_size - 1; draw d takes its image from the permutation of epoch d // len(source) and
its random numbers from (seed, d). So the numbers of workers and hosts change no pixel, an image is
augmented differently in every epoch, and the state of the iteration is one number.
"""

import dataclasses
import functools
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import cast

import grain
import numpy as np
from absl import flags

from seg_jax import checks
from seg_jax.data import transforms, weight_maps
from seg_jax.data.cached import Cached, cached
from seg_jax.data.config import DataConfig
from seg_jax.data.repeated import repeat
from seg_jax.data.source import Source, Subset
from seg_jax.types import Batch


def train_dataset(
    source: Source,
    config: DataConfig,
    *,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> "TrainIterator":
    """Return an endless iterator of this process's part of every global batch.

    Args:
      source: the training images.
      config: augmentation, padding, repeated and kept images, weight maps, worker processes.
      batch_size: of the global batch; a multiple of process_count.
      seed: of shuffling and augmentation.
      process_index: process p takes the p-th of process_count equal blocks of rows.
      process_count: number of processes that share the global batch.
    """
    checks.positive(batch_size=batch_size, process_count=process_count)
    if batch_size % process_count:
        raise ValueError(
            f"batch_size {batch_size} is not a multiple of process_count {process_count}"
        )
    if not len(source):
        raise checks.UserError(f"{source.description}: there is nothing to train on")
    for name in config.augmentation.extra:
        transforms.find(name)  # so that an unknown name is an error here, not in a worker process
    repeated = repeat(source, config.repeat_classes, progress=process_index == 0)
    if config.cache:
        repeated = cached(
            repeated, processes=max(1, config.workers), copy=bool(config.augmentation.extra)
        )
    share = batch_size // process_count
    rows = slice(process_index * share, (process_index + 1) * share)
    return TrainIterator(MakeBatch(repeated, config, seed, batch_size, rows), config.workers)


@dataclasses.dataclass(frozen=True, eq=False)
class MakeBatch:
    """Reads, augments and stacks `rows` of the global batches."""

    source: Source | Subset | Cached
    config: DataConfig
    seed: int
    batch_size: int
    rows: slice

    def __call__(self, batch: int) -> Batch:
        """Return the rows of a global batch."""
        draws = range(batch * self.batch_size, (batch + 1) * self.batch_size)[self.rows]
        examples = [self._example(draws[0])]
        # The others are written to their rows of the batch, where augmentation can do so.
        images, labels = (
            np.empty((len(draws), *first.shape), first.dtype)
            for first in (examples[0]["image"], examples[0]["label"])
        )
        images[0], labels[0] = examples[0]["image"], examples[0]["label"]
        in_place = True
        for draw, image, label in zip(draws[1:], images[1:], labels[1:], strict=True):
            examples.append(self._example(draw, (image, label)))
            in_place &= examples[-1]["image"] is image
        stacked = {"image": images, "label": labels} if in_place else {}
        for key in examples[0]:
            if key not in stacked:
                stacked[key] = np.stack([example[key] for example in examples])
        return cast(Batch, stacked)

    def _example(
        self, draw: int, out: tuple[np.ndarray, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        epoch, place = divmod(draw, len(self.source))
        record = self.source[int(epoch_order(self.seed, epoch, len(self.source))[place])]
        image, label = transforms.augment(
            record["image"],
            record["label"],
            np.random.default_rng([_AUGMENTATION, self.seed, draw]),
            self.config.augmentation,
            pad_value=self.config.preprocessing.pad_value,
            out=out,
        )
        example = {"image": image, "label": label}
        if self.config.weight_map == "unet_border":
            example["weight"] = weight_maps.unet_border(label)
        return example


# Prefixes of the seeds: the two streams of random numbers never coincide.
_ORDER, _AUGMENTATION = 1, 2


@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the order in which an epoch draws the images, int64 [count].

    Grain's own shuffle is not used: for a few dozen images it takes milliseconds for each index
    (0.2.18), and epoch e of seed s has the same order as epoch e - 1 of seed s + 1.
    """
    return np.random.default_rng([_ORDER, seed, epoch]).permutation(count)


class TrainIterator(Iterator[Batch]):
    """Batches from a given one on, prefetched by worker processes or, without any, by threads.

    The state is the number of the next batch: it restores exactly, with any number of workers.
    """

    def __init__(self, make: Callable[[int], Batch], workers: int):
        self._make = make
        self._workers = workers
        self._start(0)

    def _start(self, batch: int) -> None:
        self._next = batch
        batches = grain.MapDataset.range(batch, sys.maxsize).map(self._make)
        if self._workers:
            flags.FLAGS.mark_as_parsed()  # grain reads absl's flags, and this program parses none
            # One thread in each process; grain gives the batches to the processes in turn.
            options = grain.MultiprocessingOptions(
                num_workers=self._workers, per_worker_buffer_size=2
            )
            serial = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
            dataset = batches.to_iter_dataset(serial).mp_prefetch(options, _obey_parent)
        else:
            threads = min(4, os.cpu_count() or 1)
            dataset = batches.to_iter_dataset(
                grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
            )
        self._running = [iter(dataset)]
        # Also when this object is deleted, and at exit, where grain's own clean-up is too late.
        self._end = weakref.finalize(self, _end, self._running)

    def __next__(self) -> Batch:
        batch = next(self._running[0])
        self._next += 1
        if self._workers:  # their arrays are in shared memory, which is freed once they are copied
            batch = {key: np.array(value) for key, value in batch.items()}
        return cast(Batch, batch)

    def get_state(self) -> dict[str, int]:
        """Return the position as JSON data."""
        return {"next_batch": self._next}

    def set_state(self, state: dict[str, int]) -> None:
        """Continue from a position that `get_state` returned."""
        self.close()
        self._start(state["next_batch"])

    def close(self) -> None:
        """Stop the worker processes and threads; only `set_state` may be called afterwards."""
        self._end()


def _end(running: list[grain.DatasetIterator]) -> None:
    running.pop().close()


def _obey_parent(worker: int, workers: int) -> None:
    """Make this worker process end with the training process, and for no other reason.

    Without this, a worker would wait for ever after its trainer was killed; and a worker that ends
    at the signal that a scheduler or terminal sends to the whole job would make the trainer fail
    before it has saved its state.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)

    def wait() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None  # this is a child process
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
