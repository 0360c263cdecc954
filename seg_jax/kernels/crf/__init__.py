"""The dense CRF's mean field: one definition, several implementations. Start at `api`."""

from seg_jax.kernels.crf.api import IMPLEMENTATIONS, choose, mean_field
from seg_jax.kernels.crf.params import CrfParams

__all__ = ["IMPLEMENTATIONS", "CrfParams", "choose", "mean_field"]
