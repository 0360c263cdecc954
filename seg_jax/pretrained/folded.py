"""Batch norms that were folded into the convolutions before them: find them, make them trainable.

A folded norm is imported as y = scale (x - mean) / sqrt(var + epsilon) + bias with mean 0 and
variance 1 - epsilon, which is right in evaluation. In training the batch's statistics would take
their place, and the network would become another one. So they are estimated first: from the mean
m and the variance v of what enters the norm, mean <- m and var <- v, and scale and bias are changed
so that the function stays.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from seg_jax.checks import UserError
from seg_jax.nn import norm_inputs
from seg_jax.nn.norm import Norm
from seg_jax.pretrained.layers import layers_of, split_path

IMAGES = 128  # training images that the statistics are estimated on
_MEAN, _VAR = "batch_stats/mean", "batch_stats/var"
# Returns an iterator of training images as the network is to see them, uint8 [n h w 3].
Images = Callable[[], Iterator[np.ndarray]]


def find(variables: Any) -> set[str]:
    """Return the layers whose running averages are no statistics: the norms that were folded.

    They are known by their values, in whatever file they come: one and the same variance, near 1,
    in all channels.
    """
    return {
        layer
        for layer, arrays in layers_of(variables).items()
        if _VAR in arrays and _is_constant(np.asarray(arrays[_VAR]))
    }


def _is_constant(var: np.ndarray) -> bool:
    return bool(np.all(var == var.flat[0]) and abs(float(var.flat[0]) - 1) < 0.01)


def estimate(
    variables: Any,
    model: Any,
    preprocessing: Callable[[Any], Any],
    layers: Iterable[str],
    images: Iterator[np.ndarray],
    *,
    count: int = IMAGES,
) -> tuple[Any, int]:
    """Give folded norms the statistics of what enters them; the function stays.

    The network is evaluated once on each image: as its function does not change, one pass serves
    all layers.

    Args:
      variables: {"params": ..., "batch_stats": ...}.
      model: Linen module.
      preprocessing: uint8 [n h w 3] -> float32 [n h w c].
      layers: the folded norms, by name.
      images: uint8 [n h w 3], endless.
      count: images to look at, at least.

    Returns:
      The variables, and the number of images that were looked at.
    """
    layers = set(layers)

    @jax.jit
    def look(variables: Any, image: Any) -> dict[str, list[norm_inputs.Moments]]:
        found = norm_inputs.moments(model, variables, preprocessing(image))
        return {layer: calls for layer, calls in found.items() if layer in layers}

    total: dict[str, _Sum] = {}
    seen = 0
    while seen < count:
        image = next(images)
        for layer, calls in jax.device_get(look(variables, image)).items():
            for found in calls:
                total[layer] = _merge(total.get(layer), found)
        seen += len(image)
    moments: dict[str, Any] = {
        layer: {"mean": np.float32(mean), "var": np.float32(var)}
        for layer, (_, mean, var) in total.items()
    }
    if jax.process_count() > 1:  # one process's, to the bit
        moments = multihost_utils.broadcast_one_to_all(moments)
    shape = jax.eval_shape(preprocessing, image).shape
    return _with_statistics(variables, moments, norm_inputs.norms(model, shape)), seen


_Sum = tuple[float, Any, Any]  # count, mean, variance; float64


def _merge(total: _Sum | None, new: norm_inputs.Moments) -> _Sum:
    """Return the mean and variance of two sets of values (Chan, Golub & LeVeque 1979)."""
    count, mean, var = float(new.count), np.float64(new.mean), np.float64(new.var)
    if total is None:
        return count, mean, var
    before, old_mean, old_var = total
    both = before + count
    shift = mean - old_mean
    var = (before * old_var + count * var + shift**2 * (before * count / both)) / both
    return both, old_mean + shift * (count / both), var


def _with_statistics(
    variables: Any, moments: Mapping[str, Mapping[str, np.ndarray]], norms: Mapping[str, Norm]
) -> Any:
    """Give norms these means and variances, and the scale and bias with which they do the same.

    With a = scale / sqrt(var + epsilon), a norm is y = a x + (bias - a mean).
    """
    known, new = layers_of(variables), {}
    for layer, found in moments.items():
        old = {name: np.float64(value) for name, value in known[layer].items()}
        mean, var = np.float64(found["mean"]), np.float64(found["var"])
        epsilon = norms[layer].epsilon
        factor = old["scale"] / np.sqrt(old[_VAR] + epsilon)
        new[layer] = {
            _MEAN: mean,
            _VAR: var,
            "scale": factor * np.sqrt(var + epsilon),
            "bias": old["bias"] + factor * (mean - old[_MEAN]),
        }

    def choose(path: tuple[Any, ...], leaf: Any) -> Any:
        layer, name = split_path(path)
        return np.asarray(new[layer][name], np.float32) if layer in new else leaf

    return jax.tree.map_with_path(choose, variables)


def prepare(
    variables: Any,
    model: Any,
    preprocessing: Callable[[Any], Any],
    layers: Iterable[str],
    images: Images | None,
    *,
    image_shape: tuple[int, ...],
    source: str,
) -> tuple[Any, str]:
    """Make the folded norms of a network ready for a training.

    Args:
      variables: {"params": ..., "batch_stats": ...} of the network that starts.
      model: Linen module.
      preprocessing: uint8 [n h w 3] -> float32 [n h w c].
      layers: of the network, whose norms came folded.
      images: returns training images, uint8 [n h w 3], endlessly; None: there are none.
      image_shape: float32 [n h w c] of an image that the model takes.
      source: of the weights, for errors.

    Returns:
      The variables, and what was done in words; empty: nothing is folded.

    Raises:
      UserError: there are no images, and the norms are not frozen.
    """
    norms = norm_inputs.norms(model, image_shape)
    folded = sorted(set(layers) & norms.keys())
    trained = [layer for layer in folded if norms[layer].averages]
    frozen = len(folded) - len(trained)
    words = [f"{frozen} folded norms are frozen: nothing to estimate"] if frozen else []
    if trained and images is None:
        raise UserError(
            f"{source}: its batch norms are folded: without statistics, a training with those of "
            'the batch is one of another network. Freeze the norms (statistics="frozen" in '
            "every Norm of the model), or give training images, on which they are estimated"
        )
    if trained and images is not None:
        variables, count = estimate(variables, model, preprocessing, trained, images())
        words.insert(0, f"statistics of {len(trained)} folded norms estimated on {count} images")
    return variables, "; ".join(words)
