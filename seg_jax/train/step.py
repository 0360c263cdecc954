"""One optimiser update: a pure function of state, batch and key, written for one device of many."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from seg_jax import losses
from seg_jax.nn import lowering, remat, upsampled
from seg_jax.optim import transformations
from seg_jax.train_state import TrainState
from seg_jax.types import DATA_AXIS

# Rate times gradient norm. A norm that is finite is at most 2e19, as its square is; below this,
# updates keep parameters, momentum and Adam's averages far from overflow.
_LARGEST_UPDATE = 1e30


def train_step(
    state: TrainState,
    batch: Mapping[str, jax.Array],
    key: jax.Array,
    *,
    model: Any,
    optimizer: optax.GradientTransformation,
    loss: losses.LossConfig,
    preprocessing: Callable[[jax.Array], jax.Array],
    learning_rate: Callable[[jax.Array], jax.Array],
    weights: losses.Weights | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    accumulate: int = 1,
    remat_kind: remat.Remat = "none",
    logits: Literal["whole", "strips"] = "whole",
    ema_decay: Any = 0.0,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Do one update on this device's part of the batch; runs under the mapped axis DATA_AXIS.

    Args:
      state: the same on every device.
      batch: "image" uint8 [n h w 3], "label" uint8 [n h w], perhaps "weight" float32 [n h w].
      key: of the run; step, device and micro-batch are folded in here.
      model: Linen module, `model(image, train=True) -> {name: logits}`; its attribute `margin`, if
        any, is the number of pixels on each side of its input that it does not predict.
      optimizer: from `optim.make_optimizer`.
      loss: heads, weights and reduction.
      preprocessing: uint8 [n h w 3] -> float32 [n h w 3].
      learning_rate: of a step, for the metrics.
      weights: of heads and classes, perhaps traced; None: those of `loss`.
      precision: of the forward and backward pass; parameters, gradients, statistics and loss stay
        float32.
      accumulate: micro-batches the gradient is summed over; divides n.
      remat_kind: parts of the network that are computed again for the gradient, see `nn.remat`.
      logits: "strips": the loss upsamples the scores by itself, some rows at a time, see
        `nn.upsampled`.
      ema_decay: of the moving averages, perhaps traced; not read where the state keeps none.

    Returns:
      The new state, and over the global batch: "loss", "accuracy" of the valid "pixels",
      "grad_norm" before clipping, the "learning_rate" of this update, and "finite": whether loss,
      gradient and new state were so far. A step that is not leaves all but that flag unchanged.
    """
    key = jax.random.fold_in(jax.random.fold_in(key, state.step), lax.axis_index(DATA_AXIS))
    # Without this cast, shard_map's gradient of a replicated parameter is summed over the devices
    # already, and the psum below would count it once for every device more. pmap never does so;
    # with the cast both agree.
    params = lax.pcast(state.params, DATA_AXIS, to="varying")

    objective = functools.partial(
        _objective,
        model=model,
        loss=loss,
        weights=weights,
        preprocessing=preprocessing,
        precision=precision,
        remat_kind=remat_kind,
        logits=logits,
        step=state.step,
    )

    def gradient(batch_stats, batch, key):
        """Sums of a micro-batch (gradient, loss, its divisor, correct and valid pixels), and its
        new batch_stats.
        """
        (total, (counts, new)), grads = jax.value_and_grad(objective, has_aux=True)(
            params, batch_stats, batch, key
        )
        return (grads, total, *counts), _average_change(batch_stats, new)

    sums, batch_stats = _accumulate(gradient, state.batch_stats, batch, key, accumulate)
    # XLA:CPU would copy the gradients for the sum of one device: 4 % of a step's time.
    alone = lax.axis_size(DATA_AXIS) == 1
    grads, total, count, correct, pixels = sums if alone else lax.psum(sums, DATA_AXIS)
    divisor = losses.divisor(count, loss)
    grads = jax.tree.map(lambda leaf: leaf / divisor, grads)
    metrics = {
        "loss": total / divisor,
        "pixels": pixels,
        "accuracy": correct.astype(jnp.float32) / jnp.maximum(pixels, 1).astype(jnp.float32),
        "grad_norm": transformations.global_norm(grads),
        "learning_rate": learning_rate(state.step),
    }
    # To look at the new parameters themselves would be one more pass over them and the momentum.
    bounded = metrics["learning_rate"] * metrics["grad_norm"] < _LARGEST_UPDATE
    finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"]) & state.finite
    state = _update(state, grads, batch_stats, optimizer, finite & bounded, ema_decay)
    return state, metrics | {"finite": state.finite}


