"""From a PyTorch state dict to Flax variables: nothing left out, nothing left over."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from seg_jax.nn.import_tensors import import_tensors

# (collection, leaf) -> the tensor's name in a torch layer.
_TENSORS = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}
_COUNTERS = r".*\.num_batches_tracked"  # of torch's batch norms; no part of the function


def import_state(
    model: Any,
    state: Mapping[str, Any],
    layer: Callable[[str], str | None],
    *,
    image_shape: tuple[int, ...] | None = None,
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
      image_shape: see `import_tensors`.
      ignore: regular expression; tensors whose names it matches in full may be left over.

    Raises:
      UserError: see `import_tensors`.
    """

    def find(collection: str, module: str, leaf: str) -> str | None:
        torch_layer = layer(module)
        return torch_layer and f"{torch_layer}.{_TENSORS[collection, leaf]}"

    ignore = f"{_COUNTERS}|{ignore}"
    return import_tensors(model, state, find, _to_flax, image_shape=image_shape, ignore=ignore)


def _to_flax(leaf: str, tensor: np.ndarray) -> np.ndarray:
    if not leaf.endswith("/kernel"):
        return tensor
    tensor = tensor[..., None, None] if tensor.ndim == 2 else tensor
    return tensor.transpose(2, 3, 1, 0)
