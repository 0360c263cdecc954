"""TFDS builders that write the data sets of our readers; TensorFlow is not needed.

    import seg_jax.data.prepare.tfds
    tfds.data_source("voc2012_segmentation/aug", split="trainaug", data_dir=...)

Images are stored as the bytes of their files, masks as grey PNGs of class ids with void = 255,
because TFDS would convert the colours of a palette PNG to grey. Records are in the list's order, in
sharded ArrayRecord files with random access.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from PIL import Image

from seg_jax import data
from seg_jax.checks import UserError
from seg_jax.data import images
from seg_jax.data.source import Source


class _Segmentation(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Pairs of an image and its mask, from a folder that a reader of `seg_jax.data` reads.

    The folder is TFDS's manual_dir. A subclass names its reader in DATASET.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put the data set, as it is published, into manual_dir."
    DATASET: str

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.DATASET}: images with a class id per pixel, 255 = void.",
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                }
            ),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,  # records stay in the list's order
        )

    def _splits(self, root: Path) -> tuple[str, ...]:
        return data.reader(self.DATASET).splits(root)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = Path(dl_manager.manual_dir)
        sources = [data.open_source(self.DATASET, root, split) for split in self._splits(root)]
        metadata = self.info.metadata
        assert metadata is not None  # `_info` made it
        metadata["classes"] = list(sources[0].classes)
        metadata["palette"] = sources[0].palette.tolist()
        metadata["splits"] = {
            source.split: {
                "name": source.name,
                "official": source.official,
                "ids": list(source.ids),
            }
            for source in sources
        }
        return {source.split: self._generate_examples(source) for source in sources}

    def _generate_examples(self, source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(len(source)):
            record = source[index]  # decoded, so that nothing unreadable is packed
            mask = io.BytesIO()
            Image.fromarray(record["label"]).save(mask, "PNG")
            image = images.encoded(source.files(index)[0])
            yield (
                index,
                {
                    "id": record["id"],
                    "image": io.BytesIO(image),
                    "label": io.BytesIO(mask.getvalue()),
                },
            )


class Voc2012Segmentation(_Segmentation):
    """PASCAL VOC 2012: "voc" as released, "aug" with SBD, "fcn" as FCN was trained and scored."""

    DATASET = "voc2012"
    LISTS = {
        "voc": ("train", "val"),
        "aug": ("trainaug", "val"),
        "fcn": ("sbd_train", "seg11valid"),
    }
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name, description=" and ".join(lists))
        for name, lists in LISTS.items()
    ]

    def _splits(self, root: Path) -> tuple[str, ...]:
        assert self.builder_config is not None  # the class has BUILDER_CONFIGS
        return self.LISTS[self.builder_config.name]


class Camvid(_Segmentation):
    """CamVid in SegNet's split."""

    DATASET = "camvid"


class Isbi2012(_Segmentation):
    """ISBI 2012 EM segmentation: sections 0 to 23 and 24 to 29."""

    DATASET = "isbi2012"

    def _splits(self, root: Path) -> tuple[str, ...]:
        return ("train", "val")


class Folder(_Segmentation):
    """A folder of your own: images/, masks/, classes.txt."""

    DATASET = "folder"


BUILDERS = {builder.DATASET: builder for builder in (Voc2012Segmentation, Camvid, Isbi2012, Folder)}


def pack(dataset: str, root: Path | None, out: Path, *, config: str = "", shards: int = 0) -> Path:
    """Write a data set as ArrayRecord files, unless it has been written already.

    Args:
      dataset: a name in BUILDERS.
      root: the data set's folder; None: the default one.
      out: TFDS's data_dir.
      config: of voc2012: "voc", "aug" or "fcn".
      shards: files for each split; 0: TFDS chooses.

    Returns:
      The folder for the reader "tfds".

    Raises:
      UserError: for an unknown name, for any problem of the data, and if `out` has the data set
        with other lists.
    """
    if dataset not in BUILDERS:
        raise UserError(f"data pack {dataset!r}: there are builders for {', '.join(BUILDERS)}")
    configs = [known.name for known in BUILDERS[dataset].BUILDER_CONFIGS]
    if config not in (configs or [""]):
        raise UserError(f"--config {config!r}: {dataset} has {', '.join(configs) or 'none'}")
    builder = BUILDERS[dataset](
        config=config or None, data_dir=out.absolute(), file_format="array_record"
    )
    folder = data.find_root(dataset, root).absolute()
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=folder, num_shards=shards or None)
    )
    for split, packed in (builder.info.metadata or {})["splits"].items():
        if packed["ids"] != list(data.reader(dataset)(folder, split).ids):
            raise UserError(
                f"{builder.data_path} was written before and has other images in {split} than "
                f"{folder}; delete it, or name another --out"
            )
    return Path(builder.data_path)
