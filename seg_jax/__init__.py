"""Semantic segmentation from FCN to DeepLab v3+ in JAX.

`import seg_jax as sj` gives everything below by name and loads nothing: JAX and the data libraries
are imported when a name is first used.

    sj.network(name, **fields)      a network of the registry, a Linen module; sj.models has all
    sj.load(weights)                published weights, a release or a run: model and variables
    sj.losses, sj.metrics, sj.crf   modules; sj.crf is `seg_jax.kernels.crf`
    sj.data                         data sets: sj.data.open_source(...)
    sj.experiment                   the registry: sj.experiment.get(name)
    sj.fit, sj.evaluate, sj.predict see `seg_jax.evaluation.library`
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers
    from seg_jax import data, experiment, losses, metrics, models
    from seg_jax.evaluation.library import evaluate, fit, predict
    from seg_jax.experiment import network
    from seg_jax.kernels import crf
    from seg_jax.pretrained import load

__version__ = "0.1.0"
__all__ = [
    "crf", "data", "evaluate", "experiment", "fit", "load", "losses", "metrics", "models",
    "network", "predict",
]  # fmt: skip

_ELSEWHERE = {  # "module:name", or a module
    "crf": "seg_jax.kernels.crf",
    "evaluate": "seg_jax.evaluation.library:evaluate",
    "fit": "seg_jax.evaluation.library:fit",
    "load": "seg_jax.pretrained:load",
    "network": "seg_jax.experiment:network",
    "predict": "seg_jax.evaluation.library:predict",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _ELSEWHERE.get(name, f"{__name__}.{name}").partition(":")
    value = importlib.import_module(module)
    value = getattr(value, attribute) if attribute else value
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
