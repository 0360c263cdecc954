"""Batch norms with another epsilon than in the weights: adapted, so that they compute the same."""

import collections
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from seg_jax.experiment import Experiment
from seg_jax.nn import norm_inputs
from seg_jax.pretrained.layers import layers_of, split_path


def image_shape(experiment: Experiment) -> tuple[int, ...]:
    """Return [1 h w c] of a training image."""
    data = experiment.data
    return (1, *data.augmentation.crop, data.preprocessing.inputs)


def of(experiment: Experiment) -> dict[str, float]:
    """Return the epsilon of every batch norm by its layer."""
    norms = norm_inputs.norms(experiment.model, image_shape(experiment))
    return {layer: norm.epsilon for layer, norm in norms.items()}


def adapt(variables: Any, epsilons: Mapping[str, tuple[float, float]]) -> tuple[Any, list[str]]:
    """Multiply scales by sqrt((var + here) / (var + there)): scale / sqrt(var + epsilon) stays.

    Args:
      variables: {"params": ..., "batch_stats": ...}.
      epsilons: (there, here) by layer; nothing happens where they are equal.

    Returns:
      The variables, and lines for the report.
    """
    different = {layer: pair for layer, pair in epsilons.items() if pair[0] != pair[1]}
    known = layers_of(variables)

    def choose(path: tuple[Any, ...], leaf: Any) -> Any:
        layer, name = split_path(path)
        if name != "scale" or layer not in different:
            return leaf
        there, here = different[layer]
        var = np.float64(known[layer]["batch_stats/var"])
        return np.float32(np.float64(leaf) * np.sqrt((var + here) / (var + there)))

    notes = [
        f"{count} norms have epsilon {there:g} in the weights and {here:g} here: their scale is "
        "adapted, so that the network computes the same"
        for (there, here), count in collections.Counter(different.values()).items()
    ]
    return jax.tree.map_with_path(choose, variables), notes
