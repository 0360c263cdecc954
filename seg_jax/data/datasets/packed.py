"""What `data pack` wrote: TFDS's ArrayRecord files, read by index and without TensorFlow.

    <root>/dataset_info.json features.json metadata.json <name>-<split>.array_record-...-of-...

`root` is the folder of one version, e.g. tfds/voc2012_segmentation/aug/1.0.0. "trainaug+val" reads
two lists as one, as in TFDS.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg_jax.checks import UserError, unknown
from seg_jax.data.source import Source
from seg_jax.types import IGNORE


def splits(root: Path) -> tuple[str, ...]:
    """Return the names of the packed lists."""
    return tuple(_builder(root).info.metadata["splits"])


def open_split(root: Path, split: str) -> Source:
    """Return a packed list, or several joined by +."""
    metadata = _builder(root).info.metadata
    parts = split.split("+")
    for part in parts:
        if part not in metadata["splits"]:
            raise UserError(f"split {part!r} in {root}: {unknown(part, metadata['splits'])}")
    found = [metadata["splits"][part] for part in parts]
    ids = tuple(image_id for part in found for image_id in part["ids"])
    classes = tuple(metadata["classes"])
    return Source(
        name=found[0]["name"],
        split=split,
        root=root,
        ids=ids,
        image_paths=tuple(f"{image_id} (image)" for image_id in ids),
        label_paths=tuple(f"{image_id} (mask)" for image_id in ids),
        classes=classes,
        label_ids={**{value: value for value in range(len(classes))}, IGNORE: IGNORE},
        palette=np.array(metadata["palette"], np.uint8),
        official=sum(part["official"] for part in found),
        records=_Records(root, split),
    )


class _Records(Sequence):
    """The pairs of encoded files of a split; opened where it is used, so that it pickles small."""

    def __init__(self, root: Path, split: str):
        self._place = (root, split)

    def __reduce__(self):
        return _Records, self._place

    @functools.cached_property
    def _source(self) -> Sequence[dict[str, Any]]:
        import tensorflow_datasets as tfds

        root, split = self._place
        as_stored = {name: tfds.decode.SkipDecoding() for name in ("image", "label")}
        return _builder(root).as_data_source(split, decoders=as_stored)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[bytes, bytes]:
        if not 0 <= index < len(self):
            raise IndexError(index)  # ends an iteration; array_record raises ValueError
        record = self._source[index]
        return record["image"], record["label"]


@functools.lru_cache(maxsize=8)
def _builder(root: Path) -> Any:
    if not (root / "dataset_info.json").is_file():
        raise UserError(
            f"{root} holds no dataset_info.json; write the data set with `data pack`, and name the "
            "folder of its version, e.g. tfds/camvid/1.0.0"
        )
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError("packed data needs tensorflow-datasets: pip install it") from error
    builder = tfds.builder_from_directory(root.absolute())
    if "splits" not in (builder.info.metadata or {}):
        raise UserError(f"{root} was not written by `data pack`: its metadata.json has no splits")
    return builder
