"""Upper limits of what a network's configuration asks for.

They are far beyond the papers' networks; but a configuration may come from a stranger, and building
its network must not take the machine.
"""

import dataclasses
from typing import Any

from seg_jax import checks
from seg_jax.config.values import fields

_MOST_IN_A_NETWORK = 2**16  # any number in a network: channels, rates, sizes
_MOST_ITEMS = 256  # of a tuple in a network
_MOST_OF = {  # in seg_jax's own networks
    "num_classes": 255,  # labels are uint8, and 255 is void
    "width": 2**4,  # factor of the channels
    "depth": 2**8, "depths": 2**8, "convs": 2**8, "head_convs": 2**8, "cascade": 2**8,
    "middle_units": 2**8, "iterations": 2**10, "train_iterations": 2**10,
}  # fmt: skip


def check(value: Any, path: str = "model", most: float = _MOST_IN_A_NETWORK) -> None:
    """Raise ValueError for a network beyond any that is trained: it may come from a file."""
    if isinstance(value, tuple):
        checks.at_most(_MOST_ITEMS, **{f"length of {path}": len(value)})
        for item in value:
            check(item, path, most)
    elif isinstance(value, int | float):
        checks.at_most(most, **{path: abs(value)})
    elif dataclasses.is_dataclass(value):
        limits = _MOST_OF if type(value).__module__.startswith("seg_jax.") else {}
        for name, item in fields(value).items():
            check(item, f"{path}.{name}", limits.get(name, _MOST_IN_A_NETWORK))
