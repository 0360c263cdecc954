"""Labels of windows, and their confusion counts, without logits of the windows' size."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from seg_jax import checks
from seg_jax.experiment import EvalConfig, Experiment
from seg_jax.inference import windows
from seg_jax.kernels import upsampled_logits
from seg_jax.nn import upsampled
from seg_jax.parallel import compiler
from seg_jax.types import IGNORE


def chosen(evaluation: EvalConfig) -> bool:
    """Whether the labels of a window are found in strips: it is asked for, and seen only once."""
    once = evaluation.scales == (1.0,) and not evaluation.flip and evaluation.turns == 1
    return evaluation.logits == "strips" and once and evaluation.mode in ("whole", "tile")


def labels(experiment: Experiment, variables: Any, image: Any) -> jax.Array:
    """Return the most probable class of each pixel, uint8 [n h-2m w-2m], m the model's margin.

    Args:
      experiment: `chosen` holds for its protocol.
      variables: of the model.
      image: uint8 [n h w 3].

    Raises:
      UserError: the network ends with other layers than a fixed upsampling.
    """
    return found(experiment, variables, image, None, None)[0]


def found(
    experiment: Experiment, variables: Any, image: Any, label: Any, num_classes: int | None
) -> tuple[jax.Array, jax.Array | None]:
    """Return `labels`; and for labels uint8 [n h-2m w-2m] their confusion counts, int32 [k k].

    Raises:
      UserError: as `labels`; or the network does not have `num_classes` classes.
    """
    return _run(
        variables,
        image,
        label,
        model=experiment.model,
        preprocessing=experiment.data.preprocessing,
        num_classes=num_classes,
    )


@functools.partial(compiler.jit, static_argnames=("model", "preprocessing", "num_classes"))
def _run(variables, image, label, *, model, preprocessing, num_classes):
    with upsampled.deferring():
        outputs = model.apply(variables, windows.fit(model, preprocessing(image)), train=False)
    try:
        upsampled.check_deferred(outputs, ["out"])
    except ValueError as error:
        raise checks.UserError(f"evaluation.{error}") from error
    logits = outputs["out"]
    args = logits.scores, logits.vertical, logits.horizontal
    if num_classes is not None:
        checks.scored_classes(logits.shape[-1], num_classes)
    height, width = windows.scores_size(model, image)
    if label is None:
        found, counts = upsampled_logits.labels(*args), None
    else:
        more = [
            (0, whole - part)
            for whole, part in zip(logits.shape[1:3], label.shape[1:], strict=True)
        ]
        label = jnp.pad(label, ((0, 0), *more), constant_values=IGNORE)
        found, counts = upsampled_logits.confusion(*args, label)
    return found[:, :height, :width].astype(jnp.uint8), counts
