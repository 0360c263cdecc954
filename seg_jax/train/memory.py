"""How many images of a training fit into a device's memory, by what its backward pass keeps."""

import math
import os
from typing import Any

import jax
import jax.numpy as jnp

from seg_jax import train_state
from seg_jax.checks import UserError
from seg_jax.experiment import Experiment
from seg_jax.nn import lowering
from seg_jax.parallel import allocator

_SHARE = 0.6  # of the memory: the rest is for XLA's buffers, the input pipeline, and others
_COPIES = 4  # of the parameters: themselves, gradients, and up to two moments of the optimiser


def largest_batch(experiment: Experiment, *, most: int) -> tuple[int, str]:
    """Return the largest power of two of images on one device, and the rule in words.

    What the backward pass keeps of one image (its residuals, before XLA's optimisation), times the
    images, and four copies of the parameters are to fit into 60 % of the memory.

    Args:
      experiment: its model, crop and precision count.
      most: images; returned as it is if that many fit.

    Raises:
      UserError: the model does not take the crop.
    """
    parameters, image = _bytes(experiment)
    memory = device_memory()
    fits = (_SHARE * memory - _COPIES * parameters) / image
    words = (
        f"{image / 2**20:.0f} MiB an image fit {max(fits, 0):.0f} times into 60 % of "
        f"{memory / 2**30:.0f} GiB"
    )
    if fits >= most:
        return most, words
    return 2 ** int(math.log2(fits)) if fits >= 1 else 1, words


def device_memory() -> int:
    """Return the bytes of memory of one device; of a CPU, what is free now."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    try:  # what the kernel could free counts as well
        free, _ = allocator.available_memory()
    except (OSError, KeyError, ValueError):
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return free // jax.local_device_count()


def _bytes(experiment: Experiment) -> tuple[int, int]:
    """Return the bytes of the parameters, and of what the backward pass keeps of one image."""
    model, crop = experiment.model, experiment.data.augmentation.crop
    shape = (1, *crop, experiment.data.preprocessing.inputs)
    dtype = jnp.dtype(experiment.train.precision)
    try:
        variables = train_state.variable_shapes(model, input_shape=shape)
    except ValueError as error:
        raise UserError(f"{experiment.name or experiment.family}: {error}") from error
    params = variables["params"]
    others = {name: value for name, value in variables.items() if name != "params"}

    def residuals(params: Any, others: Any, image: jax.Array, key: jax.Array) -> Any:
        def forward(params: Any) -> jax.Array:
            out, _ = model.apply(
                {"params": params, **others}, image,
                train=True, mutable=["batch_stats"], rngs={"dropout": key},
            )  # fmt: skip
            return sum((jnp.sum(value) for value in out.values()), jnp.zeros(()))

        return jax.vjp(forward, params)[1]

    key = jax.eval_shape(lambda: jax.random.key(0))
    with lowering.use("xla"):
        kept = jax.eval_shape(
            residuals, params, others, jax.ShapeDtypeStruct(shape, jnp.float32), key
        )
    size = _size(params)
    image = max(_size(kept) - size, 1) * dtype.itemsize // 4
    return size, max(image, math.prod(shape) * 4)


def _size(tree: Any) -> int:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.number)]
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
