"""Export to StableHLO by `jax.export`, for CPU, GPU and TPU. JAX alone runs the file:

    from jax import export
    labels = export.deserialize(open("network.stablehlo", "rb").read()).call(images)

JAX reads artefacts that are up to six months old (jax.export, "Compatibility guarantees").
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import export

SUFFIX = ".stablehlo"
_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def convert(run: Callable, variables: Any, size: tuple[int, int], batch: int | None) -> bytes:
    """Return the artefact of run(variables, uint8 [batch *size 3]); None: any batch size."""
    (count,) = export.symbolic_shape("n") if batch is None else (batch,)
    images = jax.ShapeDtypeStruct((count, *size, 3), np.uint8)

    @jax.jit
    def call(image):
        # On CPUs `nn.lowering` has a form of depthwise convolutions that is many times faster.
        on_cpu = functools.partial(run, convolutions="auto")
        return jax.lax.platform_dependent(variables, image, cpu=on_cpu, default=run)

    return bytes(export.export(call, platforms=_PLATFORMS)(images).serialize())


def load(artefact: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Return the artefact's function."""
    call = export.deserialize(bytearray(artefact)).call
    return lambda images: np.asarray(call(images))
