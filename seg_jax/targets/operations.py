"""Single operations in the form that TPUs get and in the one they got before: estimated cycles.

All figures are the compiler's estimates: nothing has run. `accelerators_page` writes them down.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from seg_jax import losses, metrics, parallel
from seg_jax.kernels import upsampled_logits
from seg_jax.nn import lowering, pool, resize
from seg_jax.nn.conv import conv, depthwise_conv
from seg_jax.nn.norm import BatchNorm
from seg_jax.nn.upsampled import Upsampled
from seg_jax.parallel import compiler
from seg_jax.targets import cycles, table, topology

RECORD = "experiments/operations.json"
TARGET = "v5e-8"  # one of its chips
WORSE = 1.03  # a figure that exceeds the committed one by more fails the test


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation of the networks with its gradient.

    Attributes:
      function: of x and perhaps a kernel.
      shapes: of its arguments, with dtypes.
      where: which layer of which network it is.
      differentiated: the arguments whose gradients are taken; (): none.
      before: function of the form before; None: the same, lowered as for GPUs.
      whole_images: "now" is compiled as such networks are at this batch, not in strips.
    """

    function: Callable[..., Any]
    shapes: tuple[tuple[tuple[int, ...], Any], ...]
    where: str
    differentiated: tuple[int, ...] = (0,)
    before: Callable[..., Any] | None = None
    whole_images: bool = True


def _stem(image: jax.Array, kernel: jax.Array) -> jax.Array:
    mean = jnp.full((1, 1, 1, 3), 127.5)
    normal = ((image.astype(jnp.float32) - mean) / mean).astype(jnp.bfloat16)
    return conv(normal, kernel.astype(jnp.bfloat16), stride=2, padding=3)


def _pool_and_unpool(x: jax.Array) -> jax.Array:
    y, indices = pool.max_pool_with_indices(x, rounding="ceil")
    size = x.shape[1], x.shape[2]
    return pool.max_unpool(y, indices, size)


def _normalised(
    x: jax.Array, kernel: jax.Array, scale: jax.Array, bias: jax.Array, mean: jax.Array
) -> jax.Array:
    params = {"scale": scale, "bias": bias}
    variables = {"params": params, "batch_stats": {"mean": mean, "var": jnp.ones_like(mean)}}
    y, _ = BatchNorm().apply(variables, conv(x, kernel), train=True, mutable=["batch_stats"])
    return jax.nn.relu(y)


def loss(scores: jax.Array, label: jax.Array, *, whole: bool) -> tuple[jax.Array, Any]:
    """Return the loss, and the counts that the training step takes with it; of whole logits or in
    strips.
    """
    rows, columns = (resize.align_corners_matrix(*pair) for pair in _sides(scores, label))
    logits = Upsampled(scores, rows, columns)
    outputs = {"out": logits.whole() if whole else logits}
    total, *counts = losses.loss_and_correct(outputs, label, losses.LossConfig())
    return total, counts


def labels(scores: jax.Array, label: jax.Array, *, whole: bool) -> tuple[jax.Array, jax.Array]:
    """Return the classes and their confusion counts, from whole logits or in strips."""
    rows, columns = (resize.align_corners_matrix(*pair) for pair in _sides(scores, label))
    if not whole:
        return upsampled_logits.confusion(scores, rows, columns, label)
    logits = resize.apply_separable(scores, rows, columns)
    found = jnp.argmax(logits, -1).astype(jnp.uint8)
    return found, metrics.confusion(label, found, scores.shape[-1])


def _sides(scores: jax.Array, label: jax.Array) -> Any:
    return zip(scores.shape[1:3], label.shape[1:3], strict=True)


def _upsampled(
    function: Callable[..., Any], images: int, classes: int, **options: Any
) -> Operation:
    return Operation(
        functools.partial(function, whole=False),
        (((images, 33, 33, classes), jnp.float32), ((images, 513, 513), jnp.uint8)),
        f"DeepLab v3 at 513 px, {images} images, {classes} classes",
        before=functools.partial(function, whole=True),
        **options,
    )


