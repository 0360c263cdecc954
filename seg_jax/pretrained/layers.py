"""Variables of a network by layer."""

from typing import Any

import jax


def layers_of(variables: Any) -> dict[str, dict[str, Any]]:
    """Return arrays by layer and name; a norm's running averages belong to its layer."""
    found: dict[str, dict[str, Any]] = {}
    for path, leaf in jax.tree.leaves_with_path(variables):
        layer, name = split_path(path)
        found.setdefault(layer, {})[name] = leaf
    return found


def split_path(path: tuple[Any, ...]) -> tuple[str, str]:
    """Return the layer and the array of a path: ("params", "head", "score", "bias") gives
    ("head/score", "bias").
    """
    collection, *layer, name = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
    return "/".join(layer), name if collection == "params" else f"{collection}/{name}"
