"""Analyse a network's layers: sizes, parameters, multiply-adds, receptive field, output stride."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from seg_jax.analysis import bounds
from seg_jax.analysis.trace import Step, Value, Walk
from seg_jax.nn import lowering

# Receptive fields are measured in the middle of an image of at least this side, which exceeds all
# fields of the FCN-to-DeepLab models except those of the whole image. Sides grow by multiples of
# _STEP, which keeps them legal (k * stride + 1 and the like) for the models' strides and pyramids.
_SIDE, _STEP = 4096, 96
_MIDDLE = (
    16  # elements on either side of the middle: together a period of every upsampling up to 32x
)

Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer; pairs are (vertical, horizontal).

    Attributes:
      path: of its module, or of the function's scope.
      kind: conv, atrous, depthwise, grouped, transposed, dense, max pool, average pool, adaptive
        pool, global pool, unpool, resize, norm, or "weights" for any other layer with weights.
      kernel: size in pixels of the input map; None where it is not defined.
      stride: of the output map in pixels of the input map; of "transposed" the upsampling factor.
      rate: distance of neighbouring taps; 1 except for "atrous" and atrous "depthwise".
      in_channels: of the input map.
      out_channels: of the output map.
      output: size of the output map, (height, width), at the given image size.
      parameters: trainable ones, counted in the first layer that uses them.
      multiply_adds: of the convolution or matrix product with weights; 0 for all other kinds, as
        in the papers. Taps on padding count; the zeros that a transposed convolution inserts do
        not.
      receptive_field: image pixels that one element of the output map depends on, far from any
        border; None: the whole image.
      output_stride: image pixels from one element of the output map to the next, along the
        rows; None where the map's size does not depend on the image's.
    """

    path: str
    kind: str
    kernel: Pair | None
    stride: Pair | None
    rate: Pair | None
    in_channels: int
    out_channels: int
    output: Pair
    parameters: int
    multiply_adds: int
    receptive_field: tuple[int | None, int | None]
    output_stride: float | None


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The layers of a network, and its totals.

    Attributes:
      image: (height, width, channels) that sizes and multiply-adds are for.
      layers: in the order in which they run in evaluation mode.
      parameters: trainable ones, including those that only training uses.
      statistics: number of untrained variables (running averages).
      multiply_adds: of one forward pass of one image.
      output_stride: of the coarsest feature map that grows with the image.
      receptive_field: of one logit.
      unused: names of the parameters that evaluation does not use (auxiliary heads).
      unknown: operations without a rule, whose result is assumed to depend on all of their input:
        the receptive field may be smaller than stated.
    """

    image: tuple[int, int, int]
    layers: tuple[Layer, ...]
    parameters: int
    statistics: int
    multiply_adds: int
    output_stride: int | None
    receptive_field: tuple[int | None, int | None]
    unused: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return dataclasses.asdict(self)


def analyse(model: Any, image_shape: tuple[int, int, int]) -> Analysis:
    """Analyse a model layer by layer, at full size and without allocating it.

    Args:
      model: a Linen module that is called as (image [n h w c], *, train) -> {"out": ...}.
      image_shape: (height, width, channels) of the image.

    Raises:
      ValueError: the model does not take the image's size.
    """
    variables = shapes(model, image_shape)
    height, width, channels = image_shape
    small, _ = _walk(model, variables, image_shape)
    large_shape = (_enlarged(height), _enlarged(width), channels)
    large, output = _walk(model, variables, large_shape)
    if len(small.steps) != len(large.steps):
        raise ValueError(
            f"the model has {len(small.steps)} layers at {height}x{width} and "
            f"{len(large.steps)} at {large_shape[0]}x{large_shape[1]}: its receptive field is not "
            "defined independently of the image's size"
        )
    sizes = {"/".join(path): leaf.size for path, leaf in _leaves(variables["params"])}
    layers = tuple(
        _layer(at_crop, enlarged, sizes, large_shape)
        for at_crop, enlarged in zip(small.steps, large.steps, strict=True)
    )
    used = {"/".join(leaf[1:]) for step in small.steps for leaf in step.leaves}
    strides = [layer.output_stride for layer in layers if layer.output_stride is not None]
    return Analysis(
        image=image_shape,
        layers=layers,
        parameters=sum(sizes.values()),
        statistics=sum(
            math.prod(leaf.shape)
            for name, tree in variables.items()
            if name != "params"
            for leaf in jax.tree.leaves(tree)
        ),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        output_stride=round(max(strides)) if strides else None,
        receptive_field=receptive_field(output, large_shape),
        unused=tuple(name for name in sizes if name not in used),
        unknown=tuple(sorted(small.unknown | large.unknown)),
    )


def shapes(model: Any, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Return the model's variables as shapes and dtypes: {"params": ..., "batch_stats": ...}."""

    def init(image):
        return model.init({"params": jax.random.key(0)}, image, train=False)

    with lowering.use("xla"):
        return jax.eval_shape(init, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))


def _walk(model, variables, image_shape) -> tuple[Walk, Value]:
    def forward(variables, image):
        return model.apply(variables, image, train=False)

    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with lowering.use("xla"):
        closed, out = jax.make_jaxpr(forward, return_shape=True)(variables, image)
    inputs = [Value(leaf.shape, leaves=frozenset({path})) for path, leaf in _leaves(variables)]
    inputs.append(Value(image.shape, bounds.image_bounds(image.shape)))
    walk = Walk()
    results = walk.run(closed.jaxpr, closed.consts, inputs)
    names = [path[-1] for path, _ in _leaves(out)] if isinstance(out, dict) else ["out"]
    return walk, results[names.index("out")]


