"""Readers of data sets, one file each; `seg_jax.data` finds them by name."""
