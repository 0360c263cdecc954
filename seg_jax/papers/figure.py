"""A published figure: the number, its source, and how it was obtained."""

import dataclasses
from typing import Literal

from seg_jax import checks


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How the images were presented at evaluation.

    Attributes:
      output_stride: of the encoder at evaluation; None: the network has but one.
      scales: of the image; the predictions are fused. Empty: several that the source
        does not name.
      flip: the mirror image is fused as well.
      crf: the dense CRF refines the result.
    """

    output_stride: int | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    crf: bool = False

    def __str__(self) -> str:
        """Return e.g. "OS 8, 6 scales, flip, CRF"; one plain forward pass is "single scale"."""
        count = len(self.scales)
        parts = (
            f"OS {self.output_stride}" if self.output_stride else "",
            "single scale" if count == 1 else f"{count or 'several'} scales",
            "flip" if self.flip else "",
            "CRF" if self.crf else "",
        )
        return ", ".join(part for part in parts if part)


PLAIN = Protocol()
WITH_CRF = Protocol(crf=True)
SIX_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
MULTI_SCALE_FLIP = Protocol(scales=SIX_SCALES, flip=True)
IMAGENET, COCO = "ImageNet", "ImageNet + COCO"
JFT_COCO = "ImageNet + JFT-300M + COCO"

Origin = Literal["paper", "release", "leaderboard", "reimplementation"]


@dataclasses.dataclass(frozen=True)
class Figure:
    """One published number.

    Attributes:
      model: name in the source.
      miou: mean intersection over union in percent; None where the source reports other metrics.
      family: of the architecture, one of `seg_jax.papers.FAMILIES`.
      experiment: our experiment with this network; empty: there is none.
      recipe: "same": it was also trained as that experiment trains; "other": with other data,
        pre-training or settings, as `trained_on`, `pretraining` and `note` say.
      variant: the other recipe is that of our experiment `<experiment>_<variant>`.
      dataset: on which it was measured.
      split: on which it was measured; the labels of "test" are with the challenge's server only.
      trained_on: list of training images.
      pretraining: data the initial weights had seen.
      protocol: of the evaluation.
      metrics: what else the source reports, as (name, value), in the source's units.
      origin: "paper"; "release": the authors' code or weights; "leaderboard": the VOC server's;
        "reimplementation": by others.
      source: publication and table, or repository and file.
      date: ISO year, year-month or day; of a paper, its first appearance. Empty: unknown.
      verified: "verified" against the source, or quoted from memory and "unverified".
      talk: one of the four VOC 2012 test figures of the talk that this project follows.
      note: what a reader must know about the number.
    """

    model: str
    miou: float | None
    family: str
    experiment: str = ""
    recipe: Literal["same", "other"] = "same"
    variant: str = ""
    dataset: str = "VOC 2012"
    split: str = "val"
    trained_on: str = "train_aug"
    pretraining: str = IMAGENET
    protocol: Protocol = PLAIN
    metrics: tuple[tuple[str, float], ...] = ()
    origin: Origin = "paper"
    source: str = ""
    date: str = ""
    verified: Literal["verified", "unverified"] = "verified"
    talk: bool = False
    note: str = ""

    def __post_init__(self):
        if self.miou is not None:
            checks.fraction(miou_over_100=self.miou / 100)

    @property
    def variant_experiment(self) -> str:
        """Name of the experiment that trains by this recipe, where `experiment` does not."""
        return f"{self.experiment}_{self.variant}" if self.experiment and self.variant else ""

    def same_recipe(self, experiment: str) -> bool:
        """Whether the figure's network was trained as this experiment trains."""
        if experiment == self.variant_experiment:
            return True
        return experiment == self.experiment and self.recipe == "same"


def accuracies(pixel: float, mean: float, fw_iou: float | None = None) -> tuple:
    """Return `metrics` with pixel accuracy, mean class accuracy and frequency-weighted IoU in %."""
    named = (("pixel accuracy", pixel), ("mean accuracy", mean), ("fwIoU", fw_iou))
    return tuple((name, value) for name, value in named if value is not None)