def _leaves(tree: Any) -> list[tuple[tuple[str, ...], Any]]:
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(tuple(str(key.key) for key in path), leaf) for path, leaf in found]


def _enlarged(side: int) -> int:
    return side + _STEP * max(0, math.ceil((_SIDE - side) / _STEP))


def _layer(step: Step, enlarged: Step, sizes: dict[str, int], large_shape) -> Layer:
    before, after = enlarged.source, enlarged.value
    own = {"/".join(leaf[1:]): leaf[0] for leaf in step.leaves}
    kind, kernel, stride, rate = _geometry(step, before, after, large_shape)
    height, width = (*step.value.shape, 1, 1)[1:3]
    return Layer(
        path=step.path,
        kind=kind,
        kernel=kernel,
        stride=stride,
        rate=rate,
        in_channels=step.source.shape[-1],
        out_channels=step.value.shape[-1],
        output=(height, width) if len(step.value.shape) == 4 else (1, 1),
        parameters=sum(sizes[name] for name, owner in own.items() if owner == "params"),
        multiply_adds=multiply_adds(step.eqn) if step.eqn is not None else 0,
        receptive_field=receptive_field(after, large_shape),
        output_stride=_spacing(after, 1),
    )


def _geometry(step: Step, before: Value, after: Value, large_shape: Any) -> tuple[Any, ...]:
    """Return kind, kernel, stride and rate: of pools from their bounds, else from the primitive."""
    if step.kind == "conv":
        p, (kernel, cin) = step.eqn.params, _kernel(step.eqn)
        stride, kind = p["window_strides"], "conv"
        if max(p["lhs_dilation"]) > 1:
            kind, stride = "transposed", p["lhs_dilation"]
        elif p["feature_group_count"] > 1:
            kind = "depthwise" if cin == 1 else "grouped"
        elif max(p["rhs_dilation"]) > 1:
            kind = "atrous"
        return kind, kernel, tuple(stride), tuple(p["rhs_dilation"])
    if step.kind == "dense":
        return "dense", (1, 1), (1, 1), (1, 1)
    fields: Any = (receptive_field(before, large_shape), receptive_field(after, large_shape))
    steps: list[Any] = [(_spacing(before, axis), _spacing(after, axis)) for axis in (1, 2)]
    if not step.kind.endswith("pool") or None in (*fields[0], *fields[1], *steps[0], *steps[1]):
        return step.kind, None, None, None
    # One more tap of a window widens the field by one element of the input map.
    kernel = [
        round((wide - narrow) / step_in) + 1
        for narrow, wide, (step_in, _) in zip(*fields, steps, strict=True)
    ]
    stride = [round(step_out / step_in) for step_in, step_out in steps]
    return step.kind, tuple(kernel), tuple(stride), (1, 1)


def _kernel(eqn) -> tuple[Pair, int]:
    """Return the kernel's size and its input channels (of one group)."""
    spec = eqn.params["dimension_numbers"].rhs_spec
    shape = eqn.invars[1].aval.shape
    return tuple(shape[axis] for axis in spec[2:]), shape[spec[1]]


def multiply_adds(eqn: Any) -> int:
    """Return the multiply-adds of a convolution or matrix product for the whole batch."""
    left, right = (var.aval.shape for var in eqn.invars)
    out = eqn.outvars[0].aval.shape
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return math.prod(out) * math.prod(left[axis] for axis in contracted)
    numbers = eqn.params["dimension_numbers"]
    (kernel, cin), features = _kernel(eqn), right[numbers.rhs_spec[0]]
    # If the input is dilated by zeros, every input element meets every tap once.
    dilated = max(eqn.params["lhs_dilation"]) > 1
    shape, spec = (left, numbers.lhs_spec) if dilated else (out, numbers.out_spec)
    pixels = math.prod(shape[axis] for axis in spec[2:])
    return shape[spec[0]] * pixels * math.prod(kernel) * cin * features


def receptive_field(
    value: Value, image_shape: tuple[int, int, int]
) -> tuple[int | None, int | None]:
    """Return the receptive field (vertical, horizontal) in the middle of a feature map, in pixels.

    It is the largest one if upsampling makes them differ. None: it reaches the border, so it is the
    whole image.
    """
    fields = []
    for axis in (0, 1):
        assert value.bounds is not None  # of a traced feature map
        low, high = _middle(value.bounds[2 * axis]), _middle(-value.bounds[2 * axis + 1])
        inside = low.min() > 0 and high.max() < image_shape[axis] - 1
        fields.append(int((high - low).max()) + 1 if inside else None)
    return tuple(fields)


def _middle(bound: np.ndarray) -> np.ndarray:
    """Return the part of a bound (or of a negated one) around the middle of each axis."""
    for axis, size in enumerate(bound.shape):
        if size > 2 * _MIDDLE:
            bound = bound.take(range(size // 2 - _MIDDLE, size // 2 + _MIDDLE + 1), axis)
    return bound


def _spacing(value: Value, axis: int) -> float | None:
    """Return the image pixels between two elements along axis 1 or 2 of a map [n h w c]."""
    assert value.bounds is not None  # of a traced feature map
    bound = value.bounds[2 * (axis - 1)]
    if bound.ndim != 4 or bound.shape[axis] < 4 * _MIDDLE:
        return None
    others = tuple(other for other in range(4) if other != axis)
    first, last = _middle(bound.min(others))[[0, -1]]
    return float(last - first) / (2 * _MIDDLE) if first > 0 else None
