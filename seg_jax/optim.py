"""Optimisers with learning-rate and decay multipliers by regular expression over names."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Rule:
    """Multipliers for the parameters whose "/"-joined name the pattern matches in full.

    Attributes:
      pattern: regular expression, e.g. "head/.*/bias".
      lr: learning-rate multiplier; 0 freezes.
      decay: weight-decay multiplier.
    """

    pattern: str
    lr: float = 1.0
    decay: float = 1.0


# Caffe's habit in this line: biases learn twice as fast and do not decay; nor does a norm's affine.
CAFFE_RULES = (
    Rule(".*/kernel"),
    Rule(".*/bias", lr=2.0, decay=0.0),
    Rule(".*/scale", decay=0.0),
)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Learning rate over the steps, as a multiple of the base rate.

    Attributes:
      kind: "fixed"; "poly": (1 - step/steps)^power; "step": factor^floor(step/every).
      power: of "poly".
      every: steps between two drops of "step".
      factor: of a drop.
      warmup: steps over which the rate first rises linearly from 0.
    """

    kind: Literal["fixed", "poly", "step"] = "fixed"
    power: float = 0.9
    every: int = 2000
    factor: float = 0.1
    warmup: int = 0


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Optimiser and schedule.

    Attributes:
      base_lr: learning rate before schedule and multipliers.
      optimizer: "sgd" is Caffe's: the learning rate multiplies the gradient before it enters the
        momentum buffer (recipes 1.4); "sgd_torch" multiplies after; "adamw".
      momentum: of SGD; beta1 of AdamW.
      weight_decay: L2 penalty added to the gradient (SGD), decoupled decay (AdamW).
      schedule: of the learning rate.
      rules: the first that matches a parameter's name counts; a parameter that none matches is
        an error.
      clip_norm: largest global norm of the gradient; 0: not clipped.
    """

    base_lr: float
    optimizer: Literal["sgd", "sgd_torch", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule = Schedule()
    rules: tuple[Rule, ...] = CAFFE_RULES
    clip_norm: float = 0.0
