"""How an experiment differs from that of the weights it starts from, with the flags."""

import functools
from collections.abc import Iterator

from seg_jax import config, overrides
from seg_jax.experiment import Experiment

_LISTED = 4  # fields of a network in one line


def notes(weights: Experiment, here: Experiment, *, inputs: bool) -> list[str]:
    """Say where network, inputs and evaluation protocol differ, one line each.

    Differences of layers' shapes are not these: weights do not load then.

    Args:
      weights: the experiment that the weights were trained or verified with.
      here: the experiment that starts from them.
      inputs: also compare the preprocessing.
    """
    found = list(_network(weights, here))
    if inputs and weights.data.preprocessing != here.data.preprocessing:
        found.append(
            "the images are normalised otherwise than for these weights: "
            + _flags(weights, here, "data.preprocessing")
        )
    if weights.evaluation != here.evaluation:
        found.append(
            f"the weights were verified under another evaluation protocol: "
            f"{_flags(weights, here, 'evaluation')}"
        )
    return found


def _network(weights: Experiment, here: Experiment) -> Iterator[str]:
    """Yield one line on the fields of the network that differ; averaging is not compared."""
    fields = config.difference(weights.model, here.model)
    told = [
        f"{path} {there} there, {now} here"
        for path, (there, now) in fields.items()
        if path.rpartition(".")[2] not in ("momentum", "statistics", "num_classes")
    ]
    if told:
        rest = f"; and {len(told) - _LISTED} more" * (len(told) > _LISTED)
        flags = _flags(weights, here, "model")
        remedy = f" ({flags})" if flags and len(told) <= _LISTED else ""
        yield f"the network of the weights differs: {'; '.join(told[:_LISTED])}{rest}{remedy}"


def _flags(weights: Experiment, here: Experiment, field: str) -> str:
    """Return the flags that set a field as the weights have it; empty if there are none."""
    path = field.split(".")
    old, changed = (functools.reduce(getattr, path, task) for task in (here, weights))
    try:
        return " ".join(overrides.flags(old, changed, field))
    except ValueError:  # another type of layer: no flag chooses it
        return ""
