"""Search spaces: which fields of an experiment are varied, and over which values.

Space({"optim.base_lr": LogUniform(1e-4, 1e-1), "train.batch_size": Choice((8, 16))})
"""

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seg_jax import config, overrides
from seg_jax.checks import UserError


def _range(kind: str, low: float, high: float, points: int) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{kind}({low}, {high}): low must be smaller than high, both finite")
    if points < 2:
        raise UserError(f"{kind}({low}, {high}): points must be at least 2, got {points}")


@dataclasses.dataclass(frozen=True)
class Uniform:
    """A real number between low and high; a grid takes `points` of them at equal distances."""

    low: float
    high: float
    points: int = 3

    def __post_init__(self):
        _range("Uniform", self.low, self.high, self.points)

    def grid(self) -> tuple[float, ...]:
        """Return the values that a grid takes."""
        step = (self.high - self.low) / (self.points - 1)
        inner = (_short(self.low + step * index) for index in range(1, self.points - 1))
        return (self.low, *inner, self.high)


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """A real number between low > 0 and high, its logarithm uniform; a grid takes `points`."""

    low: float
    high: float
    points: int = 3

    def __post_init__(self):
        _range("LogUniform", self.low, self.high, self.points)
        if self.low <= 0:
            raise UserError(f"LogUniform({self.low}, {self.high}): low must be positive")

    def grid(self) -> tuple[float, ...]:
        """Return the values that a grid takes, at equal ratios."""
        ratio = math.log(self.high / self.low) / (self.points - 1)
        inner = (_short(self.low * math.exp(ratio * index)) for index in range(1, self.points - 1))
        return (self.low, *inner, self.high)


@dataclasses.dataclass(frozen=True)
class Integer:
    """A whole number low, low + step, ... up to high; a grid takes them all."""

    low: int
    high: int
    step: int = 1

    def __post_init__(self):
        if not all(type(value) is int for value in (self.low, self.high, self.step)):
            raise UserError(f"{self}: low, high and step must be whole numbers")
        _range("Integer", self.low, self.high, 2)
        if self.step < 1:
            raise UserError(f"{self}: step must be at least 1")

    def grid(self) -> tuple[int, ...]:
        """Return the values that a grid takes."""
        return tuple(range(self.low, self.high + 1, self.step))


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of the options, which have no order; a grid takes them all."""

    options: tuple[Any, ...]

    def __post_init__(self):
        if isinstance(self.options, str) or not isinstance(self.options, Sequence):
            raise UserError(f"Choice({self.options!r}): give a tuple of options")
        object.__setattr__(self, "options", tuple(self.options))
        if not self.options or len(set(map(repr, self.options))) < len(self.options):
            raise UserError(f"{self}: give at least one option, and none twice")

    def grid(self) -> tuple[Any, ...]:
        """Return the values that a grid takes."""
        return self.options


Distribution = Uniform | LogUniform | Integer | Choice


@dataclasses.dataclass(frozen=True)
class When:
    """A distribution for each option of another field, which stands before it in the space.

    For an option that is not named, the field keeps the experiment's value.

    Attributes:
      field: dotted name of the other field, a Choice.
      options: (option, distribution) pairs, or a mapping.
    """

    field: str
    options: Any

    def __post_init__(self):
        pairs = self.options.items() if isinstance(self.options, Mapping) else self.options
        object.__setattr__(self, "options", tuple((option, item) for option, item in pairs))
        for _, item in self.options:
            if not isinstance(item, Distribution):
                raise UserError(f"When({self.field!r}): {item!r} is no distribution")

    def given(self, values: Mapping[str, Any]) -> Distribution | None:
        """Return the distribution for the values of the fields before; None: not varied."""
        return dict(self.options).get(values.get(self.field))


def _short(value: float) -> float:
    """Drop the digits that are rounding: a grid's 0.01 is 0.01."""
    return float(f"{value:.12g}")


@dataclasses.dataclass(frozen=True)
class Space:
    """What a sweep varies: dotted fields of an experiment, each with its distribution."""

    fields: Mapping[str, Distribution | When]

    def __post_init__(self):
        if not isinstance(self.fields, Mapping) or not self.fields:
            raise UserError("a space is Space({'dotted.field': distribution, ...}) with a field")
        for path, distribution in self.fields.items():
            if not isinstance(distribution, Distribution | When):
                raise UserError(
                    f"space: {path} has {distribution!r}; "
                    "give a Uniform, LogUniform, Integer, Choice or When"
                )
        before: dict[str, Any] = {}
        for path, item in self.fields.items():
            if isinstance(item, When):
                _check_condition(path, item, before)
            before[path] = item

    def grid(self) -> list[dict[str, Any]]:
        """Return every point of the grid, the last field changing fastest."""
        points: list[dict[str, Any]] = [{}]
        for path, item in self.fields.items():
            points = [longer for point in points for longer in _longer(point, path, item)]
        return points

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {path: config.to_dict(distribution) for path, distribution in self.fields.items()}


def _check_condition(path: str, item: When, before: Mapping[str, Any]) -> None:
    other = before.get(item.field)
    if not isinstance(other, Choice):
        raise UserError(f"space: {path} depends on {item.field}, which is no Choice before it")
    unknown = [option for option, _ in item.options if option not in other.options]
    if unknown:
        raise UserError(f"space: {path}: {item.field} has no option {unknown[0]!r}")


def _longer(
    point: dict[str, Any], path: str, item: Distribution | When
) -> Iterator[dict[str, Any]]:
    found = item.given(point) if isinstance(item, When) else item
    if found is None:
        yield point
    else:
        yield from ({**point, path: value} for value in found.grid())


def distributions(item: Distribution | When) -> tuple[Distribution, ...]:
    """Return all that a field may be drawn from."""
    return tuple(each for _, each in item.options) if isinstance(item, When) else (item,)


def is_conditional(space: Space) -> bool:
    """Whether some field is varied for some options of another one only."""
    return any(isinstance(item, When) for item in space.fields.values())


def parameter(path: str, item: Distribution | When, values: Mapping[str, Any]) -> str:
    """Return the name under which a field's values are compared with those of other trials."""
    if isinstance(item, When):
        return f"{path} [{item.field}={values[item.field]!r}]"
    return path


def path_of(parameter: str) -> str:
    """Return the dotted field of a `parameter`."""
    return parameter.partition(" [")[0]


def check(space: Space, experiment: Any) -> None:
    """Raise UserError unless every field exists and takes every value of its distribution.

    The message names the field and, for one that does not exist, the closest that do. The ends of
    every range and every option are tried, one at a time.
    """
    for path, distribution in space.fields.items():
        owner, name = overrides.owner(experiment, path)
        current = getattr(owner, name)
        if dataclasses.is_dataclass(current):
            inner = ", ".join(f"{path}.{field}" for field in config.fields(current))
            raise UserError(f"space: {path} is a group; vary one of its fields: {inner}")
        hint = typing.get_type_hints(type(owner)).get(name, Any)
        values = [value for item in distributions(distribution) for value in _extremes(item)]
        for value in values:
            if not config.fits(value, hint):
                raise UserError(
                    f"space: {path} is of type {config.type_name(hint)} (now {current!r}), "
                    f"which {value!r} of {distribution} is not"
                )
            overrides.apply(experiment, {path: value})


def _extremes(distribution: Distribution) -> tuple[Any, ...]:
    if isinstance(distribution, Choice):
        return distribution.options
    if isinstance(distribution, Integer):
        return distribution.grid()[0], distribution.grid()[-1]
    return float(distribution.low), float(distribution.high)
