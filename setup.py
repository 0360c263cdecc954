"""Packages of the wheel: `experiments/` goes inside seg_jax, which pyproject.toml cannot say."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["seg_jax*"]), "seg_jax._experiments"],
    package_dir={"seg_jax._experiments": "experiments"},
)
