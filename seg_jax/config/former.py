"""Former names of types, fields and values, so that older configurations still load."""

from typing import Any

_FORMER_MODULES = {"seg_jax.space.": "seg_jax.search_space."}
_FORMER_FIELDS = {"seg_jax.experiment.EvalConfig": {"protocol": "mode"}}
_FORMER_VALUES = {("seg_jax.experiment.EvalConfig", "mode", "squash"): "resize"}


def upgrade(data: Any) -> Any:
    """Return stored JSON data with today's names in place of former ones."""
    if isinstance(data, list):
        return [upgrade(item) for item in data]
    if not isinstance(data, dict):
        return data
    kind = data.get("type")
    if isinstance(kind, str):
        for old, new in _FORMER_MODULES.items():
            kind = new + kind.removeprefix(old) if kind.startswith(old) else kind
        data = {**data, "type": kind}
    else:
        kind = None
    fields = _FORMER_FIELDS.get(kind or "", {})
    upgraded = {}
    for name, item in data.items():
        name, item = str(fields.get(name, name)), upgrade(item)
        former = (kind or "", name, item) if isinstance(item, str) else ("", "", "")
        upgraded[name] = _FORMER_VALUES.get(former, item)
    return upgraded
