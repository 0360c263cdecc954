"""The values of a search space as Optuna's parameters, and back."""

from collections.abc import Callable
from typing import Any

from seg_jax import search_space as spaces
from seg_jax.checks import UserError
from seg_jax.search_space import Space


class Parameters:
    """How the values of a space stand in a storage.

    Args:
      space: of the sweep.
      damaged: returns the error for what this class would not have written.
    """

    def __init__(self, space: Space, damaged: Callable[[str], UserError]):
        self._space, self._damaged = space, damaged

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Return the values that the sampler chooses for a trial of Optuna's, by dotted field."""
        values: dict[str, Any] = {}
        for path, field in self._space.fields.items():
            item = field.given(values) if isinstance(field, spaces.When) else field
            if item is not None:
                name = spaces.parameter(path, field, values)
                values[path] = self.value(name, trial._suggest(name, distribution(item)))
        return values

    def encode(self, name: str, value: Any) -> Any:
        """Return what is stored of a value."""
        # Optuna's categories are plain scalars; ours may be tuples.
        return repr(value) if isinstance(self._item(name), spaces.Choice) else value

    def _item(self, name: str) -> spaces.Distribution | None:
        """Return the distribution of a parameter, None if the space has none of this name."""
        path = spaces.path_of(name)
        field = self._space.fields.get(path)
        if not isinstance(field, spaces.When):
            return field if path == name else None
        named = {spaces.parameter(path, field, {field.field: o}): i for o, i in field.options}
        return named.get(name)

    def decoded(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Return the values of a trial by dotted field; raises as `value`."""
        values: dict[str, Any] = {}
        for path, field in self._space.fields.items():
            if isinstance(field, spaces.When):
                if field.field not in values or field.given(values) is None:
                    continue
            name = spaces.parameter(path, field, values)
            if name in stored or not isinstance(field, spaces.When):
                values[path] = self.value(name, stored.get(name))
        return values

    def value(self, name: str, found: Any) -> Any:
        """Return what a stored value stands for; UserError for one that the space does not have."""
        item = self._item(name)
        if isinstance(item, spaces.Choice):
            for option in item.options:
                if repr(option) == found:
                    return option
        elif isinstance(item, spaces.Integer):
            if type(found) is int and found in range(item.low, item.high + 1, item.step):
                return found
        elif item is not None and type(found) in (int, float) and item.low <= found <= item.high:
            return found
        raise self._damaged(f"{name:.60} is {found!r:.60}, which the space does not have")


def distribution(item: spaces.Distribution) -> Any:
    """Return Optuna's distribution; its categories are the options' texts."""
    from optuna import distributions as kinds

    if isinstance(item, spaces.Choice):
        return kinds.CategoricalDistribution(tuple(map(repr, item.options)))
    if isinstance(item, spaces.Integer):
        return kinds.IntDistribution(item.low, item.grid()[-1], step=item.step)
    return kinds.FloatDistribution(item.low, item.high, log=isinstance(item, spaces.LogUniform))
