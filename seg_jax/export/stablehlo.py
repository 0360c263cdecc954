"""Export to StableHLO by `jax.export`, for CPU, GPU and TPU. JAX alone runs the file:

    from jax import export
    labels = export.deserialize(open("network.stablehlo", "rb").read()).call(images)

JAX reads artefacts that are up to six months old (jax.export, "Compatibility guarantees").
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import export

from seg_jax.checks import UserError

SUFFIX = ".stablehlo"
LEAST_SIDE = 96  # px, of images of any size
_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def convert(run: Callable, variables: Any, size: tuple[int, int], batch: int | None) -> bytes:
    """Return the artefact of run(variables, uint8 [batch *size 3]); None: any batch size."""
    (count,) = export.symbolic_shape("n") if batch is None else (batch,)

    def call(image):
        # On CPUs `nn.lowering` has a form of depthwise convolutions that is many times faster.
        on_cpu = functools.partial(run, convolutions="auto")
        return jax.lax.platform_dependent(variables, image, cpu=on_cpu, default=run)

    return _exported(call, (count, *size))


def convert_any_size(
    run: Callable, variables: Any, sides: tuple[int, int], batch: int | None
) -> bytes:
    """Return the artefact for images with heights and widths of step k + rest px.

    All platforms get XLA's convolutions: the forms of `nn.lowering` for CPUs are chosen by sizes.

    Args:
      run: as of `convert`.
      variables: of it.
      sides: (step, rest).
      batch: as of `convert`.

    Raises:
      UserError: the network computes something from the image's size that has no formula.
    """
    (step, rest), least = sides, -(-LEAST_SIDE // sides[0])
    shape = f"{batch or 'n'}, {step}*h + {rest}, {step}*w + {rest}"
    constraints = (f"h >= {least}", f"w >= {least}")
    try:
        found = export.symbolic_shape(shape, constraints=constraints)
        return _exported(functools.partial(run, variables), found)
    except (TypeError, ValueError, jax.errors.ConcretizationTypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--any-size: this network has no form for every size ({reason}); give one by --size"
        ) from error


def _exported(call: Callable, shape: Sequence[Any]) -> bytes:
    images = jax.ShapeDtypeStruct((*shape, 3), np.uint8)
    return bytes(export.export(jax.jit(call), platforms=_PLATFORMS)(images).serialize())


def describe(artefact: bytes, about: Mapping[str, Any]) -> bytes:
    """Return the artefact as it is: `jax.export` has no place for a description but FILE.json."""
    del about
    return artefact


def load(artefact: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Return the artefact's function."""
    call = export.deserialize(bytearray(artefact)).call
    return lambda images: np.asarray(call(images))
