"""The README's sentence on speed, from the committed benchmark records."""

import math
from collections.abc import Mapping
from typing import Any

MARKERS = ("<!-- speed:begin -->", "<!-- speed:end -->")


def sentence(forward: Mapping[str, Any], step: Mapping[str, Any]) -> str:
    """Return how long a forward pass and a training step take, as shares of PyTorch's times.

    Args:
      forward, step: records of `scripts/bench.py`, of one machine and the same networks.
    """
    shares = f"a forward pass takes {_ratios(forward)} and a training step takes {_ratios(step)}"
    return (
        f"**Speed**: on {forward['device']}, {forward['dtype']}, {shares} of PyTorch's time "
        f"(geometric mean and range of {len(forward['rows'])} networks, each beside one of as many "
        f"parameters; jax {forward['versions']['jax']}, torch {forward['versions']['torch']}): "
        "[every row](experiments/benchmarks)."
    )


def _ratios(record: Mapping[str, Any]) -> str:
    ratios = [row["ratio"] for row in record["rows"]]
    mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
    return f"{mean:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
