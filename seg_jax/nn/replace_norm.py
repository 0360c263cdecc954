"""Norms of another kind in every layer of a network."""

from typing import Any

from seg_jax import config
from seg_jax.nn.norm import Norm


def replace(model: Any, kind: str) -> tuple[Any, bool]:
    """Return the network with all its norms of one kind, and whether it had none before.

    Args:
      model: Linen module; a field `norm` of it or of its parts that is None gets norms as well.
      kind: of `Norm.statistics`; "group:16" is "group" with 16 groups.

    Raises:
      ValueError: there is no such kind, or the network cannot have norms.
    """
    statistics, colon, groups = kind.partition(":")
    if colon and (statistics != "group" or not groups.isdecimal() or int(groups) < 1):
        raise ValueError("it should be the kind of the norms, and of groups perhaps group:16")
    fields: dict[str, Any] = {"statistics": statistics}
    fields |= {"groups": int(groups)} if groups else {}
    new, found, added = Norm(**fields), [], []

    def change(node: Any) -> dict[str, Any]:
        if isinstance(node, Norm):
            found.append(node)
            return fields
        if "norm" in config.fields(node) and node.norm is None:
            added.append(node)
            return {"norm": new}
        return {}

    model = config.replace_everywhere(model, change)
    if not found and not added:
        raise ValueError(f"{type(model).__name__} has no norms")
    return model, bool(added)
