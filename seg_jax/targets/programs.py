"""The programs of an experiment, traced for a described mesh: only `arguments` allocates.

The training step is `train.step` as `train` compiles it; the evaluation is one batch of windows
through `inference.forward`, as `evaluate` runs it.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seg_jax import checks, parallel, train_state
from seg_jax.experiment import Experiment
from seg_jax.inference import forward, strips, windows
from seg_jax.kernels.crf import CrfParams, mean_field
from seg_jax.nn import lowering
from seg_jax.parallel import compiler
from seg_jax.train import program
from seg_jax.types import DATA_AXIS

# Dense CRFs at VOC's usual size and number of classes: names that `compile` takes like experiments,
# with the platforms or the makers' names of the chips that they are for.
KERNELS = {
    "crf/lattice": ("tpu", "gpu"),
    "crf/exact": ("tpu", "gpu"),
    "crf/exact_hopper": ("H100", "H200"),
    "crf/exact_tpu": ("tpu",),
}
KERNEL_IMAGE = (375, 500)
KERNEL_CLASSES = 21


def divisible(batch_size: int, mesh: Mesh, accumulate: int) -> int:
    """Return the smallest batch size, at least `batch_size`, that divides among the devices."""
    unit = mesh.size * accumulate
    return -(-batch_size // unit) * unit


def training(experiment: Experiment, mesh: Mesh, batch_size: int) -> Any:
    """Lower the training step of a global batch for the mesh's devices.

    Args:
      experiment: its model, recipe and precision; `batch_size` replaces the recipe's.
      mesh: of described devices, all of one platform.
      batch_size: images in one update over all devices.

    Returns:
      `jax.stages.Lowered`.
    """
    settings = experiment.train
    parallel.check_batch_size(batch_size, mesh, accumulate=settings.accumulate)
    crop, channels = experiment.data.augmentation.crop, experiment.data.preprocessing.inputs
    try:
        shapes = train_state.variable_shapes(experiment.model, input_shape=(1, *crop, channels))
        optimizer = program.optimizer(experiment, shapes["params"])
    except ValueError as error:
        raise checks.UserError(f"{experiment.name or experiment.family}: {error}") from error
    init = functools.partial(
        train_state.init_state, optimizer=optimizer, ema=experiment.train.ema_decay > 0
    )
    state = _placed(jax.eval_shape(init, shapes), mesh, PartitionSpec())
    numbers = program.hyperparameters(experiment)
    inputs = jax.eval_shape(lambda numbers: (jax.random.key(0), numbers), numbers)
    inputs = _placed(inputs, mesh, PartitionSpec())
    image = jax.ShapeDtypeStruct((batch_size, *crop, 3), jnp.uint8)
    batch = {"image": image, "label": jax.ShapeDtypeStruct((batch_size, *crop), jnp.uint8)}
    if experiment.data.weight_map != "none":
        batch["weight"] = jax.ShapeDtypeStruct((batch_size, *crop), jnp.float32)
    per_device = program.per_device_step(program.structure(experiment))
    images = batch_size // mesh.size // settings.accumulate
    options = compiler.options(mesh.devices.flat, experiment.model, images)
    with _lowered_for(mesh):
        batch = _placed(batch, mesh, PartitionSpec(DATA_AXIS))
        step = parallel.compile_step(per_device, mesh, options=options)
        return step.lower(state, batch, inputs)


def arguments(experiment: Experiment, mesh: Mesh, batch_size: int) -> tuple[Any, Any, Any]:
    """Return what the program of `training` takes: (state, batch, inputs), to time it.

    Args:
      experiment: whose network gets its initial weights, from seed 0.
      mesh: of devices that are here.
      batch_size: random images of the recipe's crop, with labels of all classes.
    """
    crop, channels = experiment.data.augmentation.crop, experiment.data.preprocessing.inputs
    variables = train_state.init_variables(
        experiment.model, input_shape=(1, *crop, channels), seed=0
    )
    optimizer = program.optimizer(experiment, variables["params"])
    state = train_state.init_state(variables, optimizer, ema=experiment.train.ema_decay > 0)
    inputs = (jax.random.key(0), program.hyperparameters(experiment))
    rng, shape = np.random.default_rng(0), (batch_size, *crop)
    batch: dict[str, Any] = {
        "image": rng.integers(0, 256, (*shape, 3)).astype(np.uint8),
        "label": rng.integers(0, experiment.model.num_classes, shape).astype(np.uint8),
    }
    if experiment.data.weight_map != "none":
        batch["weight"] = np.ones(shape, np.float32)
    replicated = parallel.replicate((state, inputs), mesh)
    return replicated[0], parallel.shard_batch(batch, mesh), replicated[1]


def evaluation(experiment: Experiment, mesh: Mesh, batch_size: int) -> Any:
    """Lower the protocol's forward pass of one batch of windows, all scales and mirror images.

    Without a canvas the windows are the training crop's bucket.
    """
    crop, channels = experiment.data.augmentation.crop, experiment.data.preprocessing.inputs
    size = windows.input_size(crop, experiment.evaluation)
    shapes = train_state.variable_shapes(experiment.model, input_shape=(1, *size, channels))
    variables = _placed(shapes, mesh, PartitionSpec())
    image = jax.ShapeDtypeStruct((batch_size, *size, 3), jnp.uint8)
    image = _placed(image, mesh, PartitionSpec(DATA_AXIS))

    def predict(variables: Any, image: Any) -> Any:
        if strips.chosen(experiment.evaluation):
            return strips.labels(experiment, variables, image)
        found = forward.probabilities(experiment, variables, image)
        keep = forward.needs_probabilities(experiment.evaluation)
        return found if keep else forward.most_probable(found)

    options = compiler.options(mesh.devices.flat, experiment.model, batch_size // mesh.size)
    with _lowered_for(mesh):
        return jax.jit(predict, compiler_options=options).lower(variables, image)


def kernel(name: str, device: Any) -> Any:
    """Lower a dense CRF of KERNELS, ten iterations on one image, for one described device."""
    mesh = parallel.make_mesh([device])
    unary = jax.ShapeDtypeStruct((*KERNEL_IMAGE, KERNEL_CLASSES), jnp.float32)
    rgb = jax.ShapeDtypeStruct((*KERNEL_IMAGE, 3), jnp.uint8)
    unary, rgb = _placed((unary, rgb), mesh, PartitionSpec())
    implementation = name.removeprefix("crf/")

    def run(unary: Any, rgb: Any) -> Any:
        return mean_field(unary, rgb, CrfParams(), implementation=implementation)

    with _lowered_for(mesh):
        return jax.jit(run).lower(unary, rgb)


def _placed(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _lowered_for(mesh: Mesh) -> contextlib.AbstractContextManager[None]:
    device = mesh.devices.flat[0]
    platform = "gpu" if device.platform == "cuda" else device.platform
    return lowering.for_platform(platform, device.device_kind)


Program = Callable[[Experiment, Mesh, int], Any]
PROGRAMS: dict[str, Program] = {"train": training, "evaluate": evaluation}
