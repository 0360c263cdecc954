"""The compiled train step, and what of an experiment it is compiled for.

Learning rate, schedule, momentum, decay, clipping, the weights of the loss and the seed are inputs
of the step, not constants in it: runs that differ in nothing else share one compiled program, in
one process and in the persistent cache.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from seg_jax import losses, optim, parallel
from seg_jax.data.preprocessing import Preprocessing
from seg_jax.experiment import Experiment
from seg_jax.nn import lowering
from seg_jax.parallel import compiler
from seg_jax.train import step

# Compiled steps that a process keeps: one takes up to some 100 MiB of host memory.
_KEPT = 4


@dataclasses.dataclass(frozen=True)
class Structure:
    """All that a train step is compiled for, beside the shapes of its inputs and the devices.

    A step sees nothing else of an experiment: what it is to depend on is a field here, or of
    `Hyperparameters`.

    Attributes:
      model: the network.
      preprocessing: of the images.
      optim: as of `optim.structure`.
      loss: as of `losses.structure`.
      precision: of the forward and backward pass.
      accumulate: micro-batches of an update.
      remat: parts of the network that are computed again for the gradient.
      logits: whether the loss upsamples the scores by itself, in strips.
    """

    model: Any
    preprocessing: Preprocessing
    optim: optim.OptimConfig
    loss: losses.LossConfig
    precision: Literal["float32", "bfloat16"]
    accumulate: int
    remat: Literal["none", "stages", "blocks"]
    logits: Literal["whole", "strips"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """The numbers of an experiment that its step takes as an input, beside state, batch and key.

    Attributes:
      optim: of optimiser and schedule.
      loss: weights of heads and classes.
      ema_decay: of the moving averages, float32.
    """

    optim: optim.Numbers
    loss: losses.Weights
    ema_decay: Any


def structure(experiment: Experiment) -> Structure:
    """Return what an experiment's train step is compiled for."""
    return Structure(
        model=experiment.model,
        preprocessing=experiment.data.preprocessing,
        optim=optim.structure(experiment.optim),
        loss=losses.structure(experiment.loss),
        precision=experiment.train.precision,
        accumulate=experiment.train.accumulate,
        remat=experiment.train.remat,
        logits=experiment.train.logits,
    )


def hyperparameters(experiment: Experiment) -> Hyperparameters:
    """Return the numbers that an experiment's train step takes, as NumPy scalars."""
    return Hyperparameters(
        optim.numbers(experiment.optim, experiment.train.steps),
        losses.weights(experiment.loss),
        np.float32(experiment.train.ema_decay),
    )


def per_device_step(structure: Structure) -> Callable:
    """Return the step of one device: (state, batch, (key, Hyperparameters)) -> (state, metrics)."""

    def train_step(state, batch, inputs):  # the name of the compiled program
        key, hyperparameters = inputs
        numbers = hyperparameters.optim
        return step.train_step(
            state,
            batch,
            key,
            model=structure.model,
            optimizer=optim.with_numbers(structure.optim, state.params, numbers),
            loss=structure.loss,
            weights=hyperparameters.loss,
            preprocessing=structure.preprocessing,
            learning_rate=functools.partial(
                optim.scheduled_rate, structure.optim.schedule, numbers
            ),
            precision=structure.precision,
            accumulate=structure.accumulate,
            remat_kind=structure.remat,
            logits=structure.logits,
            ema_decay=hyperparameters.ema_decay,
        )

    return train_step


def bound_step(
    experiment: Experiment, mesh: Mesh, implementation: parallel.Implementation = "shard_map"
) -> Callable:
    """Return the compiled step of an experiment: (state, batch, key) -> (state, metrics).

    The program is the one of an earlier call whose experiment differs in hyperparameters only.
    """
    images = experiment.train.batch_size // mesh.size // experiment.train.accumulate
    program = _compiled(structure(experiment), mesh, implementation, lowering.platform(), images)
    numbers = parallel.replicate(hyperparameters(experiment), mesh)
    return lambda state, batch, key: program(state, batch, (key, numbers))


@functools.lru_cache(maxsize=_KEPT)
def _compiled(
    structure: Structure,
    mesh: Mesh,
    implementation: parallel.Implementation,
    platform: str,
    images: int,
) -> Callable:
    options = compiler.options(mesh.devices.flat, structure.model, images)
    return parallel.compile_step(
        per_device_step(structure), mesh, implementation=implementation, options=options
    )


def optimizer(experiment: Experiment, params: Any) -> optax.GradientTransformation:
    """Return an optimiser whose `init` is the one of an earlier call with parameters of the same
    names, so that it is compiled once.

    Raises:
      ValueError: a parameter that no rule matches, or a schedule that does not fit.
    """
    optim.numbers(experiment.optim, experiment.train.steps)
    return _optimizer(optim.structure(experiment.optim), jax.tree.structure(params))


@functools.lru_cache(maxsize=_KEPT)
def _optimizer(config: optim.OptimConfig, names: Any) -> optax.GradientTransformation:
    params = jax.tree.unflatten(names, [0] * names.num_leaves)
    return optim.make_optimizer(config, params, steps=2)
