"""StableHLO by `jax.export`, for CPU, GPU and TPU; run by JAX alone, in any process:

    from jax import export
    labels = export.deserialize(open("network.stablehlo", "rb").read()).call(pictures)

Older artefacts stay readable for half a year of JAX's releases (jax.export, "Compatibility
guarantees").
"""

from collections.abc import Callable

import jax
import numpy as np
from jax import export

SUFFIX = ".stablehlo"
_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def convert(run: Callable, size: tuple[int, int], batch: int | None) -> bytes:
    """Return the artefact of a function from uint8 [batch *size 3]; None: of any batch."""
    if batch is None:
        (batch,) = export.symbolic_shape("n")
    pictures = jax.ShapeDtypeStruct((batch, *size, 3), np.uint8)
    return bytes(export.export(jax.jit(run), platforms=_PLATFORMS)(pictures).serialize())


def load(artefact: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Return the artefact's function."""
    call = export.deserialize(bytearray(artefact)).call
    return lambda pictures: np.asarray(call(pictures))
