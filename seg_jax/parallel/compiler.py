"""Options of XLA's compilers that networks are compiled with."""

import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import SingleDeviceSharding

# The TPU's compiler cuts a few images into strips along their width and takes these for a batch
# ("space to batch"), for the sake of the convolutions. All that lies between them is then done on
# strips with copied borders, in changing layouts. docs/accelerators.md has the figures without it.
_WHOLE = {
    "xla_tpu_run_space_to_batch": False,
    "xla_tpu_run_space_to_batch_on_new_platforms": False,
}
# XLA:CPU copies less where it looks at the program's regions for what still reads a buffer that is
# to be overwritten. Training steps of U-Net and DeepLab v2 on ResNet-101 take 0.81 and 0.90 of the
# memory, and a little less time.
_REGIONS = {"xla_cpu_copy_insertion_use_region_analysis": True}
# From so many images a device on, whole ones are the cheaper ones by the compiler's estimates: in
# any network; and in those without convolutions of 64 channels at the image's own size.
_IMAGES, _IMAGES_STRIDED = 4, 2
_log = logging.getLogger(__name__)


def options(devices: Iterable[Any], model: Any, images: int) -> dict[str, bool] | None:
    """Return the `compiler_options` of `jax.jit` for a network on devices; None: the default.

    Args:
      devices: of one platform, all or some of them this process's; or described ones
        (`targets.topology`).
      model: its `backbone`, if it has one, says whether its first convolution is strided.
      images: on each device.

    A compiler that does not know them gets none, and a warning says so.
    """
    # A process cannot compile for the devices of another one alone.
    every = list(devices)
    own = [device for device in every if device.process_index == jax.process_index()]
    device = (own or every)[0]
    if device.platform == "cpu":
        return accepted(device, **_REGIONS)
    strided = getattr(getattr(model, "backbone", None), "strided_stem", False)
    enough = images >= (_IMAGES_STRIDED if strided else _IMAGES)
    return whole_images(device) if device.platform == "tpu" and enough else None


def jit(function: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
    """Return `jax.jit(function, **settings)` with `options`; called as (variables, image, ...).

    Within another program that is being traced it is part of that one, which has options itself.

    Args:
      function: of variables, image [n h w c], other arguments and the keyword "model".
      settings: of `jax.jit`; "model" is static.
    """

    @functools.cache
    def compiled(chosen: frozenset[tuple[str, bool]]) -> Callable[..., Any]:
        return jax.jit(function, compiler_options=dict(chosen) or None, **settings)

    @functools.wraps(function)
    def run(variables: Any, image: Any, *args: Any, model: Any, **keywords: Any) -> Any:
        found = function
        if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((variables, image))):
            devices = image.devices() if isinstance(image, jax.Array) else jax.local_devices()[:1]
            chosen = options(devices, model, -(-image.shape[0] // len(devices))) or {}
            found = compiled(frozenset(chosen.items()))
        return found(variables, image, *args, model=model, **keywords)

    return run


def whole_images(device: Any) -> dict[str, bool] | None:
    """Return the options that keep images whole on a TPU; None: its compiler refuses them."""
    return accepted(device, **_WHOLE)


@functools.cache
def accepted(device: Any, **wanted: bool) -> dict[str, bool] | None:
    """Return the options if the device's compiler takes them, else None, with a warning."""
    one = jax.ShapeDtypeStruct((), jnp.float32, sharding=SingleDeviceSharding(device))
    try:
        jax.jit(jnp.negative, compiler_options=wanted).lower(one).compile()
    except jax.errors.JaxRuntimeError as error:
        reason, names = str(error).splitlines()[0], ", ".join(wanted)
        _log.warning(
            "the compiler refuses %s: networks are slower or need more memory (%s)", names, reason
        )
        return None
    return wanted
