"""What `show` and `list` print: networks analysed without allocating them.

Names are imported when they are first used: `list` reads its index without importing jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seg_jax.analysis.index import listing
    from seg_jax.analysis.network import Analysis, Layer, analyse
    from seg_jax.analysis.overview import analyse_experiment, evidence, notes, summary
    from seg_jax.analysis.text import as_text

__all__ = [
    "Analysis", "Layer", "analyse", "analyse_experiment", "as_text", "evidence", "listing",
    "notes", "summary",
]  # fmt: skip

_MODULES = {
    "listing": "index",
    "Analysis": "network",
    "Layer": "network",
    "analyse": "network",
    "analyse_experiment": "overview",
    "evidence": "overview",
    "notes": "overview",
    "summary": "overview",
    "as_text": "text",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
