"""Decoded images of a training kept in memory, so that each is read and decoded only once."""

import dataclasses
import logging
import os

from seg_jax.checks import UserError
from seg_jax.data.source import Record, Source, Subset
from seg_jax.parallel import allocator

_SHARE = 0.5  # of the memory that is free when the training begins
_log = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class Cached:
    """The images of a split, kept as they are first read; one process's threads share them.

    Attributes:
      source: the split. An image that a Subset names twice is kept once.
      copy: return copies, for users' transforms that change them in place.
    """

    source: Source | Subset
    copy: bool = False

    def __post_init__(self):
        self._kept: dict[int, Record] = {}

    def __reduce__(self):
        return Cached, (self.source, self.copy)  # a worker process keeps its own images

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        """Return one image and its mask; not to be changed, unless they are copies."""
        stored = self.source.indices[index] if isinstance(self.source, Subset) else index
        record = self._kept.get(stored)
        if record is None:
            record = self._kept[stored] = self.source[index]
        if self.copy:
            copies = {"image": record["image"].copy(), "label": record["label"].copy()}
            return Record(id=record["id"], image=copies["image"], label=copies["label"])
        return record


def cached(source: Source | Subset, *, processes: int, copy: bool = False) -> Cached:
    """Return the split with its images kept in memory, if half of the free memory holds them.

    All headers are read for this (0.1 s for VOC's 1,464). An image takes as much as its pixels.

    Args:
      source: the split.
      processes: of this training on this machine; each keeps all images.
      copy: see `Cached`.

    Raises:
      UserError: they do not fit.
    """
    whole = source.source if isinstance(source, Subset) else source
    stored = set(source.indices) if isinstance(source, Subset) else range(len(source))
    channel = 4 if whole.range else 1  # bytes
    sizes = (whole.size(index) for index in stored)
    need = processes * sum(h * w * (whole.channels * channel + 1) for h, w in sizes)
    free = _free_memory()
    if need > _SHARE * free:
        raise UserError(
            f"data.cache: the {len(stored)} images of {whole.name} {whole.split} take "
            f"{need / 2**30:.2f} GiB decoded, in {processes} process{'es' * (processes > 1)}, and "
            f"half of the free memory is {_SHARE * free / 2**30:.2f} GiB: train without "
            "--data.cache" + (", or with fewer --data.workers" if processes > 1 else "")
        )
    _log.info("%d decoded images will take %.2f GiB of memory", len(stored), need / 2**30)
    return Cached(source, copy)


def _free_memory() -> int:
    try:
        return allocator.available_memory()[0]
    except (OSError, KeyError, ValueError):  # no /proc/meminfo: what the machine has in all
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
