"""From an image of any size to class scores at that size, by the protocol of the evaluation.

A protocol cuts an image into windows of few distinct shapes, so that images of hundreds of sizes
mean a handful of compilations. "whole": one window, the image padded at the bottom and the right
with the mean colour. "tile": U-Net's overlap-tile (Ronneberger et al., MICCAI 2015, sec. 2):
windows that overlap by what valid convolutions cut off, over the image continued by mirroring.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seg_jax import checks
from seg_jax.experiment import EvalConfig, Experiment
from seg_jax.types import IGNORE


class Window(NamedTuple):
    """One forward pass' share of an image.

    Attributes:
      image: uint8 [h w 3], what the network sees.
      region: rows and columns of the original image that the window answers for; the first pixel
        of its scores is the first of the region, and scores beyond the region are dropped.
    """

    image: np.ndarray
    region: tuple[slice, slice]


def model_margin(model: Any) -> int:
    """Return how many pixels the model's scores lose on each side; 0 unless it says `margin`."""
    return int(getattr(model, "margin", 0))


def input_size(size: tuple[int, int], evaluation: EvalConfig) -> tuple[int, int]:
    """Return (height, width) of what the network sees for an image of `size` (height, width).

    Raises:
      UserError: the canvas does not cover the image.
    """
    if evaluation.canvas is None:
        bucket, rest = evaluation.bucket, evaluation.bucket_rest
        height, width = (max(-((side - rest) // -bucket), 0) * bucket + rest for side in size)
        return height, width
    height, width = evaluation.canvas
    if evaluation.protocol == "whole" and (size[0] > height or size[1] > width):
        raise checks.UserError(
            f"evaluation.canvas {height}x{width} does not cover an image of {size[0]}x{size[1]} "
            "(height x width): give a larger canvas, or None to pad to evaluation.bucket"
        )
    return height, width


def check_protocol(experiment: Experiment) -> None:
    """Raise UserError unless the experiment's protocol fits its model."""
    evaluation, margin = experiment.evaluation, model_margin(experiment.model)
    if evaluation.protocol == "whole":
        if margin:
            raise checks.UserError(
                f"evaluation.protocol is 'whole', but the model's scores lose {margin} px on each "
                "side of its input: use 'tile'"
            )
    elif evaluation.canvas is None:
        raise checks.UserError(
            "evaluation.protocol is 'tile' without evaluation.canvas: "
            "give the (height, width) of a tile as the network sees it"
        )
    elif min(evaluation.canvas) <= 2 * margin:
        raise checks.UserError(
            f"evaluation.canvas {evaluation.canvas} leaves nothing of a tile: the model's scores "
            f"lose {margin} px on each side"
        )


def windows(
    image: np.ndarray, evaluation: EvalConfig, *, margin: int, pad_value: Sequence[int]
) -> list[Window]:
    """Cut an image into the windows of the protocol.

    Args:
      image: uint8 [h w 3], RGB.
      evaluation: the protocol.
      margin: pixels that the model's scores lose on each side of its input ("tile").
      pad_value: uint8 RGB that the image is padded with ("whole").

    Returns:
      Windows of one shape, whose regions cover the image without overlap.
    """
    height, width = image.shape[:2]
    window_height, window_width = input_size((height, width), evaluation)
    if evaluation.protocol == "whole":
        canvas = np.empty((window_height, window_width, 3), np.uint8)
        canvas[:] = np.asarray(pad_value, np.uint8)
        canvas[:height, :width] = image
        return [Window(canvas, (slice(0, height), slice(0, width)))]
    rows, columns = window_height - 2 * margin, window_width - 2 * margin
    mirrored = np.pad(
        image,
        ((margin, margin + -height % rows), (margin, margin + -width % columns), (0, 0)),
        mode="reflect",
    )
    return [
        Window(
            mirrored[top : top + window_height, left : left + window_width],
            (slice(top, min(top + rows, height)), slice(left, min(left + columns, width))),
        )
        for top in range(0, height, rows)
        for left in range(0, width, columns)
    ]


def logits(variables: Any, image: Any, *, model: Any, preprocessing: Any) -> Any:
    """Return float32 [n h-2m w-2m k] for uint8 [n h w 3], m the model's margin. Not compiled."""
    return model.apply(variables, preprocessing(image), train=False)["out"]


@functools.partial(jax.jit, static_argnames=("model", "preprocessing"))
def _probabilities(variables: Any, image: Any, *, model: Any, preprocessing: Any) -> Any:
    scores = logits(variables, image, model=model, preprocessing=preprocessing)
    return jax.nn.softmax(scores, axis=-1)


@functools.partial(jax.jit, static_argnames=("model", "preprocessing"))
def _labels(variables: Any, image: Any, *, model: Any, preprocessing: Any) -> Any:
    scores = logits(variables, image, model=model, preprocessing=preprocessing)
    return jnp.argmax(scores, axis=-1).astype(jnp.uint8)


def predict_probabilities(experiment: Experiment, variables: Any, image: np.ndarray) -> np.ndarray:
    """Return the class probabilities of one image.

    Compiles once for each window shape of the experiment's protocol.

    Args:
      experiment: its model, preprocessing and evaluation protocol are used.
      variables: of the model.
      image: uint8 [h w 3], RGB, any size.

    Returns:
      float32 [h w k]; they sum to 1 over k.
    """
    return _stitched(experiment, variables, image, _probabilities)


def predict_labels(experiment: Experiment, variables: Any, image: np.ndarray) -> np.ndarray:
    """Return the most probable class of each pixel, uint8 [h w], for uint8 [h w 3]."""
    return _stitched(experiment, variables, image, _labels)


def _stitched(
    experiment: Experiment, variables: Any, image: np.ndarray, forward: Callable
) -> np.ndarray:
    """Run `forward` over the image's windows and put the answers together, [h w ...]."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image must be uint8 [h w 3], got {image.dtype} {image.shape}")
    check_protocol(experiment)
    model, preprocessing = experiment.model, experiment.data.preprocessing
    cut = windows(
        image,
        experiment.evaluation,
        margin=model_margin(model),
        pad_value=preprocessing.pad_value,
    )
    size = min(experiment.evaluation.batch_size, len(cut))
    out = None
    for start in range(0, len(cut), size):
        part = cut[start : start + size]
        batch = stack([window.image for window in part], size)
        answers = np.asarray(forward(variables, batch, model=model, preprocessing=preprocessing))
        if out is None:
            out = np.empty((*image.shape[:2], *answers.shape[3:]), answers.dtype)
        for window, answer in zip(part, answers, strict=False):
            place(out, window.region, answer)
    return out


def stack(arrays: Sequence[np.ndarray], count: int, *, fill: int = 0) -> np.ndarray:
    """Stack up to `count` arrays of one shape to [count ...]; the places left over hold `fill`."""
    batch = np.full((count, *arrays[0].shape), fill, arrays[0].dtype)
    for slot, array in zip(batch, arrays, strict=False):
        slot[...] = array
    return batch


def place(out: np.ndarray, region: tuple[slice, slice], answer: np.ndarray) -> None:
    """Write a window's answer [h' w' ...] into its region of `out` [h w ...]."""
    rows, columns = region
    out[region] = answer[: rows.stop - rows.start, : columns.stop - columns.start]


def cut_label(label: np.ndarray, region: tuple[slice, slice], size: tuple[int, int]) -> np.ndarray:
    """Return the region of a label [h w], filled up with IGNORE to `size`, uint8."""
    out = np.full(size, IGNORE, np.uint8)
    part = label[region]
    out[: part.shape[0], : part.shape[1]] = part
    return out


def by_input_size(sizes: Sequence[tuple[int, int]], evaluation: EvalConfig) -> Iterator[list[int]]:
    """Group the indices of images by what the network sees: one compilation a group."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(sizes):
        groups.setdefault(input_size(size, evaluation), []).append(index)
    yield from groups.values()
