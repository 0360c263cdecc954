"""Kernels as library functions: they need jax and numpy only, no network, data set or recipe.

`dense_crf` runs a named implementation or the platform's own; docs/kernels.md says which platform
and which generation of GPU runs what, and what has run. `upsampled_logits` has cross-entropy,
labels and confusion counts of upsampled scores in strips of rows, `upsampled_loss_tpu` the
cross-entropy as a kernel for TPUs.
"""

from seg_jax.kernels.crf.params import CrfParams
from seg_jax.kernels.dense_crf import choose_dense_crf, dense_crf

__all__ = ["CrfParams", "choose_dense_crf", "dense_crf"]
