"""Packed data sets: the ArrayRecord files of `data pack`, read by index without TensorFlow.

    <root>/dataset_info.json features.json metadata.json <name>-<split>.array_record-...-of-...

`root` is the folder of one version, e.g. tfds/voc2012_segmentation/aug/1.0.0. "trainaug+val" reads
two lists as one, as in TFDS.

TFDS imports every class that features.json names, and opens the shards that dataset_info.json
names. Therefore it is given a folder only after `seg_jax.data.packed_files` has checked both.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg_jax.checks import UserError, unknown
from seg_jax.data import packed_files
from seg_jax.data.source import Source
from seg_jax.types import IGNORE

GET = "write ArrayRecord files with `data pack`"


def splits(root: Path) -> tuple[str, ...]:
    """Return the names of the packed lists."""
    return tuple(packed_files.read_metadata(root).splits)


def open_split(root: Path, split: str) -> Source:
    """Return a packed list, or several joined by +."""
    metadata = packed_files.read_metadata(root)
    parts = split.split("+")
    for part in parts:
        if part not in metadata.splits:
            raise UserError(f"split {part!r} in {root}: {unknown(part, metadata.splits)}")
    found = [metadata.splits[part] for part in parts]
    ids = tuple(image_id for part in found for image_id in part.ids)
    return Source(
        name=found[0].name,
        split=split,
        root=root,
        ids=ids,
        image_paths=tuple(f"{image_id} (image)" for image_id in ids),
        label_paths=tuple(f"{image_id} (mask)" for image_id in ids),
        classes=metadata.classes,
        label_ids={**{value: value for value in range(len(metadata.classes))}, IGNORE: IGNORE},
        palette=np.array(metadata.palette, np.uint8),
        official=sum(part.official for part in found),
        records=_Records(root, split, len(ids)),
    )


class _Records(Sequence):
    """The pairs of encoded files of a split, opened on first use, so that pickling it is cheap."""

    def __init__(self, root: Path, split: str, count: int):
        self._place = (root, split, count)

    def __reduce__(self):
        return _Records, self._place

    @functools.cached_property
    def _source(self) -> Sequence[dict[str, Any]]:
        try:
            import tensorflow_datasets as tfds
            from tensorflow_datasets.core.decode import SkipDecoding
        except ImportError as error:
            raise UserError("packed data needs tensorflow-datasets: pip install it") from error

        root, split, count = self._place
        packed_files.read_metadata(root)  # this may be another process than the one that opened it
        as_stored = {name: SkipDecoding() for name in ("image", "label")}
        try:
            open_folder: Any = tfds.builder_from_directory
            source = open_folder(root.absolute()).as_data_source(split, decoders=as_stored)
            found = len(source)
        except Exception as error:  # TFDS raises a dozen types; each means broken files
            raise UserError(f"{root}: {split} cannot be read ({error}); pack it again") from error
        if found != count:
            raise UserError(
                f"{root}: {split} has {found} records for {count} ids; pack the data set again"
            )
        return source

    def __len__(self) -> int:
        return self._place[2]

    def __getitem__(self, index: int) -> tuple[bytes, bytes]:
        if not 0 <= index < len(self):
            raise IndexError(index)  # ends an iteration; array_record raises ValueError
        source = self._source
        try:
            record = source[index]
            return record["image"], record["label"]
        except Exception as error:  # array_record raises a dozen types; each means broken files
            root, split, _ = self._place
            raise UserError(
                f"{root}: record {index} of {split} cannot be read ({error}); pack it again"
            ) from error
