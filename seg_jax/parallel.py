"""Which devices run a step, and how: one mesh axis, over which the batch is split."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from seg_jax import checks
from seg_jax.types import DATA_AXIS

Implementation = Literal["shard_map", "pmap"]


def initialize_distributed() -> None:
    """Join the processes of a job on several hosts; call before anything else touches JAX.

    JAX finds coordinator, number and rank under SLURM, on TPU pods and in Kubernetes by itself;
    elsewhere they are read from the environment variables SEG_JAX_COORDINATOR (host:port),
    SEG_JAX_PROCESSES and SEG_JAX_PROCESS.

    Raises:
      UserError: no coordinator was found, or the processes did not meet.
    """
    names = ("SEG_JAX_COORDINATOR", "SEG_JAX_PROCESSES", "SEG_JAX_PROCESS")
    given = [os.environ.get(name) for name in names]
    if any(given) and not all(given):
        missing = [name for name, value in zip(names, given, strict=True) if not value]
        raise checks.UserError(f"--distributed: {', '.join(missing)} not set; set all of {names}")
    try:
        if all(given):
            coordinator, processes, process = given
            jax.distributed.initialize(coordinator, int(processes), int(process))
        else:
            jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise checks.UserError(
            f"--distributed: {error}; start one process a host under SLURM, on a TPU pod or in "
            f"Kubernetes, or set {', '.join(names)}"
        ) from error


def enable_compilation_cache() -> Path:
    """Keep compiled programs on disk, so that the next process does not compile them again.

    Returns:
      The folder: $JAX_COMPILATION_CACHE_DIR, else seg_jax/xla in $XDG_CACHE_HOME or ~/.cache.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or cache / "seg_jax" / "xla")
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Return the mesh of all devices (or the given ones) along `types.DATA_AXIS`."""
    devices = jax.devices() if devices is None else list(devices)
    # Auto: under the default, Explicit, a convolution of a sharded image is a ShardingTypeError.
    return jax.make_mesh(
        (len(devices),), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices
    )


def check_batch_size(batch_size: int, mesh: Mesh, *, accumulate: int = 1) -> None:
    """Raise UserError unless every device gets the same number of images in every micro-batch."""
    devices = mesh.size
    unit = devices * accumulate
    if batch_size % unit:
        below = batch_size - batch_size % unit
        legal = [str(size) for size in (below, below + unit) if size]
        raise checks.UserError(
            f"train.batch_size {batch_size} does not divide among {devices} device(s) x "
            f"train.accumulate {accumulate}: use {' or '.join(legal)}, or show JAX fewer devices "
            "(CUDA_VISIBLE_DEVICES)"
        )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Put a pytree on every device of the mesh; every process must pass the same values."""
    sharding = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), tree
    )


def shard_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Put a host's part of a batch on its devices, split along the first axis.

    Args:
      batch: arrays [n ...] with n the global batch size / number of processes.
      mesh: from `make_mesh`.

    Returns:
      The global batch, arrays [n * processes, ...].
    """
    sharding = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    return {
        name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
        for name, value in batch.items()
    }


def compile_step(
    step: Callable, mesh: Mesh, *, implementation: Implementation = "shard_map"
) -> Callable:
    """Compile a per-device step over the mesh; the state it is given is donated.

    Args:
      step: `(state, batch, key) -> (state, metrics)`, written against `types.DATA_AXIS`; what it
        returns must be the same on every device.
      mesh: from `make_mesh`.
      implementation: "shard_map", checked for replication while tracing, or "pmap", on one host.

    Returns:
      The same function of the replicated state, the batch of `shard_batch`, and the key.
    """
    checks.one_of(("shard_map", "pmap"), implementation=implementation)
    if implementation == "shard_map":
        replicated = PartitionSpec()
        # check_vma refuses, at trace time, results that differ between devices.
        mapped = jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(replicated, PartitionSpec(DATA_AXIS), replicated),
            out_specs=replicated,
            check_vma=True,
        )
        return jax.jit(mapped, donate_argnums=0)
    if jax.process_count() > 1:
        raise checks.UserError("--parallel pmap runs on one host only; use shard_map on several")
    mapped = jax.pmap(
        step,
        axis_name=DATA_AXIS,
        in_axes=(None, 0, None),
        out_axes=None,
        devices=list(mesh.devices.flat),
        donate_argnums=0,
    )

    def run(state: Any, batch: Any, key: jax.Array) -> Any:
        leading = jax.tree.map(lambda x: x.reshape(mesh.size, -1, *x.shape[1:]), batch)
        return mapped(state, leading, key)

    return run
