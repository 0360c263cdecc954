"""Strict import of another library's named tensors: every leaf filled, every tensor used."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from seg_jax import checks

_LISTED = 20  # names listed per kind of error: enough to see which network the weights belong to

# From (collection, module, leaf), e.g. ("params", "backbone/conv1_1", "kernel"), to the name of a
# tensor; to a constant if the other library has no such tensor; to None if it has no such layer.
Find = Callable[[str, str, str], "str | np.ndarray | None"]


def import_tensors(
    model: Any,
    tensors: Mapping[str, Any],
    find: Find,
    convert: Callable[[str, np.ndarray], np.ndarray],
    *,
    image_shape: tuple[int, ...] | None = None,
    ignore: str = "",
) -> dict[str, Any]:
    """Return the model's variables, filled with the given tensors.

    Args:
      model: Linen module.
      tensors: name -> NumPy array, or what `np.asarray` takes.
      find: returns the name of a leaf's tensor, see `Find`.
      convert: (module's "/"-joined name and leaf, tensor) -> the leaf, e.g. transposed.
      image_shape: [n h w c] of a float32 image that the model accepts; None: RGB of about 65 px.
      ignore: regular expression; tensors whose full names match it may remain unused.

    Raises:
      UserError: leaves without a tensor, tensors without a leaf, or shapes that differ; gives the
        number and the first twenty names of each kind.
    """
    shapes = _shapes(model, image_shape)
    left_over, missing, different = set(tensors), [], []

    def fill(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        collection, *modules, name = (str(entry.key) for entry in path)
        module = "/".join(modules)
        source = find(collection, module, name)
        if isinstance(source, np.ndarray):
            return np.broadcast_to(source, leaf.shape).astype(leaf.dtype)
        if source is None or source not in tensors:
            origin = f"from {source}" if source else "the other network has no such layer"
            missing.append(f"{module}/{name} ({origin})")
            return np.zeros(leaf.shape, leaf.dtype)
        left_over.discard(source)
        tensor = convert(f"{module}/{name}", np.asarray(tensors[source]))
        if tensor.shape != leaf.shape:
            different.append(f"{source} is {tensor.shape}, {module} needs {leaf.shape}")
        return np.asarray(tensor, leaf.dtype)

    variables = jax.tree.map_with_path(fill, shapes)
    problems = {
        "missing in the weights": missing,
        "unknown to the network": sorted(n for n in left_over if not re.fullmatch(ignore, n)),
        "of another shape": different,
    }
    _raise_if_any(type(model).__name__, problems)
    return variables


def _shapes(model: Any, image_shape: tuple[int, ...] | None) -> Any:
    if image_shape is None:
        side = getattr(model, "legal_sizes", lambda side: (side,))(65)[-1]
        image_shape = (1, side, side, 3)
    image = np.zeros(image_shape, np.float32)
    return jax.eval_shape(lambda key: model.init(key, image, train=False), jax.random.key(0))


def _raise_if_any(network: str, problems: Mapping[str, list[str]]) -> None:
    listed = "; ".join(
        f"{len(names)} {what}: {', '.join(names[:_LISTED])}{', ...' * (len(names) > _LISTED)}"
        for what, names in problems.items()
        if names
    )
    if listed:
        raise checks.UserError(f"these weights do not fit this {network}; {listed}")
