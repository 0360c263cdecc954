"""The experiments, one file per paper: importing a file registers its experiments by name.

There is no list of files: `seg_jax.experiment.discover` imports every module of this folder as
`seg_jax.experiments.MODULE`.
"""
