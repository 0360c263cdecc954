"""The configuration of an experiment's data, from which the pipeline is built."""

import dataclasses
import re
from pathlib import Path
from typing import Literal

from seg_jax import checks
from seg_jax.data.preprocessing import Preprocessing
from seg_jax.types import IGNORE


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image, in the order mirror_px, jitter, scale, elastic, rotate,
    blur, crop, flip.

    Attributes:
      crop: (height, width) of the crop in pixels; smaller images are padded, the image with the
        mean colour, the label with IGNORE.
      scale: range the image's scale is drawn from.
      scale_step: 0: uniform in the range; else the scales are lo, lo + step, ..., hi.
      flip: probability of a mirror image.
      elastic_px: standard deviation, in pixels, of U-Net's elastic deformation; 0: none.
      rotate: probability of a rotation about the scaled image's centre; the uncovered corners get
        the mean colour and IGNORE.
      rotation_deg: largest angle, in either direction.
      blur: probability of a Gaussian blur of 5x5 px.
      jitter: largest relative change of brightness, contrast and saturation.
      mirror_px: pixels of mirrored border that are first added on every side, as context for a
        network with valid convolutions; their label is IGNORE.
      extra: transforms that a package of your own registers (`transforms.register`), applied in
        this order to the stored image, before everything above.
      pad: where smaller images are padded. "end": at the bottom and right, and a mirrored crop is
        mirrored with its padding; "end_after_flip": there, once the image is mirrored
        (torchvision); "centre": once it is mirrored, on all sides, of an odd number of pixels the
        last at the bottom and right (semseg).
    """

    crop: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    scale_step: float = 0.0
    flip: float = 0.5
    elastic_px: float = 0.0
    rotate: float = 0.0
    rotation_deg: float = 10.0
    blur: float = 0.0
    jitter: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mirror_px: int = 0
    extra: tuple[str, ...] = ()
    pad: Literal["end", "end_after_flip", "centre"] = "end"

    def __post_init__(self):
        checks.one_of(("end", "end_after_flip", "centre"), pad=self.pad)
        checks.positive(crop_height=self.crop[0], crop_width=self.crop[1], scale=self.scale[0])
        checks.fraction(
            flip=self.flip, rotate=self.rotate, blur=self.blur, largest_of_jitter=max(self.jitter)
        )
        checks.non_negative(
            scale_range=self.scale[1] - self.scale[0],
            scale_step=self.scale_step,
            elastic_px=self.elastic_px,
            rotation_deg=self.rotation_deg,
            smallest_of_jitter=min(self.jitter),
            mirror_px=self.mirror_px,
        )
        # Far beyond any recipe; but a configuration may come from a stranger.
        checks.at_most(
            2**14,
            crop_height=self.crop[0],
            crop_width=self.crop[1],
            mirror_px=self.mirror_px,
            elastic_px=self.elastic_px,
        )
        checks.at_most(64, scale=self.scale[1])


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and what happens to them before they reach the device.

    Attributes:
      dataset: reader, one of `seg_jax.data.names()`.
      augmentation: of the training images.
      preprocessing: channel normalisation; runs on the device.
      root: the data set's folder; None: the user's place, `files.find_place`.
      train_split: list of training images.
      val_split: list of validation images.
      repeat_classes: training images that hold one of these class ids are taken twice an epoch
        (DeepLab v3's "bootstrapping on hard images").
      weight_map: per-pixel loss weight that is computed with each label.
      workers: processes that decode and augment; 0: in the training process.
      cache: keep the decoded training images in memory, in each of those processes; an error where
        they take more than half of what is free.
      allow_outside: a list may name files outside the data set's folder.
      map: what values of the masks mean, each VALUE=CLASS_ID or VALUE=void, e.g. "255=1"; other
        values keep the data set's meaning.
    """

    dataset: str
    augmentation: Augmentation
    preprocessing: Preprocessing
    root: Path | None = None
    train_split: str = "train"
    val_split: str = "val"
    repeat_classes: tuple[int, ...] = ()
    weight_map: Literal["none", "unet_border"] = "none"
    workers: int = 0
    cache: bool = False
    allow_outside: bool = False
    map: tuple[str, ...] = ()

    def __post_init__(self):
        mask_values(self.map)
        checks.non_negative(workers=self.workers)
        checks.at_most(1024, workers=self.workers)


def mask_values(entries: tuple[str, ...]) -> dict[int, int]:
    """Return the class id (or IGNORE) of every mask value that `DataConfig.map` names.

    Raises:
      ValueError: an entry is not VALUE=CLASS_ID or VALUE=void, or a value has two.
    """
    found: dict[int, int] = {}
    for entry in entries:
        match = re.fullmatch(r"(\d{1,3})=(\d{1,3}|void)", entry, re.ASCII)
        if not match or int(match[1]) > 255 or (match[2] != "void" and int(match[2]) > 254):
            raise ValueError(
                f"map has {entry!r}: an entry is VALUE=CLASS_ID or VALUE=void, e.g. 255=1"
            )
        if int(match[1]) in found:
            raise ValueError(f"map has two entries for the value {match[1]}")
        found[int(match[1])] = IGNORE if match[2] == "void" else int(match[2])
    return found
