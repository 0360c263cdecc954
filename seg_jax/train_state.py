"""What training changes at every update, and how it begins."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that an update changes, the same on every device.

    Attributes:
      step: updates done, int32 [].
      params: nested dictionary, float32.
      batch_stats: running averages of the norms, float32; empty without any.
      opt_state: of the optax transformation.
      finite: bool []; False once a loss, gradient or new state was not finite. From then on a step
        changes nothing, so that this is still the last good state when the host reads of it.
      ema: moving averages {"params": ..., "batch_stats": ...}; empty: none are kept.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    finite: jax.Array
    ema: Any = dataclasses.field(default_factory=dict)

    @property
    def variables(self) -> dict[str, Any]:
        """What the network is evaluated and used by."""
        return self.ema or {"params": self.params, "batch_stats": self.batch_stats}


def variable_shapes(model: Any, *, input_shape: tuple[int, ...]) -> dict[str, Any]:
    """Return shapes and dtypes of a model's variables: {"params": ..., "batch_stats": ...}.

    Args:
      model: Linen module, called as `model(image, train=False)`.
      input_shape: (n, h, w, c) of an image it is to take.

    Raises:
      ValueError: the model has a collection that the training step would not carry on.
    """
    shapes = jax.eval_shape(functools.partial(_init, model, input_shape), jax.random.key(0))
    unknown = sorted(set(shapes) - {"params", "batch_stats"})
    if unknown:
        raise ValueError(f"{type(model).__name__} has collections {unknown}: training keeps none")
    return {"batch_stats": {}, **shapes}


def init_variables(model: Any, *, input_shape: tuple[int, ...], seed: int) -> dict[str, Any]:
    """Initialise the variables of a model; the same on every host."""
    variable_shapes(model, input_shape=input_shape)
    init = _compiled_init(jax.default_backend())
    return {"batch_stats": {}, **init(model, input_shape, jax.random.key(seed))}


@functools.cache
def _compiled_init(backend: str) -> Callable:
    # On CPU, every shape that is drawn takes LLVM a second at full effort: 21 s for a U-Net's 23,
    # and 5 s at this one.
    options = {"xla_backend_optimization_level": 1} if backend == "cpu" else None
    return jax.jit(_init, static_argnums=(0, 1), compiler_options=options)


def _init(model, input_shape, key):
    return model.init(key, jnp.zeros(input_shape, jnp.float32), train=False)


def init_state(
    variables: Mapping[str, Any], optimizer: optax.GradientTransformation, *, ema: bool = False
) -> TrainState:
    """Return the state before the first update; `ema`: with moving averages."""
    kept = {name: variables[name] for name in ("params", "batch_stats")} if ema else {}
    return TrainState(
        step=jnp.int32(0),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=jax.jit(optimizer.init)(variables["params"]),
        finite=jnp.bool_(True),
        ema=jax.tree.map(jnp.copy, kept),  # the step is given both, and donates them
    )