def _objective(
    params, batch_stats, batch, key, *,
    model, loss, weights, preprocessing, precision, remat_kind, logits, step,
):  # fmt: skip
    """Loss sum of a micro-batch; its divisor, correct and valid pixels, new batch_stats."""
    variables = {"params": _cast(params, precision), "batch_stats": batch_stats}
    image = preprocessing(batch["image"]).astype(precision)
    with remat.using(remat_kind), upsampled.deferring(logits == "strips"):
        outputs, changed = model.apply(
            variables, image, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
    if logits == "strips":
        upsampled.check_deferred(outputs, [name for name, _ in loss.heads])
    total, count, pixels = losses.loss_and_correct(
        outputs,
        batch["label"],
        loss,
        numbers=weights,
        pixel_weights=batch.get("weight"),
        margin=getattr(model, "margin", 0),
        step=step,
        axis=DATA_AXIS,
    )
    return total, ((count, *pixels), changed.get("batch_stats", {}))


def _update(
    state: TrainState,
    grads: Any,
    batch_stats: Any,
    optimizer: optax.GradientTransformation,
    finite: jax.Array,
    ema_decay: Any,
) -> TrainState:
    """Take the optimiser's step if all was finite and the new running averages are, else keep the
    state. They are of activations that a loss perhaps does not see.
    """
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    for leaf in transformations.packed(batch_stats):
        finite &= jnp.isfinite(leaf).all()
    ema = state.ema
    if ema:
        done = state.step.astype(jnp.float32)
        rest = 1.0 - jnp.minimum(jnp.float32(ema_decay), (1.0 + done) / (10.0 + done))
        now = {"params": params, "batch_stats": batch_stats}
        ema = jax.tree.map(lambda old, new: old + rest * (new - old), ema, now)
    new = TrainState(state.step + 1, params, batch_stats, opt_state, finite, ema)
    old = dataclasses.replace(state, finite=finite)
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)


def _accumulate(gradient: Callable, batch_stats: Any, batch: Any, key: jax.Array, parts: int):
    """Sum `gradient` over `parts` micro-batches; the norms' running averages pass through all."""
    if parts == 1:
        return gradient(batch_stats, batch, key)
    micro = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), dict(batch))
    keys = jax.random.split(key, parts)
    shapes, _ = jax.eval_shape(gradient, batch_stats, *jax.tree.map(lambda x: x[0], (micro, keys)))
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    zero = lax.pcast(zero, DATA_AXIS, to="varying")

    def add(carry, part):
        sums, batch_stats = carry
        more, batch_stats = gradient(batch_stats, *part)
        return (jax.tree.map(jnp.add, sums, more), batch_stats), None

    # XLA:CPU takes 10 to 40 times as long for a kernel's gradient inside a loop.
    unroll = lowering.platform() == "cpu"
    return lax.scan(add, (zero, batch_stats), (micro, keys), unroll=unroll)[0]


def _average_change(old: Any, new: Any) -> Any:
    """Average over the devices how a micro-batch changed the running averages.

    With per-device norms the changes differ; with synchronised ones they are equal. A frozen norm's
    averages stay unchanged to the bit.
    """
    before, restore = ravel_pytree(old)
    return restore(before + lax.pmean(ravel_pytree(new)[0] - before, DATA_AXIS))


def _cast(params: Any, dtype: str) -> Any:
    """Return the parameters in the precision of the step, but a norm's scale and bias as they are.

    Norms compute in float32. If their bias came in bfloat16, its gradient would be a sum over all
    pixels in bfloat16, and on TPU one more pass over the activations of every norm.
    """
    if isinstance(params, Mapping):
        return {
            name: value if "scale" in params else _cast(value, dtype)
            for name, value in params.items()
        }
    return params.astype(dtype)
