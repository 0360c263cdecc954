"""Class probabilities of an image of any size, at that size, under the evaluation protocol.

`windows` cuts the image, the network predicts each window at the protocol's scales and mirrored,
and `stitching` merges the predictions.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seg_jax.experiment import EvalConfig, Experiment
from seg_jax.inference import stitching, strips, windows
from seg_jax.nn.resize import resize_align_corners, resize_half_pixel
from seg_jax.parallel import compiler


def needs_probabilities(evaluation: EvalConfig) -> bool:
    """Whether the host needs the probabilities of windows, not only the most probable classes."""
    return evaluation.mode in ("sliding", "resize")


def probabilities(experiment: Experiment, variables: Any, image: Any) -> jax.Array:
    """Return the class probabilities of a batch of windows, fused over scales and mirror images.

    Compiles once for each window shape and scale.

    Args:
      experiment: gives model, preprocessing and evaluation protocol.
      variables: of the model.
      image: uint8 [n h w 3].

    Returns:
      float32 [n h-2m w-2m k] at scale 1, with m the model's margin.
    """
    evaluation = experiment.evaluation
    # For sliding windows, `windows.cut` has already scaled the image.
    scales = (1.0,) if evaluation.mode == "sliding" else evaluation.scales
    views = (
        _view(
            variables,
            image,
            model=experiment.model,
            preprocessing=experiment.data.preprocessing,
            size=scaled_size(image.shape[1:3], scale, evaluation),
            scaling=evaluation.scaling,
            fusion=evaluation.fusion,
            flip=evaluation.flip,
            turns=evaluation.turns,
        )
        for scale in scales
    )
    fused = functools.reduce(functools.partial(_fuse, fusion=evaluation.fusion), views)
    if evaluation.fusion == "max_logits":
        return _softmax(fused)
    return fused if len(scales) == 1 else fused / np.float32(len(scales))


def scaled_size(size: tuple[int, int], scale: float, evaluation: EvalConfig) -> tuple[int, int]:
    """Return (height, width) of a window of `size`, scaled."""
    rest = 1 if evaluation.scaling == "align_corners" else 0
    height, width = (max(1, round((length - rest) * scale) + rest) for length in size)
    return height, width


@functools.partial(
    compiler.jit,
    static_argnames=("model", "preprocessing", "size", "scaling", "fusion", "flip", "turns"),
)
def _view(variables, image, *, model, preprocessing, size, scaling, fusion, flip, turns):
    """Return the fused scores at one scale: probabilities, or logits for "max_logits".

    With aligned corners and input sizes k * stride + 1, the points of the network's output grid lie
    on pixels. Resizing the upsampled logits again then equals one interpolation from that grid to
    the canvas, as in DeepLab's release. Other sizes are padded (`windows.fit`).
    """
    resize = {"half_pixel": resize_half_pixel, "align_corners": resize_align_corners}[scaling]
    scaled = resize(preprocessing(image), size)
    scores = []
    for turn in range(turns):
        turned = jnp.rot90(scaled, turn, axes=(1, 2))
        found = _scores(model, variables, windows.fit(model, turned), flip=flip)
        height, width = windows.scores_size(model, turned)
        scores += [jnp.rot90(part[:, :height, :width], -turn, axes=(1, 2)) for part in found]
    if size != image.shape[1:3]:
        scores = [resize(part, image.shape[1:3]) for part in scores]
    if fusion == "max_logits":
        return functools.reduce(jnp.maximum, scores)
    if fusion == "mirror_logits":
        return jax.nn.softmax(sum(scores), axis=-1)
    return sum(jax.nn.softmax(part, axis=-1) for part in scores) / np.float32(len(scores))


def _scores(model, variables, image, *, flip):
    """Return the scores of the images and, if `flip`, of their mirror images, mirrored back."""
    if not flip:
        return [model.apply(variables, image, train=False)["out"]]
    # Adjacent on the batch axis, so that a sharded batch stays on its devices.
    both = jnp.stack([image, image[:, :, ::-1]], axis=1)
    found = model.apply(variables, both.reshape(-1, *both.shape[2:]), train=False)["out"]
    found = found.reshape(-1, 2, *found.shape[1:])
    return [found[:, 0], found[:, 1, :, ::-1]]


@functools.partial(jax.jit, static_argnames="fusion")
def _fuse(fused, view, *, fusion):
    return jnp.maximum(fused, view) if fusion == "max_logits" else fused + view


@jax.jit
def _softmax(scores):
    return jax.nn.softmax(scores, axis=-1)


def predict_probabilities(experiment: Experiment, variables: Any, image: np.ndarray) -> np.ndarray:
    """Return the class probabilities of one image.

    Args:
      experiment: gives model, preprocessing and evaluation protocol.
      variables: of the model.
      image: uint8 [h w 3], RGB, any size.

    Returns:
      float32 [h w k]; they sum to 1 over k.
    """
    return _stitched(experiment, variables, image, probabilities)


def predict_labels(experiment: Experiment, variables: Any, image: np.ndarray) -> np.ndarray:
    """Return the most probable class of each pixel, uint8 [h w], for uint8 [h w 3]."""
    if needs_probabilities(experiment.evaluation):
        return labels(predict_probabilities(experiment, variables, image))
    if strips.chosen(experiment.evaluation):
        return _stitched(experiment, variables, image, strips.labels)

    def most_probable_of(*inputs: Any) -> jax.Array:
        return most_probable(probabilities(*inputs))

    return _stitched(experiment, variables, image, most_probable_of)


def labels(found: np.ndarray) -> np.ndarray:
    """Return the most probable class of each pixel, uint8 [h w], for probabilities [h w k]."""
    return found.argmax(-1).astype(np.uint8)


@jax.jit
def most_probable(found: jax.Array) -> jax.Array:
    """Return the most probable class of each pixel, uint8 [...], for probabilities [... k]."""
    return jnp.argmax(found, axis=-1).astype(jnp.uint8)


def _stitched(
    experiment: Experiment,
    variables: Any,
    image: np.ndarray,
    find: Callable[[Experiment, Any, Any], jax.Array],
) -> np.ndarray:
    """Return what `find` finds in the windows, [n h w ...], merged to [h w ...]."""
    seen = experiment.data.preprocessing
    fits = image.ndim == 3 and image.shape[2] == seen.channels and image.dtype == seen.dtype
    if not fits or not image.size:
        raise ValueError(
            f"image must be {seen.dtype} [h w {seen.channels}], got {image.dtype} {image.shape}"
        )
    windows.check_evaluation(experiment)
    cut = windows.cut(
        image,
        experiment.evaluation,
        margin=windows.model_margin(experiment.model),
        pad_value=experiment.data.preprocessing.pad_value,
    )
    whole = stitching.stitch(image.shape[:2], cut, experiment.evaluation)
    size = min(experiment.evaluation.batch_size, len(cut))
    for start in range(0, len(cut), size):
        part = cut[start : start + size]
        batch = windows.stack([window.image for window in part], size)
        predictions = np.asarray(find(experiment, variables, batch))
        for window, prediction in zip(part, predictions, strict=False):
            whole.add(window, prediction)
    return whole.result()
