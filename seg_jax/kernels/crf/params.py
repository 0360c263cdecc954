"""The parameters of the dense CRF: a frozen dataclass that is also a pytree."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import jax

from seg_jax.checks import at_most, non_negative, one_of, positive

Normalisation = Literal["after", "symmetric", "before", "none"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "bilateral_weight", "bilateral_px", "bilateral_rgb",
        "spatial_weight", "spatial_px", "compatibility",
    ],
    meta_fields=["iterations", "normalisation"],
)  # fmt: skip
@dataclass(frozen=True)
class CrfParams:
    """Two Gaussian kernels, their compatibility and the schedule (Krahenbuhl & Koltun, NIPS 2011).

    The numbers are leaves of a pytree: they may be arrays, they are arguments and not constants of
    a compiled function (a grid search compiles once), and the weights and the compatibility have a
    gradient. The widths are constants of the derivative. The defaults are DeepLab v2 ResNet-101's.

    Attributes:
        iterations: mean-field updates, all pixels in parallel.
        bilateral_weight: weight of the appearance kernel (w1 in Eq. 3).
        bilateral_px: its width in pixels (theta_alpha).
        bilateral_rgb: its width in grey levels of 0..255 (theta_beta).
        spatial_weight: weight of the smoothness kernel (w2).
        spatial_px: its width in pixels (theta_gamma).
        normalisation: of each kernel by its own sum n = K 1. "after": (K Q) / n, what DeepLab's
            released binary does; "symmetric": n^-1/2 K n^-1/2 Q, the default of the later C++
            library and so of its wrappers; "before": K (Q / n); "none": K Q, as Eq. 4 has it.
        compatibility: the penalty mu(l, l') of Eq. 2 times the kernels. A scalar c: Potts,
            c [l != l']. A vector [k]: every class's own reward for agreement, mu = -diag(v). A
            matrix [k k]: mu itself, row l is the label whose energy is computed; it need not be
            symmetric.
    """

    iterations: int = 10
    bilateral_weight: Any = 4.0
    bilateral_px: Any = 67.0
    bilateral_rgb: Any = 3.0
    spatial_weight: Any = 3.0
    spatial_px: Any = 1.0
    normalisation: Normalisation = "after"
    compatibility: Any = 1.0

    def __post_init__(self):
        one_of(get_args(Normalisation), normalisation=self.normalisation)
        non_negative(iterations=self.iterations)
        at_most(1024, iterations=self.iterations)
        # Leaves may be tracers or, while JAX rebuilds the tree, anything: check plain numbers only.
        for name in ("bilateral_px", "bilateral_rgb", "spatial_px"):
            value = getattr(self, name)
            if isinstance(value, int | float):
                positive(**{name: value})
        for name in self.__dataclass_fields__:
            if isinstance(getattr(self, name), tuple) and name != "compatibility":
                raise ValueError(f"{name} must be one number, got {getattr(self, name)}")
