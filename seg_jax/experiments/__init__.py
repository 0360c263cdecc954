"""The registered experiments, one module a paper: `seg_jax.experiments.fcn`, ...

Their files lie in the top-level folder `experiments/` of a checkout, and in `seg_jax/_experiments`
of an installed copy. This package finds them by path, so that a folder `experiments` of the user's
is never taken for them.
"""

from pathlib import Path

_INSTALLED = Path(__file__).parents[1] / "_experiments"
_CHECKOUT = Path(__file__).parents[2]


def _find() -> Path:
    if _INSTALLED.is_dir():
        return _INSTALLED
    if (_CHECKOUT / "pyproject.toml").is_file():
        return _CHECKOUT / "experiments"
    raise ImportError(f"this copy of seg_jax is incomplete: {_INSTALLED} is missing")


FOLDER = _find()
__path__ = [str(FOLDER)]
