"""Describe a target's devices to JAX on a machine that has none of them.

TPU programs are compiled by libtpu, GPU programs by the CUDA plugin; both are wheels of their own
that `bash scripts/targets.sh --install` puts into `.venv-targets`.
"""

import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

from seg_jax import checks
from seg_jax.targets.table import Target

INSTALL = {
    "tpu": "bash scripts/targets.sh --install",
    "gpu": "bash scripts/targets.sh --install-gpu",
}
_WHEEL = {"tpu": "libtpu", "gpu": "jax_cuda13_plugin"}
MOST_KERNELS = 2**26  # bytes of a file of kernels, which each process reads whole
_RUN = ".venv-targets/bin/python -m seg_jax compile ..."


def available(platform: str) -> bool:
    """Whether the compiler for that platform, "tpu" or "gpu", is installed."""
    return importlib.util.find_spec(_WHEEL[platform]) is not None


def require(target: Target) -> None:
    """Raise UserError unless the target's compiler is installed; it says the line to install it."""
    platform = target.chip.platform
    if not available(platform):
        raise checks.UserError(
            f"compiling for {target.name} needs {_WHEEL[platform]}: `{INSTALL[platform]}`, then "
            f"`{_RUN}`"
        )


def prepare(target: Target) -> None:
    """Set what the compiler reads from the environment; call before anything touches JAX's devices.

    Raises:
      UserError: the compiler is not installed.
    """
    require(target)
    if target.chip.platform == "tpu":
        _prepare_tpu()
    else:
        _prepare_gpu(target)


def _prepare_tpu() -> None:
    spec = importlib.util.find_spec("libtpu")
    assert spec is not None and spec.origin is not None
    library = Path(spec.origin).with_name("libtpu.so")
    os.environ.update(
        JAX_PLATFORMS="cpu",  # the host has no TPU: libtpu only compiles
        TPU_SKIP_MDS_QUERY="1",
        TPU_ACCELERATOR_TYPE="v5litepod-4",
        TPU_WORKER_HOSTNAMES="localhost",
        TPU_LIBRARY_PATH=str(library),
        ALLOW_MULTIPLE_LIBTPU_LOAD="1",  # else a second compilation stops at a lock file
    )
    _platforms("cpu")


def _prepare_gpu(target: Target) -> None:
    os.environ.pop("JAX_PLATFORMS", None)
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    # Autotuning would time kernels on the device; without it XLA takes its Triton form for every
    # product, and has none for some of highest precision, as the resize's.
    flags = ["--xla_gpu_autotune_level=0", "--xla_gpu_enable_triton_gemm=false"]
    if target.chip.estimated:
        flags.append("--xla_gpu_collect_cost_model_stats=true")  # what XLA expects of each fusion
    nvidia = importlib.util.find_spec("nvidia")
    for folder in nvidia.submodule_search_locations if nvidia else ():  # type: ignore[union-attr]
        for toolkit in ("cu13", "cuda_nvcc"):
            if (Path(folder) / toolkit / "nvvm").is_dir():
                flags.append(f"--xla_gpu_cuda_data_dir={Path(folder) / toolkit}")
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags]).strip()
    _platforms("")


@contextlib.contextmanager
def shared_kernels() -> Iterator[Callable[[], None]]:
    """Within the context, GPU programs of child processes find each other's kernels in a file.

    A ResNet-101's step whose kernels are all there takes 14 s instead of 23. One process at a time.
    Call what it yields before each: it empties a file that became large.
    """
    with tempfile.TemporaryDirectory(prefix="seg_jax_kernels_") as folder:
        kernels, before = Path(folder) / "kernels", os.environ.get("XLA_FLAGS")
        flags = [
            before or "",
            "--xla_gpu_enable_llvm_module_compilation_parallelism=true",
            f"--xla_gpu_kernel_cache_file={kernels}",
        ]
        os.environ["XLA_FLAGS"] = " ".join(flags).strip()

        def trim() -> None:
            if kernels.exists() and kernels.stat().st_size > MOST_KERNELS:
                kernels.unlink()

        try:
            yield trim
        finally:
            os.environ.pop("XLA_FLAGS")
            if before is not None:
                os.environ["XLA_FLAGS"] = before


def _platforms(names: str) -> None:
    import jax  # read the environment variable if it was imported before

    jax.config.update("jax_platforms", names or None)


def describe(target: Target) -> list:
    """Return the described devices, from which `parallel.make_mesh` makes a mesh."""
    from jax.experimental import topologies

    if target.chip.platform == "tpu":
        chosen = target.chip.configuration
        configuration = {"chip_config_name": chosen} if chosen else {}
        description = topologies.get_topology_desc(target.topology, "tpu", **configuration)
    else:
        name = target.name.split("x")[0]
        text = resources.files("seg_jax.targets").joinpath(f"{name}.txtpb").read_text()
        description = topologies.get_topology_desc(
            platform="cuda", topology_name=name, target_config=text, topology=target.topology
        )
    devices = list(description.devices)
    if len(devices) != target.devices:
        raise checks.UserError(
            f"{target.name}: the compiler describes {len(devices)} devices, the table of targets "
            f"says {target.devices}: another libtpu than requirements-targets.txt names?"
        )
    return devices
