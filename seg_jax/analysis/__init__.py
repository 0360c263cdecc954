"""What `show` and `list` print: networks taken apart without allocating them."""

from seg_jax.analysis.network import Analysis, Layer, analyse
from seg_jax.analysis.summary import analyse_experiment, evidence, listing, summary
from seg_jax.analysis.text import as_text

__all__ = [
    "Analysis", "Layer", "analyse", "analyse_experiment", "as_text", "evidence", "listing",
    "summary",
]  # fmt: skip