_BF16 = jnp.bfloat16
OPERATIONS = {
    "max pooling 3x3, stride 2": Operation(
        functools.partial(pool.max_pool, window=3, stride=2, padding=1),
        (((2, 257, 257, 64), _BF16),),
        "ResNet's stem at 513 px, 2 images",
    ),
    "max pooling 2x2, stride 2": Operation(
        pool.max_pool, (((4, 320, 320, 64), _BF16),), "VGG's pool1 at 320 px, 4 images"
    ),
    "pooling 2x2 with indices, and unpooling": Operation(
        _pool_and_unpool,
        (((2, 360, 480, 64), _BF16),),
        "SegNet-Basic's stage 1, 2 images",
        whole_images=False,
    ),
    "picture and 7x7 convolution, stride 2": Operation(
        _stem,
        (((2, 513, 513, 3), jnp.uint8), ((7, 7, 3, 64), jnp.float32)),
        "ResNet's stem at 513 px, 2 images",
        differentiated=(1,),
    ),
    "depthwise 3x3": Operation(
        functools.partial(depthwise_conv, padding=1),
        (((2, 65, 65, 728), _BF16), ((3, 3, 1, 728), _BF16)),
        "Xception's middle flow at 65 px, 2 images",
        differentiated=(0, 1),
    ),
    "1x1 convolution, batch norm and ReLU": Operation(
        _normalised,
        (((8, 65, 65, 256), _BF16), ((1, 1, 256, 256), _BF16), *(((256,), jnp.float32),) * 3),
        "ResNet's stage 2 at 513 px, 8 images",
        differentiated=(0, 1, 2, 3),
    ),
    "upsampling and cross-entropy": _upsampled(loss, 8, 21),
    "upsampling and cross-entropy, 150 classes": _upsampled(loss, 2, 150),
    "upsampling, labels and confusion counts": _upsampled(labels, 8, 21, differentiated=()),
}
FORMS = {"before": "gpu", "now": "tpu"}  # the platform whose form is compiled for the TPU


def compile_one(name: str, form: str) -> dict[str, Any]:
    """Compile value and gradient of an operation for one TPU v5e; `topology.prepare` comes first.

    "before" has none of the options of `parallel.compiler`.

    Returns:
      estimated_cycles, temporaries_bytes, without_estimate.
    """
    operation = OPERATIONS[name]
    mesh = parallel.make_mesh([topology.describe(table.get(TARGET))[0]])
    place = NamedSharding(mesh, PartitionSpec())

    function, platform = operation.function, FORMS[form]
    if operation.before:
        function, platform = operation.before if form == "before" else function, "tpu"

    def value_and_gradient(gradient: jax.Array, *args: jax.Array) -> Any:
        def of(*chosen: jax.Array) -> tuple[jax.Array, Any]:
            replaced = list(args)
            for place, argument in zip(operation.differentiated, chosen, strict=True):
                replaced[place] = argument
            found = function(*replaced)
            return found if isinstance(found, tuple) else (found, ())

        if not operation.differentiated:
            return of()
        chosen = (args[place] for place in operation.differentiated)
        y, back, counts = jax.vjp(of, *chosen, has_aux=True)
        return y, counts, back(gradient)

    with lowering.for_platform(platform, mesh.devices.flat[0].device_kind):
        shapes = [jax.ShapeDtypeStruct(*shape, sharding=place) for shape in operation.shapes]
        y = jax.tree.leaves(jax.eval_shape(function, *shapes))[0]
        gradient = jax.ShapeDtypeStruct(y.shape, y.dtype, sharding=place)
        now = operation.whole_images and form == "now"
        options = compiler.whole_images(mesh.devices.flat[0]) if now else None
        program = jax.jit(value_and_gradient, compiler_options=options)
        compiled: Any = program.lower(gradient, *shapes).compile()
    found = cycles.of(compiled.as_text())
    return {
        "estimated_cycles": found.total,
        "temporaries_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "without_estimate": found.unknown,
    }


def compile_forms(name: str) -> dict[str, dict[str, Any]]:
    """Return what `compile_one` does for each of FORMS."""
    return {form: compile_one(name, form) for form in FORMS}


def worse(committed: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return what exceeds the committed figures by more than `WORSE`, as lines."""
    return [
        f"{key}: {found[key]} exceeds the committed {committed[key]}"
        for key in ("estimated_cycles", "temporaries_bytes")
        if found[key] > WORSE * committed[key]
    ] + [
        f"{name}: carries no estimate; {n} of them, {committed['without_estimate'].get(name, 0)} "
        "in the committed figures"
        for name, n in found["without_estimate"].items()
        if n > committed["without_estimate"].get(name, 0)
    ]
