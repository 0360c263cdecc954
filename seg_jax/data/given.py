"""Training batches that a program gives: any iterable, e.g. a PyTorch DataLoader or tf.data."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import numpy as np

from seg_jax import checks
from seg_jax.types import Batch

_KEYS = ("image", "label", "weight")


class GivenBatches(Iterator[Batch]):
    """The batches of an iterable, checked and as NumPy arrays, over and over.

    An item is a mapping with "image", "label" and perhaps "weight", or a tuple of these in this
    order: image uint8 [n h w 3] RGB in 0..255 (the step normalises it), label integer [n h w],
    class id or 255 for void, weight float32 [n h w]. Tensors of PyTorch and TensorFlow are taken.

    What comes after a batch cannot be saved: a run that goes on begins the iterable anew.
    """

    def __init__(self, batches: Iterable[Any], *, batch_size: int):
        """Take batches of `batch_size` images, those of this process only."""
        self._batches, self._batch_size = batches, batch_size
        self._count = 0
        self._running = iter(batches)

    def __next__(self) -> Batch:
        item = next(self._running, None)
        if item is None:  # an epoch has ended
            self._running = iter(self._batches)
            item = next(self._running, None)
        if item is None:
            raise checks.UserError(
                f"the given batches ended after {self._count}: give something that can be iterated "
                "again (a list, a DataLoader, a tf.data.Dataset), an endless iterator, or fewer "
                "train.steps"
            )
        batch = as_batch(item)
        if len(batch["image"]) != self._batch_size:
            raise checks.UserError(
                f"given batch {self._count} has {len(batch['image'])} images, train.batch_size is "
                f"{self._batch_size} for this process: make them equal; for the rest at the end of "
                "an epoch, DataLoader has drop_last=True, tf.data drop_remainder=True"
            )
        self._count += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """Return the number of batches so far."""
        return {"next_batch": self._count}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Count from where another session was; the batches begin anew."""
        self._count = int(state["next_batch"])

    def close(self) -> None:
        """Do nothing: the iterable is its owner's."""


def as_batch(item: Any) -> Batch:
    """Return an item of the iterable as a batch of NumPy arrays.

    Raises:
      ValueError: it is no such batch; says what is expected.
    """
    if isinstance(item, Mapping):
        named = dict(item)
    elif isinstance(item, tuple | list) and 2 <= len(item) <= len(_KEYS):
        named = dict(zip(_KEYS, item, strict=False))
    else:
        raise ValueError(
            f"a batch is a mapping with image and label, or a tuple (image, label), got "
            f"{type(item).__name__}"
        )
    missing, more = {"image", "label"} - named.keys(), named.keys() - {*_KEYS}
    if missing or more:
        raise ValueError(
            f"a batch has image, label and perhaps weight, got {sorted(map(str, named))}: "
            "rename or remove the others"
        )
    batch = {name: _array(value) for name, value in named.items()}
    checks.image_batch(batch["image"])
    label = batch["label"]
    if not np.issubdtype(label.dtype, np.integer) or label.shape != batch["image"].shape[:3]:
        raise ValueError(
            f"label must be integers [n h w] as the image {batch['image'].shape}, got "
            f"{label.dtype} {label.shape}"
        )
    if label.size and not 0 <= label.min() <= label.max() <= 255:
        raise ValueError(
            f"label holds {label.min()} to {label.max()}: class ids begin with 0, and void is 255 "
            "(PyTorch's ignore_index, -100 by default, has to be mapped to it)"
        )
    batch["label"] = label.astype(np.uint8)
    if "weight" in batch:
        batch["weight"] = batch["weight"].astype(np.float32)
        if batch["weight"].shape != label.shape:
            raise ValueError(f"weight {batch['weight'].shape} must be as the label {label.shape}")
    return cast(Batch, batch)


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # of PyTorch, perhaps on a device
        value = value.detach().cpu()
    return np.asarray(value)
