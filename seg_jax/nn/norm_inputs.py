"""What enters each batch norm of a network: its mean and variance, and the norm's settings."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from seg_jax.nn.norm import BatchNorm, Norm, batch_statistics


class Moments(NamedTuple):
    """Mean and biased variance [c], float32, of `count` values a channel."""

    count: int
    mean: Any
    var: Any


def norms(model: Any, image_shape: tuple[int, ...]) -> dict[str, Norm]:
    """Return the settings of every batch norm by its layer ("backbone/conv/bn"); nothing is run.

    Args:
      model: Linen module, called as `model(image, train=False)`.
      image_shape: float32 [n h w c] of an image that it takes.
    """
    found: dict[str, Norm] = {}

    def init(key: jax.Array) -> Any:
        with _watching(lambda layer, norm, x: found.update({layer: norm})):
            return model.init(key, np.zeros(image_shape, np.float32), train=False)

    jax.eval_shape(init, jax.random.key(0))
    return found


def moments(model: Any, variables: Any, image: Any) -> dict[str, list[Moments]]:
    """Return the moments of what enters each batch norm in evaluation mode, one for every call.

    A network that sees its image at several scales calls each of its norms once a scale.

    Args:
      model: Linen module.
      variables: {"params": ..., "batch_stats": ...}.
      image: float32 [n h w c], normalised.
    """
    found: dict[str, list[Moments]] = {}

    def see(layer: str, norm: Norm, x: Any) -> None:
        count = int(np.prod(x.shape[:-1]))
        found.setdefault(layer, []).append(Moments(count, *batch_statistics(x)))

    with _watching(see):
        model.apply(variables, image, train=False)
    return found


@contextlib.contextmanager
def _watching(see: Callable[[str, Norm, Any], None]) -> Iterator[None]:
    """Call `see` with layer, settings and input of every batch norm that is called inside."""

    def intercept(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        module = context.module
        if isinstance(module, BatchNorm) and context.method_name == "__call__":
            see("/".join(module.path), module.norm, args[0] if args else kwargs["x"])
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        yield
