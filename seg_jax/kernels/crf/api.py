"""`mean_field`: checks its arguments, chooses an implementation, handles batches."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from seg_jax.checks import one_of
from seg_jax.kernels.crf.params import CrfParams

# Each is a module of this folder with mean_field(unary [n h w k], rgb [n h w 3], params).
IMPLEMENTATIONS = (
    "lattice_numba", "lattice", "exact", "exact_numba", "exact_hopper", "exact_tpu", "reference"
)  # fmt: skip
# Former names, still found in scripts and records.
ALIASES = {
    "host": "lattice_numba", "exact_host": "exact_numba", "exact_pallas": "exact_hopper"
}  # fmt: skip


def mean_field(
    unary: Any, rgb: Any, params: CrfParams | None = None, *, implementation: str | None = None
) -> jax.Array:
    """Return the marginals of a fully connected CRF with Gaussian edge potentials.

    Krahenbuhl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
    Potentials", NIPS 2011, as DeepLab v1 and v2 apply it. Differentiable with respect to `unary`
    and the weights and compatibility of `params`, under `jit`, `grad` and `vmap`; image and widths
    are constants.

    Args:
        unary: floating [h w k] or [n h w k], energies: -log p, not logits and not probabilities.
        rgb: uint8 [h w 3] or [n h w 3], the original image, before any normalisation. Floating
            values in 0..255 are accepted by implementations that do not rely on integers.
        params: `CrfParams`; None: its defaults.
        implementation: one of IMPLEMENTATIONS; None: the one that `choose` returns. A named one
            never falls back to another.

    Returns:
        float32, unary's shape: probabilities, which sum to 1 over the last axis.

    Raises:
        ValueError: shapes, types or ranges do not fit; non-finite unaries (where values are known).
        NotImplementedError: the named implementation is not for this platform.
        ModuleNotFoundError: it needs Numba, and that is not installed.
    """
    params = params if params is not None else CrfParams()
    _check(unary, rgb, params)
    traced = any(isinstance(x, Tracer) for x in jax.tree.leaves((unary, rgb, params)))
    if implementation is None:
        implementation = choose(platform=jax.default_backend(), traced=traced)
    implementation = ALIASES.get(implementation, implementation)
    one_of(IMPLEMENTATIONS, implementation=implementation)
    run = _load(implementation)
    single = unary.ndim == 3
    unary, rgb = (unary[None], rgb[None]) if single else (unary, rgb)
    q = run(unary.astype(np.float32), rgb, _constant_widths(params))
    return q[0] if single else q


def choose(*, platform: str, traced: bool) -> str:
    """Return the implementation that `mean_field` uses if none is named.

    Always the permutohedral lattice, as in the published results: "lattice_numba" on a CPU, outside
    of `jit`, `grad` and `vmap`, if Numba is installed; else "lattice". Both give the same
    probabilities, so labels do not depend on the platform. "exact", "exact_numba", "exact_hopper",
    "exact_tpu" and "reference" give slightly different ones and are never chosen automatically. The
    image size does not matter: at 40 x 52 both take the same time on a CPU; above, "lattice_numba"
    is faster.
    """
    if platform == "cpu" and not traced and find_spec("numba") is not None:
        return "lattice_numba"
    return "lattice"


def _load(implementation: str) -> Callable[..., jax.Array]:
    try:
        return import_module(f"seg_jax.kernels.crf.{implementation}").mean_field
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"implementation={implementation!r} of the CRF: {error}: pip install numba"
        ) from error


def _constant_widths(params: CrfParams) -> CrfParams:
    """Return `params` with constant widths: no kernel here computes their derivative."""
    if not any(isinstance(x, Tracer) for x in jax.tree.leaves(params)):
        return params
    widths = ("bilateral_px", "bilateral_rgb", "spatial_px")
    return replace(params, **{w: jax.lax.stop_gradient(getattr(params, w)) for w in widths})


def _check(unary: Any, rgb: Any, params: CrfParams) -> None:
    if not isinstance(params, CrfParams):
        raise ValueError(f"params must be a CrfParams, got {type(params).__name__}")
    if not hasattr(unary, "ndim") or unary.ndim not in (3, 4) or 0 in unary.shape:
        raise ValueError(f"unary must be [h w k] or [n h w k] and not empty, got {np.shape(unary)}")
    expected = (*unary.shape[:-1], 3)
    if not hasattr(rgb, "shape") or rgb.shape != expected:
        raise ValueError(
            f"rgb must be {expected} to fit unary {unary.shape}, got {np.shape(rgb)}; "
            "channels come last"
        )
    if not jnp.issubdtype(unary.dtype, jnp.floating):
        raise ValueError(f"unary must be floating, energies -log p, got {unary.dtype}")
    if rgb.dtype != np.uint8 and not jnp.issubdtype(rgb.dtype, jnp.floating):
        raise ValueError(f"rgb must be uint8 (or floating in 0..255), got {rgb.dtype}")
    classes = unary.shape[-1]
    if np.shape(params.compatibility) not in ((), (classes,), (classes, classes)):
        raise ValueError(
            f"params.compatibility must be a scalar, [{classes}] or [{classes} {classes}], "
            f"got shape {np.shape(params.compatibility)}"
        )
    _check_values(unary, rgb)


def _check_values(unary: Any, rgb: Any) -> None:
    """Check the values, which are known only outside a trace."""
    xp = np if isinstance(unary, np.ndarray) else jnp  # check on the values' device: no copy
    if not isinstance(unary, Tracer) and not xp.isfinite(unary).all():
        raise ValueError(
            "unary has values that are not finite: clip the probabilities before -log, "
            "e.g. -log(max(p, 1e-5))"
        )
    if not isinstance(rgb, Tracer) and rgb.dtype != np.uint8:
        low, high = float(rgb.min()), float(rgb.max())
        if not (low >= 0 and 1 < high <= 255):
            raise ValueError(
                f"rgb must span 0..255, got [{low:g}, {high:g}]: pass the original uint8 image, "
                "neither divided by 255 nor with its mean subtracted"
            )
