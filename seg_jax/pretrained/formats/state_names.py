"""Names of tensors as training scripts save them: wrappers' prefixes, averaged copies, counters.

Published files have the network's own names, which the converters expect. A checkpoint of one's own
often has what wrapped the network in front of them. What is stripped or left out is told.
"""

from collections.abc import Mapping
from typing import Any

# DataParallel, torch.compile, Lightning and others, and what people call their network.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "_forward_module.")
# Copies of all weights, averaged over the training, beside the network's own.
_AVERAGED = ("model_ema.", "ema_model.", "ema.", "averaged_model.")
_COUNTERS = ("n_averaged", "decay", "num_updates")


def unwrap(tensors: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the tensors by the network's own names, and a sentence for everything that was done.

    A prefix is stripped if every name has it; several may be nested. An averaged copy beside other
    weights is left out; alone, it is the network. Only tensors of a wrapper are ever left out.

    Args:
      tensors: by their names in the file.
    """
    found, said = dict(tensors), []
    while True:
        before = len(said)
        if counters := [name for name in found if name.rpartition(".")[2] in _COUNTERS]:
            if len(found) > len(counters):
                found = {name: each for name, each in found.items() if name not in counters}
                said.append(f"left out {', '.join(counters)}: counters of a moving average")
        for prefix in _AVERAGED:
            inside = [name for name in found if name.startswith(prefix)]
            if inside and len(inside) < len(found):
                found = {name: each for name, each in found.items() if name not in set(inside)}
                said.append(
                    f"left out {len(inside)} tensors {prefix}*: a moving average of the others; "
                    "save it alone to start from it"
                )
        for prefix in (*PREFIXES, *_AVERAGED):
            if found and all(name.startswith(prefix) for name in found):
                found = {name.removeprefix(prefix): each for name, each in found.items()}
                said.append(f"stripped {prefix!r} from all {len(found)} names")
        if len(said) == before:
            return found, said
