"""Rematerialisation: parts of a network whose inner values are computed again for the gradient.

Chen, Xu, Zhang & Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016, arXiv:1604.06174:
only what enters a part is kept from the forward pass; when the gradient comes to the part, its
forward pass is done once more. Parameters, names and results stay, dropout drops the same, and
running averages move once; the gradient is rounded as the compiler orders it.

A network says where its parts are by `block` and `stage`. Which of them are computed again is asked
for by `using`, where the gradient is taken: it is how a network is trained, not what it is.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, Literal

import flax.linen as nn

from seg_jax import checks

Remat = Literal["none", "stages", "blocks"]
_KINDS = ("none", "stages", "blocks")
_chosen: contextvars.ContextVar[tuple[str, list[str]]] = contextvars.ContextVar(
    "rematerialisation", default=("none", [])
)


@contextlib.contextmanager
def using(kind: Remat) -> Iterator[None]:
    """Within the context, trace networks whose blocks or stages are computed again.

    Read while tracing: a function that is already compiled stays as it is.

    Raises:
      ValueError: no part of this kind was traced: the network does not say where its parts are.
    """
    checks.one_of(_KINDS, remat=kind)
    parts: list[str] = []
    token = _chosen.set((kind, parts))
    try:
        yield
    finally:
        _chosen.reset(token)
    if kind != "none" and not parts:
        raise ValueError(
            f"remat {kind}: the network has none; its module says where they are by "
            f"seg_jax.nn.remat.{kind.removesuffix('s')}"
        )


def block(function: Callable[..., Any], module: nn.Module, *args: Any) -> Any:
    """Return function(module, *args) of a unit: of a residual unit, say.

    Args:
      function: calls the module, or makes layers inside it; all that it needs of the arrays before
        it comes in `args`.
      module: that the layers belong to.
      args: arrays.
    """
    return _run("blocks", function, module, *args)


def stage(function: Callable[..., Any], module: nn.Module, *args: Any) -> Any:
    """Return function(module, *args) of all units between two changes of the resolution."""
    return _run("stages", function, module, *args)


def block_and_stage(function: Callable[..., Any], module: nn.Module, *args: Any) -> Any:
    """Return function(module, *args) of a stage of plain layers, which is its own only block."""
    return _run("blocks stages", function, module, *args)


def _run(kinds: str, function: Callable[..., Any], module: nn.Module, *args: Any) -> Any:
    chosen, parts = _chosen.get()
    if chosen not in kinds.split():
        return function(module, *args)
    parts.append(type(module).__name__)
    return nn.remat(function)(module, *args)
