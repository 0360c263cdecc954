"""Which devices run a step, and how: one mesh axis, over which the batch is split."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from seg_jax import checks, files
from seg_jax.parallel import allocator
from seg_jax.types import DATA_AXIS

Implementation = Literal["shard_map", "pmap"]
# A process that hangs or is cut off is given up after this time; one that ends is noticed at once.
_HEARTBEAT_SECONDS, _SHUTDOWN_SECONDS = 30, 30
_log = logging.getLogger(__name__)


def initialize_distributed() -> None:
    """Join the processes of a job on several hosts; call before anything else touches JAX.

    JAX finds coordinator, number and rank under SLURM, on TPU pods and in Kubernetes by itself;
    elsewhere they are read from the environment variables SEG_JAX_COORDINATOR (host:port),
    SEG_JAX_PROCESSES and SEG_JAX_PROCESS.

    Raises:
      UserError: no coordinator was found, or the processes did not meet.
    """
    names = ("SEG_JAX_COORDINATOR", "SEG_JAX_PROCESSES", "SEG_JAX_PROCESS")
    given = [os.environ.get(name, "") for name in names]
    if any(given) and not all(given):
        missing = [name for name, value in zip(names, given, strict=True) if not value]
        raise checks.UserError(f"--distributed: {', '.join(missing)} not set; set all of {names}")
    timeouts: dict[str, Any] = {
        "heartbeat_timeout_seconds": _HEARTBEAT_SECONDS,
        "shutdown_timeout_seconds": _SHUTDOWN_SECONDS,
    }
    # It would take SIGTERM for itself; `train.termination` handles this and other signals.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        if all(given):
            coordinator, processes, process = given
            jax.distributed.initialize(coordinator, int(processes), int(process), **timeouts)
        else:
            jax.distributed.initialize(**timeouts)
        _connect()
    except (ValueError, RuntimeError) as error:
        raise checks.UserError(
            f"--distributed: {error}; start one process a host under SLURM, on a TPU pod or in "
            f"Kubernetes, or set {', '.join(names)}"
        ) from error


def prepare_process() -> None:
    """Keep compiled programs on disk and, on the CPU, freed memory in the process.

    What every verb that computes does first: see `enable_compilation_cache` and
    `allocator.keep_freed_memory`.
    """
    allocator.keep_freed_memory()
    enable_compilation_cache()


def _connect() -> None:
    """Let processes on CPUs connect now, when all have just joined, and not in the first step.

    Gloo, which does the collective operations there, connects in the first one that these devices
    have in common and gives the others 30 s to come; nothing sets that time, and to compile the
    step first may take one process longer than another by more.
    """
    if jax.default_backend() != "cpu":
        return
    mesh = make_mesh()
    total = jax.shard_map(
        lambda ones: jax.lax.psum(ones, DATA_AXIS),
        mesh=mesh,
        in_specs=PartitionSpec(DATA_AXIS),
        out_specs=PartitionSpec(),
    )
    ones = shard_batch({"": np.ones(jax.local_device_count(), np.float32)}, mesh)[""]
    jax.block_until_ready(jax.jit(total)(ones))


def enable_compilation_cache() -> Path | None:
    """Keep compiled programs on disk, so that the next process does not compile them again.

    What lies in this folder is run: it is made for its owner alone, and one that somebody else owns
    or can write is not used. A warning says so, and programs are then compiled every time.

    Returns:
      The folder, $JAX_COMPILATION_CACHE_DIR or else xla in `files.place("cache")`; None if it
      cannot be used.
    """
    try:
        folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or files.place("cache") / "xla")
        files.make_private(folder, variable="JAX_COMPILATION_CACHE_DIR")
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        _log.warning("compiled programs are not kept: %s", error)
        folder = None
    # JAX reads $JAX_COMPILATION_CACHE_DIR by itself: None takes a refused folder away from it.
    jax.config.update("jax_compilation_cache_dir", str(folder) if folder else None)
    return folder


def make_mesh(
    # In JAX's stub, Device is a variable.
    devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]
) -> Mesh:
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


def shard_batch(batch: Mapping[str, object], mesh: Mesh) -> dict[str, jax.Array]:
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
    step: Callable,
    mesh: Mesh,
    *,
    implementation: Implementation = "shard_map",
    options: dict[str, Any] | None = None,
) -> Callable:
    """Compile a per-device step over the mesh; the state it is given is donated.

    Args:
      step: `(state, batch, inputs) -> (state, metrics)`, written against `types.DATA_AXIS`; what
        it returns must be the same on every device. The inputs are the key, or a pytree with it.
      mesh: from `make_mesh`.
      implementation: "shard_map", checked for replication while tracing, or "pmap", on one host.
      options: of the compiler for the network (`compiler.options`); "pmap" has none.

    Returns:
      The same function of the replicated state, the batch of `shard_batch`, and the inputs.
    """
    checks.one_of(("shard_map", "pmap"), implementation=implementation)
    if implementation == "shard_map":
        replicated = PartitionSpec()
        # Refuses, at trace time, results that differ between devices; one device sums nothing.
        mapped = jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(replicated, PartitionSpec(DATA_AXIS), replicated),
            out_specs=replicated,
            check_vma=mesh.size > 1,
        )
        return jax.jit(mapped, donate_argnums=0, compiler_options=options)
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
