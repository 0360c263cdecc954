"""Interpret a network's jaxpr: list its layers in execution order, with their bounds."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from seg_jax.analysis import bounds as bounds_
from seg_jax.analysis.bounds import Bound

# Primitives that only call another jaxpr.
_CALLS = frozenset(
    "jit pjit closed_call core_call custom_jvp_call custom_vjp_call checkpoint remat remat2".split()
)
# Scope of seg_jax.nn -> kind of layer, the primitive that computes it, and its occurrences.
_SCOPES = {
    "max_pool": ("max pool", "custom_vjp_call", 1),
    "max_pool_with_indices": ("max pool", "custom_vjp_call", 1),
    "max_unpool": ("unpool", "pad", 1),
    "average_pool": ("average pool", "reduce_window_sum", 1),
    "adaptive_average_pool": ("adaptive pool", "dot_general", 2),
    "global_average_pool": ("global pool", "reduce_sum", 1),
    "resize_half_pixel": ("resize", "dot_general", 2),
    "resize_align_corners": ("resize", "dot_general", 2),
    "upsample_bilinear_fixed": ("resize", "dot_general", 2),
}
# Primitives in a layer's scope that follow its main one and belong to its result.
_FINISH = frozenset(("transpose", "div", "mul", "convert_element_type", "broadcast_in_dim"))
_NORM = frozenset(("scale", "bias", "mean", "var"))  # a norm's variables

Leaf = tuple[str, ...]  # collection and path of a variable: ("params", "head", "kernel")


@dataclasses.dataclass(eq=False)
class Value:
    """What is known about one intermediate tensor.

    Attributes:
      shape: of the tensor.
      bounds: on the image's rows and columns, as `bounds.image_bounds`; None: independent of it.
      leaves: variables it was computed from, if it is independent of the image.
      constant: function that computes its value, if it depends on neither.
    """

    shape: tuple[int, ...]
    bounds: tuple[Bound, ...] | None = None
    leaves: frozenset[Leaf] = frozenset()
    constant: Callable[[], np.ndarray] | None = None


@dataclasses.dataclass(eq=False)
class Step:
    """One layer of the walk.

    Attributes:
      path: of its module, joined by "/".
      kind: "conv", "max pool", "norm", ...
      source: its input feature map.
      value: its output feature map.
      eqn: its equation, where that determines kernel and stride.
      leaves: variables that no earlier layer uses.
    """

    path: str
    kind: str
    source: Value
    value: Value
    eqn: Any = None
    leaves: set[Leaf] = dataclasses.field(default_factory=set)


class Walk:
    """Interprets a jaxpr on `Value`s and records its layers.

    Attributes:
      steps: the layers, in order.
      unknown: primitives without a rule that were applied to a feature map: their result is
        assumed to depend on everything that their operands depend on.
    """

    def __init__(self):
        self.steps: list[Step] = []
        self.unknown: set[str] = set()
        self._used: set[Leaf] = set()
        self._halves: dict[str, Value] = {}  # scope -> input of the first of two products

    def run(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
        """Interpret a jaxpr (without its consts) on its inputs; return its results."""
        return self._jaxpr(jaxpr, [_known(const) for const in consts], inputs, "")

    def _jaxpr(self, jaxpr, consts, inputs, scope):
        env = dict(zip(jaxpr.constvars, consts, strict=True))
        env |= dict(zip(jaxpr.invars, inputs, strict=True))

        def read(var):
            return _known(var.val) if hasattr(var, "val") else env[var]

        for eqn in jaxpr.eqns:
            operands = [read(var) for var in eqn.invars]
            stack = str(eqn.source_info.name_stack)
            inner = f"{scope}/{stack}" if scope and stack else scope or stack
            results = self._equation(eqn, operands, inner)
            self._note(eqn, operands, results, inner)
            env |= dict(zip(eqn.outvars, results, strict=True))
        return [read(var) for var in jaxpr.outvars]

    def _equation(self, eqn, operands, scope) -> list[Value]:
        name = eqn.primitive.name
        if name in _CALLS:
            called = eqn.params.get("call_jaxpr", eqn.params.get("jaxpr"))
            return self._jaxpr(*_open(called), operands, scope)
        if name == "cond":
            index, *rest = operands
            branches = [
                self._jaxpr(*_open(branch), rest, scope) for branch in eqn.params["branches"]
            ]
            return [_join([index, *values]) for values in zip(*branches, strict=True)]
        shapes = [tuple(getattr(var.aval, "shape", ())) for var in eqn.outvars]
        leaves = frozenset().union(*(operand.leaves for operand in operands))
        if all(operand.bounds is None for operand in operands):
            return _independent(eqn, operands, shapes, leaves)
        found = [self._bound(eqn, operands, part) for part in range(4)]
        return [
            Value(shape, tuple(bound.reshape(_fit(bound, shape)) for bound in found))
            for shape in shapes
        ]

    def _bound(self, eqn, operands, part) -> Bound:
        parts = [None if value.bounds is None else value.bounds[part] for value in operands]
        shape = getattr(eqn.outvars[0].aval, "shape", ())
        name, rank = eqn.primitive.name, len(shape)
        if 0 in shape:  # no element, no dependency
            return np.full((1,) * rank, bounds_.NOTHING)
        name = "reduce_window_sum" if name == "reduce_window" else name

        def constant(index):
            compute = operands[index].constant
            return None if compute is None else np.asarray(compute())

        try:
            if len(eqn.outvars) == 1 and name in bounds_.RULES:
                return bounds_.RULES[name](eqn, parts, constant)
        except NotImplementedError as error:
            name = str(error)
        if any(bound is not None and bound.size > 1 for bound in parts):
            self.unknown.add(name)
        return bounds_.collapse(parts, rank)

    def _note(self, eqn, operands, results, scope) -> None:
        """Add the layer of this equation, or extend the layer it belongs to."""
        image = [value for value in operands if value.bounds is not None]
        if not image or results[0].bounds is None:
            return
        weights = frozenset().union(*(value.leaves for value in operands))
        name, found = eqn.primitive.name, _scope_of(scope)
        last = self.steps[-1] if self.steps else None
        if found and not weights:
            self._note_scoped(eqn, image, results, scope, found)
        elif name in _CALLS:
            return  # the equations that it calls were recorded
        elif name == "conv_general_dilated" or name == "dot_general" and weights:
            kind = "conv" if name == "conv_general_dilated" else "dense"
            path = _module(weights) or _clean(scope)
            self._add(Step(path, kind, image[0], results[0], eqn), weights)
        elif name.startswith("reduce_window"):
            self._add(Step(_clean(scope), "pool", image[0], results[0]))
        elif weights:
            self._note_weights(image, results, weights)
        elif last and last.value in image and name in _FINISH and last.kind == "norm":
            last.value = results[0]

    def _note_scoped(self, eqn, image, results, scope, found) -> None:
        kind, primitive, times = _SCOPES[found]
        last = self.steps[-1] if self.steps else None
        if eqn.primitive.name == primitive:
            if times == 2 and scope.partition(found)[0] not in self._halves:
                self._halves[scope.partition(found)[0]] = image[0]
                return
            source = self._halves.pop(scope.partition(found)[0], image[0])
            self._add(Step(_clean(scope), kind, source, results[0]))
        elif last and last.value in image and eqn.primitive.name in _FINISH:
            last.value = results[0]

    def _note_weights(self, image, results, weights) -> None:
        """Assign weights to a layer: a bias to the layer of its module, other weights to a new one.

        The new layer is a norm if its weights have the names of a norm's, else "weights".
        """
        path = _module(weights)
        own = next((step for step in reversed(self.steps) if step.path == path), None)
        if own is None or own.kind == "norm" and own.value not in image:
            kind = "norm" if {leaf[-1] for leaf in weights} <= _NORM else "weights"
            own = Step(path, kind, image[0], results[0])
            self.steps.append(own)
        self._claim(own, weights)
        if own.value in image:
            own.value = results[0]

    def _add(self, step: Step, weights: frozenset[Leaf] = frozenset()) -> None:
        self.steps.append(step)
        self._claim(step, weights)

    def _claim(self, step: Step, weights: frozenset[Leaf]) -> None:
        step.leaves |= weights - self._used
        self._used |= weights


def _known(value: Any) -> Value:
    return Value(np.shape(value), constant=lambda: np.asarray(value))


def _open(called: Any) -> tuple[Any, list[Value]]:
    """Return jaxpr and consts of a closed or open jaxpr."""
    if hasattr(called, "consts"):
        return called.jaxpr, [_known(const) for const in called.consts]
    return called, []


def _independent(eqn, operands, shapes, leaves) -> list[Value]:
    """Return results that do not depend on the image; constants are computed on demand."""
    if leaves or any(operand.constant is None for operand in operands):
        return [Value(shape, leaves=leaves) for shape in shapes]
    memo: list[Any] = []

    def compute(index):
        if not memo:
            values = [operand.constant() for operand in operands]
            result = eqn.primitive.bind(*values, **eqn.params)
            memo.extend(result if eqn.primitive.multiple_results else [result])
        return np.asarray(memo[index])

    return [Value(shape, constant=lambda i=i: compute(i)) for i, shape in enumerate(shapes)]


def _join(values: Sequence[Value]) -> Value:
    shape = values[-1].shape
    leaves = frozenset().union(*(value.leaves for value in values))
    known = [value.bounds for value in values if value.bounds is not None]
    if not known:
        return Value(shape, leaves=leaves)
    return Value(shape, tuple(bounds_.union(part, len(shape)) for part in zip(*known, strict=True)))


def _fit(bound: Bound, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a bound for a result: a collapsed bound takes the result's rank."""
    return bound.shape if bound.ndim == len(shape) else (1,) * len(shape)


def _module(leaves: frozenset[Leaf]) -> str:
    """Return the path of the module that all of the variables belong to."""
    paths = [leaf[1:-1] for leaf in sorted(leaves)]
    common = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return "/".join(common)


def _components(scope: str) -> Iterator[str]:
    """Yield modules and scopes of Flax's Model/Model.method/module/..., without the model."""
    for part in scope.split("/")[1:]:
        if "." not in part and "->" not in part:
            yield part


def _scope_of(scope: str) -> str:
    return next((part for part in scope.split("/") if part in _SCOPES), "")


def _clean(scope: str) -> str:
    found = _scope_of(scope)
    parts = []
    for part in _components(scope if scope.partition("/")[0] != found else f"/{scope}"):
        parts.append(part)
        if part == found:
            break
    return "/".join(parts)
