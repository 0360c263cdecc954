"""From a PyTorch state dict to Flax variables: nothing left out, nothing left over."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from seg_jax import checks

# (collection, leaf) -> the tensor's name in a torch layer.
_TENSORS = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}
_COUNTERS = r".*\.num_batches_tracked"  # of torch's batch norms; no part of the function

_LISTED = 20  # names of a kind in an error: enough to see which network the weights are of


def import_state(
    model: Any,
    state: Mapping[str, Any],
    layer: Callable[[str], str | None],
    *,
    image_shape: tuple[int, ...] = (1, 65, 65, 3),
    ignore: str = "",
) -> dict[str, Any]:
    """Return the model's variables, filled with the tensors of a torch state dict.

    A torch layer has one tensor a leaf: weight [out in/groups h w] for a convolution's kernel
    [h w in/groups out], or [out in] for that of a 1x1 one; weight, bias, running_mean and
    running_var for a batch norm's scale, bias, mean and var.

    Args:
      model: Linen module.
      state: tensor's name -> NumPy array, or what `np.asarray` takes.
      layer: from a module's "/"-joined name in the model to the torch layer's; None where torch
        has no such layer.
      image_shape: float32 [n h w c] of an image the model takes.
      ignore: regular expression; tensors whose names it matches in full may be left over.

    Raises:
      UserError: leaves without a tensor, tensors without a leaf, or shapes that differ; of each
        kind how many, and the first twenty.
    """
    image = np.zeros(image_shape, np.float32)
    shapes = jax.eval_shape(lambda key: model.init(key, image, train=False), jax.random.key(0))
    left_over, missing, different = set(state), [], []

    def fill(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        collection, *modules, name = (str(entry.key) for entry in path)
        torch_layer = layer("/".join(modules))
        source = f"{torch_layer}.{_TENSORS[collection, name]}"
        if torch_layer is None or source not in state:
            origin = f"from {source}" if torch_layer else "of a layer that torch's network has not"
            missing.append(f"{'/'.join([*modules, name])} ({origin})")
            return np.zeros(leaf.shape, leaf.dtype)
        left_over.discard(source)
        tensor = np.asarray(state[source])
        if name == "kernel":
            tensor = tensor[..., None, None] if tensor.ndim == 2 else tensor
            tensor = tensor.transpose(2, 3, 1, 0)
        if tensor.shape != leaf.shape:
            different.append(f"{source} is {tensor.shape}, {'/'.join(modules)} wants {leaf.shape}")
        return np.asarray(tensor, leaf.dtype)

    variables = jax.tree.map_with_path(fill, shapes)
    allowed = f"{_COUNTERS}|{ignore}"
    left_over = sorted(name for name in left_over if not re.fullmatch(allowed, name))
    problems = {
        "missing in the weights": missing,
        "unknown to the network": left_over,
        "of another shape": different,
    }
    if any(problems.values()):
        listed = "; ".join(
            f"{len(names)} {what}: {', '.join(names[:_LISTED])}{', ...' * (len(names) > _LISTED)}"
            for what, names in problems.items()
            if names
        )
        raise checks.UserError(f"these are no weights of this {type(model).__name__}; {listed}")
    return variables
