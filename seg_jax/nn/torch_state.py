"""Strict import of a PyTorch state dict as Flax variables: every leaf filled, every tensor used."""

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
_COUNTERS = r".*\.num_batches_tracked"  # of torch's batch norms; not used in the forward pass


def import_state(
    model: Any,
    state: Mapping[str, Any],
    layer: Callable[[str], str | None],
    *,
    image_shape: tuple[int, ...] | None = None,
    ignore: str = "",
) -> dict[str, Any]:
    """Return the model's variables, filled with the tensors of a torch state dict.

    A torch layer has one tensor per leaf: weight [out in/groups h w], or [out in] of a linear
    layer, for the kernel [h w in/groups out] of a convolution; weight, bias, running_mean and
    running_var for scale, bias, mean and var of a batch norm.

    Args:
      model: Linen module.
      state: name of the tensor -> NumPy array, or what `np.asarray` takes.
      layer: from the "/"-joined name of a module in the model to the name of the torch layer; None
        if torch has no such layer.
      image_shape: see `import_tensors`.
      ignore: regular expression; tensors whose full names match it may remain unused.

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
