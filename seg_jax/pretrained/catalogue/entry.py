"""One entry of the catalogue of published weights."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from seg_jax.data.preprocessing import Preprocessing
from seg_jax.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Score:
    """The score that the publishers report.

    Attributes:
      miou: mean intersection over union in percent.
      images: data set and split, "VOC 2012 val".
      protocol: of the evaluation.
    """

    miou: float
    images: str
    protocol: str

    def __str__(self) -> str:
        """Return e.g. "75.32 on VOC 2012 val (OS 16, single scale)"."""
        return f"{self.miou:g} on {self.images} ({self.protocol})"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file of published weights.

    Attributes:
      name: publisher, architecture, backbone and data, in the catalogue.
      file: its name as released, or that of the archive it comes in.
      host: where the publishers offer it.
      license: of the weights; "not stated" where the publishers say nothing.
      trained_on: data, first to last.
      leak: whether VOC 2012's val images were trained on; "yes": never score them on val.
      convert: (model, tensors of the file) -> variables of the model. Of a classifier the model is
        None, and the variables are those of the backbone and of what else can be reused.
      experiment: a fresh Experiment with the model, preprocessing and evaluation protocol of the
        weights; None: an ImageNet classifier, which `train --init` takes.
      ignored: a classifier's tensors that are not used, for reports.
      preprocessing: of a classifier's inputs; others have it in their experiment.
      sha256: of the file, or its first digits, as many as were published; "unknown": none were.
      folded: the batch norms are folded into the convolutions: a training from these weights
        estimates their statistics first, see `pretrained.folded`.
      epsilon: of a classifier's batch norms; None: it has none. Others have it in their experiment.
      score: as published.
      note: what a user has to know.
    """

    name: str
    file: str
    host: str
    license: str
    trained_on: str
    leak: Literal["no", "yes", "unknown"]
    convert: Callable[[Any, Mapping[str, Any]], dict[str, Any]]
    experiment: Callable[[], Experiment] | None = None
    ignored: str = ""
    preprocessing: Preprocessing | None = None
    sha256: str = "unknown"
    folded: bool = False
    epsilon: float | None = None
    score: Score | None = None
    note: str = ""
