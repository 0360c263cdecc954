"""Prediction in a single forward pass, as one function of images of one size.

The function includes the steps that `inference` runs on the host: the image is padded, mirrored or
resized to the network's input size and normalised, and the scores are cropped or resized back to
the image.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from seg_jax import checks
from seg_jax.experiment import EvalConfig, Experiment
from seg_jax.inference import windows
from seg_jax.nn import lowering
from seg_jax.nn.input_sizes import legal_side
from seg_jax.nn.resize import resize_half_pixel

Output = Literal["labels", "probabilities", "logits"]
Size = tuple[int, int]


def plan(
    experiment: Experiment, size: Size | None = None, resize_to: Size | None = None
) -> tuple[Experiment, Size]:
    """Return the experiment with a single-pass evaluation protocol, and the size of its images.

    Several scales, mirror images and overlapping windows become one pass over the whole image,
    tiles become one tile, and there is no dense CRF. An artefact computes
    `inference.predict_probabilities` of the resulting experiment.

    Args:
      experiment: of the network.
      size: (height, width) of the images; None: the network's input in its evaluation protocol.
      resize_to: (height, width) that images are resized to, and the scores back from; None: as
        in the protocol.

    Raises:
      UserError: no size is known, or the network does not take it, or other images than RGB.
    """
    evaluation = experiment.evaluation
    margin = windows.model_margin(experiment.model)
    seen = experiment.data.preprocessing
    if not seen.is_plain:
        raise checks.UserError(
            f"exports take RGB of 8 bits; this network takes {seen.channels} channels of the range "
            f"{seen.range}: hand it on with `weights release`"
        )
    if size is None:
        if evaluation.canvas is None:
            raise checks.UserError(
                "the experiment's evaluation has no canvas: give the size of the images, "
                "--size HEIGHT WIDTH"
            )
        height, width = evaluation.canvas
        size = (height - 2 * margin, width - 2 * margin)
    checks.positive(height=size[0], width=size[1])
    one = dataclasses.replace(
        evaluation, scales=(1.0,), flip=False, turns=1, fusion="probabilities", crf=None
    )
    if resize_to is not None or evaluation.mode == "resize":
        found = dataclasses.replace(one, mode="resize", canvas=resize_to or evaluation.canvas)
    elif evaluation.mode == "tile":
        height, width = (legal_side(experiment.model, side + 2 * margin) for side in size)
        found = dataclasses.replace(one, canvas=(height, width))
    else:
        found = _whole(experiment, one, size)
    planned = dataclasses.replace(experiment, evaluation=found)
    windows.check_evaluation(planned)
    assert found.canvas is not None, "`_whole` sets it, and the other modes were checked for it"
    _check_legal(experiment.model, found.canvas)
    return planned, size


def sides(model: Any) -> tuple[int, int]:
    """Return (step, rest): the network takes every side of step k + rest px, of 96 px or more.

    The step of a network that takes any side is 32.

    Raises:
      UserError: its sides are not of this kind.
    """
    legal = [side for side in range(192, 512) if _is_legal(model, side)]
    steps = {after - before for before, after in zip(legal, legal[1:], strict=False)}
    if len(steps) != 1:
        raise checks.UserError("--any-size: this network's sides are no multiples of one number")
    (step,) = steps
    return (32, 0) if step == 1 else (step, legal[0] % step)


def plan_exactly(experiment: Experiment, size: Size) -> tuple[Experiment, Size]:
    """Return `plan` for images that the network sees as they are."""
    return plan(experiment.with_evaluation(mode="whole", canvas=size, scales=(1.0,)), size)


def any_size(experiment: Experiment, output: Output) -> tuple[Callable, tuple[int, int]]:
    """Return a function of variables and images as `function` does, for images of every size that
    the network takes, which it sees as they are; and (step, rest) of `sides`.

    Raises:
      UserError: the network's scores are smaller than the image (U-Net's valid convolutions), or
        it takes other images than RGB.
    """
    step, rest = sides(experiment.model)
    side = step * (256 // step) + rest
    planned, _ = plan_exactly(experiment, (side, side))
    model, normalise = planned.model, planned.data.preprocessing

    def run(variables: Any, image: jax.Array, convolutions: str = "xla") -> jax.Array:
        with lowering.use(convolutions):
            seen = normalise(image.astype(jnp.float32))
            scores = model.apply(variables, seen, train=False)["out"]
        return _output(scores, output)

    return run, (step, rest)


def _is_legal(model: Any, side: int) -> bool:
    return getattr(model, "legal_sizes", lambda side: (side,))(side) == (side,)


def _whole(experiment: Experiment, one: EvalConfig, size: Size) -> EvalConfig:
    canvas = one.canvas or windows.input_size(size, one)
    whole = dataclasses.replace(one, mode="whole", canvas=canvas)
    large = windows.covering(dataclasses.replace(experiment, evaluation=whole), size)
    return large.evaluation


def _check_legal(model: Any, canvas: Size) -> None:
    for side in canvas:
        legal = getattr(model, "legal_sizes", lambda side: (side,))(side)
        if side not in legal:
            raise checks.UserError(
                f"the network does not take sides of {side} px; the nearest that it takes: "
                f"{', '.join(map(str, legal))}"
            )


def function(experiment: Experiment, size: Size, output: Output) -> Callable:
    """Return a function of variables and images, uint8 [n *size 3] RGB, that returns `output`.

    "labels" are uint8 [n *size], "probabilities" and "logits" float32 [n *size k]. Convolutions are
    lowered to XLA's convolution, which every runtime supports, unless the function is called with
    another choice of `nn.lowering.use`.

    Args:
      experiment: as `plan` returns it.
      size: (height, width) of the images.
      output: kind of the result.
    """
    checks.one_of(("labels", "probabilities", "logits"), output=output)
    model, normalise = experiment.model, experiment.data.preprocessing
    evaluation, margin = experiment.evaluation, windows.model_margin(experiment.model)

    def run(variables: Any, image: jax.Array, convolutions: str = "xla") -> jax.Array:
        with lowering.use(convolutions):
            seen = _fitted(image.astype(jnp.float32), evaluation, margin, normalise.pad_value)
            scores = model.apply(variables, normalise(seen), train=False)["out"]
            if evaluation.mode == "resize":
                scores = resize_half_pixel(scores, size)
            else:
                scores = scores[:, : size[0], : size[1]]
        return _output(scores, output)

    return run


def _output(scores: jax.Array, output: Output) -> jax.Array:
    if output == "labels":
        return jnp.argmax(scores, axis=-1).astype(jnp.uint8)
    return jax.nn.softmax(scores, axis=-1) if output == "probabilities" else scores


def _fitted(image: jax.Array, evaluation: EvalConfig, margin: int, pad_value: Any) -> jax.Array:
    """Fit images [n h w 3], 0..255, to the network's input size: [n *canvas 3]."""
    canvas, size = evaluation.canvas, image.shape[1:3]
    assert canvas is not None, "`plan` sets it"
    after = [(margin, seen - margin - side) for seen, side in zip(canvas, size, strict=True)]
    if evaluation.mode == "resize":
        return _resized_as_pillow(image, canvas)
    if evaluation.mode == "tile":
        return jnp.pad(image, ((0, 0), *after, (0, 0)), mode="reflect")
    colour = np.asarray(pad_value, np.float32).reshape(1, 1, 1, 3)
    # Differences of integers below 256 are exact, so the padding is exactly the colour.
    return jnp.pad(image - colour, ((0, 0), *after, (0, 0))) + colour


