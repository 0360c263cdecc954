"""One file a paper: importing it registers the paper's experiments by name.

There is no list here. `seg_jax.experiment.discover` imports every module of this folder, under the
name `seg_jax.experiments.MODULE`.
"""
