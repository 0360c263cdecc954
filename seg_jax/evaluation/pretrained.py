"""Check published weights, and score them with our forward pass."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from seg_jax import checks, data, parallel, pretrained
from seg_jax.evaluation import run
from seg_jax.pretrained import Pretrained, cache, catalogue, loading
from seg_jax.results import record

PRETRAINING = "published weights, our forward"


@dataclasses.dataclass(frozen=True)
class Check:
    """The result of checking a file of published weights.

    Attributes:
      name: of the catalogue's entry.
      file: that was read.
      sha256: of the file; equal to the catalogue's if that has one.
      numbers: total size of the network's variables.
      logits: shape of the logits of one image; empty for a classifier.
    """

    name: str
    file: Path
    sha256: str
    numbers: int
    logits: tuple[int, ...]

    def as_text(self) -> str:
        """Return one line for each finding."""
        entry = catalogue.get(self.name)
        checksum = "as catalogued"
        if entry.sha256 == "unknown":
            checksum = "the catalogue has none to compare"
        elif not cache.is_published(self.sha256, entry):
            checksum = "NOT the published file's: what is known of it does not hold for this one"
        forward = (
            "x".join(map(str, self.logits)) + ", all finite" if self.logits else "a classifier"
        )
        return (
            f"{self.name}: {self.file}\n"
            f"  SHA-256   {self.sha256} ({checksum})\n"
            f"  converted {self.numbers:,} numbers, every layer filled, every tensor used\n"
            f"  logits    {forward}"
        )


def check(name: str, file: Path | None = None, *, any_file: bool = False) -> Check:
    """Check a file's checksum, convert it, and run the network on one random image.

    Args:
      name: in the catalogue.
      file: None: the imported one.
      any_file: another checksum than the published file's is no error.

    Raises:
      UserError: it is not imported, not the published file, does not fit the network, or gives
        logits that are not finite.
    """
    entry = catalogue.get(name)
    path = file or cache.find(name)
    digest = cache.check(path, entry, any_file=any_file)
    if entry.experiment is None:
        variables, logits = loading.convert(path, entry, None), ()
    else:
        loaded = pretrained.load(path, name)
        variables, logits = loaded.variables, _logits_shape(loaded, path)
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(variables))
    return Check(name, path, digest, count, logits)


def _logits_shape(loaded: Pretrained, path: Path) -> tuple[int, ...]:
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    x = loaded.preprocessing(image)[None]
    apply = jax.jit(lambda v, x: loaded.model.apply(v, x, train=False)["out"])
    logits = np.asarray(apply(loaded.variables, x))
    if not np.isfinite(logits).all():
        raise checks.UserError(f"{path}: the network gives logits that are not finite")
    return logits.shape


def score_published(
    loaded: Pretrained, *, split: str = "val", root: Path | None = None, command: str = "",
    progress: bool = True,
) -> record.Record:  # fmt: skip
    """Score published weights under their experiment's protocol, and return the record.

    Args:
      loaded: weights of the catalogue.
      split: of the experiment's data set.
      root: the data set's folder.
      command: the command line, for the record.
      progress: draw a progress bar.

    Raises:
      UserError: the weights were trained on these images, or the data set is not found.
    """
    entry, experiment = catalogue.get(loaded.name), loaded.experiment
    if entry.leak == "yes" and split == "val" and experiment.data.dataset == "voc2012":
        raise checks.UserError(
            f"{entry.name} was trained on {entry.trained_on}: a score on val means nothing; "
            "choose another --split"
        )
    source = data.open_configured(experiment.data, split, root=root)
    parallel.prepare_process()
    return run.score(
        experiment,
        loaded.variables,
        source,
        run=entry.name,
        training=_training(loaded.variables),
        weights=record.PublishedWeights(entry.name, entry.trained_on, entry.leak),
        command=command,
        progress=progress,
    )


def _training(variables: dict[str, Any]) -> record.Training:
    """Return a record's training entry for weights that were not trained here."""
    return record.Training(
        data=None,
        pretraining=PRETRAINING,
        steps=0,
        batch_size=0,
        crop=(),
        seed=0,
        seconds=None,
        parameters=sum(np.size(leaf) for leaf in jax.tree.leaves(variables["params"])),
    )
