"""Cut an image into the windows that an evaluation protocol shows to the network.

Windows have few distinct shapes, so that images of hundreds of sizes need only a handful of
compilations. "whole": one window, the image padded at the bottom and the right with the mean
colour. "resize": one window, the image resized. "tile": U-Net's overlap-tile (Ronneberger et al.,
MICCAI 2015, sec. 2): windows of the mirrored image that overlap by what valid convolutions cut off.
"sliding": overlapping windows of the scaled image, as in PSPNet's release (evaluation/eval_sub.m
and scale_process.m).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from seg_jax import checks
from seg_jax.data.sampling import sample_bilinear
from seg_jax.experiment import EvalConfig, Experiment
from seg_jax.nn.input_sizes import legal_side
from seg_jax.types import IGNORE


class Window(NamedTuple):
    """The input of one forward pass, and the region that it predicts.

    Attributes:
      image: the network's input before it is normalised, uint8 [h w 3] or as the data have it.
      region: rows and columns that are predicted, of the original image or ("sliding") of the
        scaled image; the first pixel of the scores is the first of the region, and scores beyond
        the region are dropped.
      scale: index into the protocol's scales ("sliding").
    """

    image: np.ndarray
    region: tuple[slice, slice]
    scale: int = 0


def model_margin(model: Any) -> int:
    """Return how many pixels the model's scores lose on each side: its `margin`, or 0."""
    return int(getattr(model, "margin", 0))


def scores_size(model: Any, image: Any) -> tuple[int, int]:
    """Return (height, width) of what the model's scores show of images [n h w c]."""
    margin = model_margin(model)
    height, width = (side - 2 * margin for side in image.shape[1:3])
    return height, width


def check_evaluation(experiment: Experiment) -> None:
    """Raise UserError unless the experiment's protocol fits its model."""
    evaluation, margin = experiment.evaluation, model_margin(experiment.model)
    seen = experiment.data.preprocessing
    if evaluation.crf is not None and not seen.is_plain:
        raise checks.UserError(
            "evaluation.crf compares colours of 8 bits, but preprocessing has "
            f"{seen.channels} channels and the range {seen.range}: use --crf none"
        )
    if margin and evaluation.mode != "tile":
        raise checks.UserError(
            f"evaluation.mode is {evaluation.mode!r}, but the model's scores lose {margin} "
            "px on each side of its input: use 'tile'"
        )
    if evaluation.mode == "whole":
        return
    if evaluation.canvas is None:
        raise checks.UserError(
            f"evaluation.mode is {evaluation.mode!r} without evaluation.canvas: give the "
            "(height, width) of the network's input"
        )
    if min(evaluation.canvas) <= 2 * margin:
        raise checks.UserError(
            f"evaluation.canvas {evaluation.canvas} leaves nothing of a tile: the model's scores "
            f"lose {margin} px on each side"
        )
    if evaluation.mode == "tile" and evaluation.scales != (1.0,):
        raise checks.UserError(
            f"evaluation.scales {evaluation.scales}: overlap-tile has one scale; use 'whole' or "
            "'sliding' for several"
        )
    if evaluation.mode == "sliding" and evaluation.fusion == "max_logits":
        raise checks.UserError(
            "evaluation.fusion is 'max_logits', but overlapping windows are averaged as "
            "probabilities: use 'probabilities' or 'mirror_logits'"
        )


