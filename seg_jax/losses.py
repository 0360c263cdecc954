"""Losses as sums and counts: divided once, after the sums over all devices are known."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Softmax cross-entropy over the pixels that are not IGNORE.

    Attributes:
      reduction: "mean" over the valid pixels of the global batch, or "sum" (FCN's unnormalised
        loss, for which its 1e-10 learning rates are meant).
      heads: (name, weight) of every model output that is trained.
      class_weights: weight of each class; empty: all 1. The mean divides by the number of valid
        pixels, not by the sum of weights (Caffe's rule, recipes 3).
    """

    reduction: Literal["mean", "sum"] = "mean"
    heads: tuple[tuple[str, float], ...] = (("out", 1.0),)
    class_weights: tuple[float, ...] = ()