def _resized_as_pillow(image: jax.Array, size: Size) -> jax.Array:
    """Resize integers [n h w 3] bit for bit as the installed Pillow's BILINEAR does.

    Pillow uses weights with 22 fractional bits and rounds to 8 bits after each pass. The upper and
    lower halves of the weights are multiplied separately: all sums are integers that float32
    represents exactly, so every runtime computes the same result.
    """
    height, width = image.shape[1:3]
    passes = [("nhwc,ow->nhoc", width, size[1]), ("nhwc,oh->nowc", height, size[0])]
    for spec, old, new in passes if _along_rows_first((height, width), size) else passes[::-1]:
        if old == new:
            continue
        weights = np.floor(_triangles(old, new) * 2**22 + 0.5)
        upper = np.rint(weights / 2**11)
        total, rest = (
            jnp.einsum(spec, image, half.astype(np.float32), precision=jax.lax.Precision.HIGHEST)
            for half in (upper, weights - upper * 2**11)
        )
        total = total + jnp.floor(rest / np.float32(2**11)) + np.float32(2**10)
        image = jnp.floor(total / np.float32(2**11))
    return image


def _along_rows_first(old: Size, new: Size) -> bool:
    """Find the order of Pillow's two passes: from version 13 on it depends on the sizes."""
    noise = np.random.default_rng(0).integers(0, 256, old, np.uint8)
    bilinear = Image.Resampling.BILINEAR
    direct = Image.fromarray(noise).resize((new[1], new[0]), bilinear)
    rows_first = Image.fromarray(noise).resize((new[1], old[0]), bilinear)
    rows_first = rows_first.resize((new[1], new[0]), bilinear)
    return np.array_equal(np.asarray(direct), np.asarray(rows_first))


def _triangles(size: int, new_size: int) -> np.ndarray:
    """Return the matrix [new_size size] of triangle filters, at least one new pixel wide."""
    scale = max(size / new_size, 1.0)
    centre = (np.arange(new_size) + 0.5) * (size / new_size) - 0.5
    matrix = np.maximum(0.0, 1.0 - np.abs(centre[:, None] - np.arange(size)) / scale)
    return matrix / matrix.sum(1, keepdims=True)
