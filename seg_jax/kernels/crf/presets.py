"""The dense CRF after the network, as DeepLab v1 and v2 apply it: constants by release, and words.

The kernel itself is `seg_jax.kernels.crf`. The authors chose other constants for every network they
released, by a grid search (`python -m seg_jax crf search`); sources of the same network disagree.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from seg_jax import checks
from seg_jax.kernels.crf import CrfParams, mean_field

NONE = "none"  # the name of no CRF


class Named(NamedTuple):
    """Constants, and where they come from."""

    source: str
    params: CrfParams


def _released(w1: float, alpha: float, beta: float, w2: float, gamma: float) -> CrfParams:
    """Eq. 3 of DeepLab v1. The released binary normalises after filtering: CrfParams' default."""
    return CrfParams(
        bilateral_weight=w1,
        bilateral_px=alpha,
        bilateral_rgb=beta,
        spatial_weight=w2,
        spatial_px=gamma,
    )


SETTINGS: dict[str, Named] = {
    "deeplab_v1_vgg16": Named(
        "run_densecrf.sh of the v1 release, for vgg128_noup", _released(10.0, 60.0, 20.0, 3.0, 3.0)
    ),
    "deeplab_v1_largefov": Named(
        "crf_runner.py, default beside the released LargeFOV networks",
        _released(5.0, 50.0, 3.0, 3.0, 3.0),
    ),
    "deeplab_v1_msc": Named(
        "SetupEnv.m of the v1 release, for vgg128_ms_pool3", _released(3.0, 95.0, 3.0, 3.0, 3.0)
    ),
    "deeplab_v2_vgg16": Named(
        "ports of the released ASPP on VGG-16", _released(4.0, 65.0, 3.0, 2.0, 2.0)
    ),
    "deeplab_v2_script": Named(
        "run_densecrf.sh of the v2 release, for any network", _released(4.0, 49.0, 5.0, 3.0, 3.0)
    ),
    "deeplab_v2_resnet101": Named(
        "kazuto1011/deeplab-pytorch, configs/voc12.yaml", _released(4.0, 67.0, 3.0, 3.0, 1.0)
    ),
}


def get(name: str) -> CrfParams | None:
    """Return the constants of that name, None for "none".

    Raises:
      UserError: there is no such name; the closest are in the message.
    """
    if name == NONE:
        return None
    if name not in SETTINGS:
        raise checks.UserError(f"crf: {checks.unknown(name, [NONE, *SETTINGS])}")
    return SETTINGS[name].params


def words(params: CrfParams) -> str:
    """Describe a CRF in one line, for records."""
    own = (name for name, known in SETTINGS.items() if known.params == params)
    plain = dataclasses.replace(params, compatibility=1.0)
    penalties = "" if plain == params else f", compatibility {params.compatibility}"
    return (
        f"dense CRF{next((f' {name}' for name in own), '')} ({params.iterations} iterations, "
        f"bilateral {params.bilateral_weight:g}, {params.bilateral_px:g} px, "
        f"{params.bilateral_rgb:g} grey levels, spatial {params.spatial_weight:g}, "
        f"{params.spatial_px:g} px{penalties}, normalised {params.normalisation})"
    )


def energies(probabilities: np.ndarray) -> np.ndarray:
    """Return the unary energies -log p, float32 [h w k], of probabilities; finite also for 0."""
    return -np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))


def refine(
    params: CrfParams, *, implementation: str | None = None
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function from an image, uint8 [h w 3], and its probabilities, float32 [h w k], to
    the marginals of the CRF, float32 [h w k]; for evaluation and prediction.

    Args:
      params: constants, in pixels of the image at its original size.
      implementation: of `kernels.crf.mean_field`; None: its choice for this machine.
    """

    def run(image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        return np.asarray(
            mean_field(energies(probabilities), image, params, implementation=implementation)
        )

    return run
