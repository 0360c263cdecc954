"""Variables of a network by layer."""

from collections.abc import Mapping
from typing import Any

import jax

NORM = "batch_stats/var"  # an array of every batch norm


def layers_of(variables: Any) -> dict[str, dict[str, Any]]:
    """Return arrays by layer and name; a norm's running averages belong to its layer."""
    found: dict[str, dict[str, Any]] = {}
    for path, leaf in jax.tree.leaves_with_path(variables):
        layer, name = split_path(path)
        found.setdefault(layer, {})[name] = leaf
    return found


def is_another_norm(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Return whether weights have a batch norm where the network has a group norm, or the reverse.

    Scale and bias of one mean nothing to the other.

    Args:
      ours: arrays of the network's layer by name.
      theirs: of the weights' layer.
    """
    return "scale" in ours and "scale" in theirs and (NORM in ours) != (NORM in theirs)


def split_path(path: tuple[Any, ...]) -> tuple[str, str]:
    """Return the layer and the array of a path: ("params", "head", "score", "bias") gives
    ("head/score", "bias").
    """
    collection, *layer, name = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
    return "/".join(layer), name if collection == "params" else f"{collection}/{name}"
