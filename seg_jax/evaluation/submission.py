"""Results for the PASCAL VOC test server: label maps of the images whose truth is hidden.

    results/VOC2012/Segmentation/comp6_test_cls/<id>.png      one an image, in a .tgz

comp5 is for networks trained on VOC's own images only, comp6 for all others (development kit,
section 9). Server: http://host.robots.ox.ac.uk:8080
"""

import contextlib
import dataclasses
import gzip
import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from seg_jax import checks, data, files, pretrained
from seg_jax.data import images, visualize
from seg_jax.data.datasets import voc2012 as voc
from seg_jax.data.source import Source, size_mismatch
from seg_jax.evaluation import evaluate
from seg_jax.experiment import Experiment
from seg_jax.inference import protocols
from seg_jax.types import IGNORE, VOC_CLASSES, voc_palette

Competition = Literal["comp5", "comp6"]


def folder(competition: str, split: str) -> str:
    """Return the folder that the server looks for in an archive."""
    return f"results/VOC2012/Segmentation/{competition}_{split}_cls"


class Unlabelled:
    """The images of a split whose labels are hidden, for `evaluate`: all of them void."""

    classes: Sequence[str] = VOC_CLASSES

    def __init__(self, source: Source):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return an image and a label that says nothing."""
        image = images.read_image(self._source.image_file(index))
        label = np.full(image.shape[:2], IGNORE, np.uint8)
        return {"id": self._source.ids[index], "image": image, "label": label}

    def size(self, index: int) -> tuple[int, int]:
        """Return (height, width) of an image."""
        return self._source.size(index)


def open_images(root: Path | None, split: str) -> Source:
    """Return a list of VOC 2012 whose images are all there; masks need not be.

    Raises:
      UserError: there is no such list, or an image of it is missing.
    """
    source = voc.open_split(data.find_root("voc2012", root), split)
    missing = [path for path in source.image_paths if not (source.root / path).is_file()]
    if missing:
        raise checks.UserError(
            f"{source.root}: {len(missing)} of the {len(source)} images of {split} are missing, "
            f"the first is {missing[0]}; extract VOC2012{split}.tar over the folder"
        )
    return source


def submit(
    path: str | Path,
    *,
    split: str = "test",
    competition: Competition = "comp6",
    protocol: str = "",
    root: Path | None = None,
    out: Path | None = None,
    checkpoint: str = "",
    progress: bool = True,
) -> tuple[Path, Path]:
    """Predict a split and write the archive; return its path, and the folder of VOC.

    Args:
      path: a run folder, or what else `pretrained.load` takes.
      split: list of VOC 2012.
      competition: which of the server's the archive is for.
      protocol: one of `protocols.PROTOCOLS`; empty: the experiment's own.
      root: VOC's folder; None: where the experiment's data are, if it is trained on VOC, else the
        default place.
      out: the archive; None: voc2012_<competition>_<split>.tgz in the run folder, or here.
      checkpoint: of a run, as for `pretrained.load`.
      progress: draw a progress bar.

    Raises:
      UserError: the model does not score VOC's classes, or images are missing.
    """
    loaded = pretrained.load(path, checkpoint=checkpoint)
    experiment = loaded.experiment
    if protocol:
        evaluation = protocols.apply(protocol, experiment.evaluation)
        experiment = dataclasses.replace(experiment, evaluation=evaluation)
    where = experiment.data
    own = where.root if where.dataset == "voc2012" else None
    source = open_images(root or own, split)
    name = f"voc2012_{competition}_{split}.tgz"
    out = out or (Path(path) / name if Path(path).is_dir() else Path(name))
    write(experiment, loaded.variables, source, out, competition=competition, progress=progress)
    return out, source.root


def write(
    experiment: Experiment,
    variables: dict,
    source: Source,
    path: Path,
    *,
    competition: Competition,
    progress: bool = True,
) -> None:
    """Write the archive of a split's predictions, whole or not at all."""
    if jax.process_count() > 1:
        raise checks.UserError("submit writes one archive: start it in one process")
    place, palette = folder(competition, source.split), voc_palette()
    with _archive(path) as archive:

        def keep(index: int, prediction: np.ndarray) -> None:
            name = f"{place}/{source.ids[index]}.png"
            if prediction.shape != source.size(index):
                raise ValueError(size_mismatch(Path(name), prediction.shape, source.size(index)))
            file = io.BytesIO()
            visualize.label_image(prediction, palette).save(file, format="PNG")
            entry = tarfile.TarInfo(name)
            entry.size = file.tell()
            file.seek(0)
            archive.addfile(entry, file)

        evaluate.evaluate(
            experiment,
            variables,
            Unlabelled(source),
            boundaries=False,
            on_image=keep,
            progress=progress,
            title="predicting",
        )


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a .tgz for writing; the same contents are the same bytes."""
    with (
        files.write_atomically(path) as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
        tarfile.open(mode="w", fileobj=packed) as archive,
    ):
        yield archive
