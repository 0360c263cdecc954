"""The README's sentence on speed, from the committed benchmark records."""

import json
import math
from pathlib import Path
from typing import Any

MARKERS = ("<!-- speed:begin -->", "<!-- speed:end -->")
# What is timed: its folder below experiments/benchmarks, and its name.
_JOBS = (("forward", "a forward pass"), ("step", "a training step"))


def sentence(folder: Path) -> str:
    """Return how long a forward pass and a training step take, as shares of PyTorch's times.

    Args:
      folder: experiments/benchmarks, with the records of `scripts/bench.py` of one machine.
    """
    records = [json.loads((folder / job / "cpu_float32.json").read_text()) for job, _ in _JOBS]
    first = records[0]
    shares = " and ".join(
        f"{name} takes {_ratios(record)}" for (_, name), record in zip(_JOBS, records, strict=True)
    )
    return (
        f"**Speed**: on {first['device']}, {first['dtype']}, {shares} of PyTorch's time "
        f"(geometric mean and range of {len(first['rows'])} networks, each beside one of the same "
        f"parameters; jax {first['versions']['jax']}, torch {first['versions']['torch']}): "
        "[every row](experiments/benchmarks)."
    )


def _ratios(record: dict[str, Any]) -> str:
    ratios = [row["ratio"] for row in record["rows"]]
    mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
    return f"{mean:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
