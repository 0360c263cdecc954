"""Readers of data sets, one file each, whose name is the data set's: `seg_jax.data` finds them."""