def input_size(size: tuple[int, int], evaluation: EvalConfig) -> tuple[int, int]:
    """Return (height, width) of the network's input, at scale 1, for an image of `size`.

    Raises:
      UserError: the canvas does not cover the image.
    """
    if evaluation.canvas is None:
        bucket, rest = evaluation.bucket, evaluation.bucket_rest
        height, width = (max(-((length - rest) // -bucket), 0) * bucket + rest for length in size)
        return height, width
    height, width = evaluation.canvas
    if evaluation.mode == "whole" and (size[0] > height or size[1] > width):
        raise checks.UserError(
            f"evaluation.canvas {height}x{width} does not cover an image of {size[0]}x{size[1]} "
            "(height x width): give a larger canvas, or None to pad to evaluation.bucket"
        )
    return height, width


def covering(experiment: Experiment, size: tuple[int, int]) -> Experiment:
    """Return the experiment, with a larger canvas if its own does not cover `size` (height, width).

    Height and width become the model's legal sizes at the next multiples of `evaluation.bucket`, so
    that images of many sizes need only a handful of compilations.
    """
    evaluation = experiment.evaluation
    canvas = evaluation.canvas
    if evaluation.mode != "whole" or canvas is None:
        return experiment
    if size[0] <= canvas[0] and size[1] <= canvas[1]:
        return experiment
    bucket = evaluation.bucket
    canvas = (legal_side(experiment.model, -(-length // bucket) * bucket) for length in size)
    return experiment.with_evaluation(canvas=tuple(canvas))


def fit(model: Any, image: jax.Array) -> jax.Array:
    """Pad normalised images [n h w c] at the bottom and the right to the next sides that the model
    takes, with zeros: the preprocessing's mean. The protocol's own sizes mostly are such.
    """
    more = [(0, legal_side(model, side) - side) for side in image.shape[1:3]]
    return jnp.pad(image, ((0, 0), *more, (0, 0))) if any(more) else image


def by_input_size(sizes: Sequence[tuple[int, int]], evaluation: EvalConfig) -> Iterator[list[int]]:
    """Group the indices of images by the network's input size: one compilation for each group."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(sizes):
        groups.setdefault(input_size(size, evaluation), []).append(index)
    yield from groups.values()


def cut(
    image: np.ndarray, evaluation: EvalConfig, *, margin: int, pad_value: Sequence[float]
) -> list[Window]:
    """Cut an image into the windows of the protocol.

    Args:
      image: uint8 [h w 3], RGB, or as the experiment's preprocessing takes it.
      evaluation: the protocol.
      margin: pixels that the model's scores lose on each side of its input ("tile").
      pad_value: that the image is padded with, one a channel ("whole", "sliding").

    Returns:
      Windows of one shape. Their regions cover the image, without overlap except for "sliding".
    """
    size = input_size(image.shape[:2], evaluation)
    if evaluation.mode == "whole":
        region = (slice(0, image.shape[0]), slice(0, image.shape[1]))
        return [Window(_padded(image, size, pad_value), region)]
    if evaluation.mode == "resize":
        region = (slice(0, image.shape[0]), slice(0, image.shape[1]))
        return [Window(_antialiased(image, size), region)]
    if evaluation.mode == "tile":
        return _tiles(image, size, margin)
    return _sliding(image, evaluation, size, pad_value)


def _antialiased(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize as Pillow does: it antialiases when it shrinks, as most programs that prepare images
    do.
    """

    def small(pixels: np.ndarray) -> np.ndarray:
        bilinear = Image.Resampling.BILINEAR
        return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), bilinear))

    if image.shape[2] == 3 and image.dtype == np.uint8:
        return small(image)
    channels = (np.ascontiguousarray(image[..., c]) for c in range(image.shape[2]))
    return np.stack([small(channel) for channel in channels], axis=-1)


def _padded(image: np.ndarray, size: tuple[int, int], pad_value: Sequence[float]) -> np.ndarray:
    """Pad at the bottom and the right to at least `size`."""
    height, width = image.shape[:2]
    shape = max(size[0], height), max(size[1], width), image.shape[2]
    padded = np.empty(shape, image.dtype)
    padded[:] = np.asarray(pad_value, image.dtype)
    padded[:height, :width] = image
    return padded


def _tiles(image: np.ndarray, size: tuple[int, int], margin: int) -> list[Window]:
    height, width = image.shape[:2]
    rows, columns = (length - 2 * margin for length in size)
    mirrored = np.pad(
        image,
        ((margin, margin + -height % rows), (margin, margin + -width % columns), (0, 0)),
        mode="reflect",
    )
    return [
        Window(
            mirrored[top : top + size[0], left : left + size[1]],
            (slice(top, min(top + rows, height)), slice(left, min(left + columns, width))),
        )
        for top in range(0, height, rows)
        for left in range(0, width, columns)
    ]


def _sliding(
    image: np.ndarray, evaluation: EvalConfig, size: tuple[int, int], pad_value: Sequence[float]
) -> list[Window]:
    found = []
    for index, scaled_size in enumerate(scaled_sizes(image.shape[:2], evaluation)):
        scaled = _padded(resized(image, scaled_size), size, pad_value)
        starts = [
            window_starts(length, window, evaluation.stride)
            for length, window in zip(scaled.shape[:2], size, strict=True)
        ]
        for top in starts[0]:
            for left in starts[1]:
                region = (slice(top, top + size[0]), slice(left, left + size[1]))
                found.append(Window(scaled[region], region, index))
    return found


def scaled_sizes(size: tuple[int, int], evaluation: EvalConfig) -> list[tuple[int, int]]:
    """Return (height, width) of an image at each scale ("sliding").

    The long side is (long_side - 1) * scale + 1, PSPNet's 512 * scale + 1; the other follows.
    """
    longest = max(size)
    found = []
    for scale in evaluation.scales:
        long_side = round(((evaluation.long_side or longest) - 1) * scale) + 1
        height, width = (max(1, round(length * long_side / longest)) for length in size)
        found.append((height, width))
    return found


def window_starts(length: int, window: int, stride: float) -> list[int]:
    """Return the first pixel of each window along an axis of `length` >= `window` px.

    Windows start every `stride` * window px, rounded up; the last is moved back to end at `length`.
    """
    step = math.ceil(stride * window)
    count = math.ceil((length - window) / step) + 1
    return [min(index * step, length - window) for index in range(count)]


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize [h w c] bilinearly to [*size c], half-pixel centres, without antialiasing.

    Training scales its images in the same way. (PSPNet's release antialiases when it shrinks:
    Matlab's default.)
    """
    if image.shape[:2] == size:
        return image
    rows, columns = (
        (np.arange(new) + 0.5) * (old / new) for old, new in zip(image.shape[:2], size, strict=True)
    )
    return sample_bilinear(image, rows, columns)


def stack(arrays: Sequence[np.ndarray], count: int, *, fill: int = 0) -> np.ndarray:
    """Stack up to `count` arrays of one shape to [count ...]; the remaining places hold `fill`."""
    batch = np.full((count, *arrays[0].shape), fill, arrays[0].dtype)
    for slot, array in zip(batch, arrays, strict=False):
        slot[...] = array
    return batch


def cut_label(label: np.ndarray, region: tuple[slice, slice], size: tuple[int, int]) -> np.ndarray:
    """Return a region of a label [h w], padded with IGNORE to `size`, uint8."""
    out = np.full(size, IGNORE, np.uint8)
    part = label[region]
    out[: part.shape[0], : part.shape[1]] = part
    return out
