"""Single operations in the form that TPUs get and in the one they got before: estimated cycles.

`python -m seg_jax.targets.operations` compiles each for one TPU v5e, which takes seconds to a
minute, and prints them; with `--write` it also replaces experiments/operations.json and
docs/accelerators.md. Words after it choose the operations that have one of them in their name; the
others keep their figures. All figures are the compiler's estimates: nothing has run.
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from seg_jax import files, losses, metrics, parallel, progress
from seg_jax.kernels import upsampled_logits
from seg_jax.nn import lowering, pool, resize
from seg_jax.nn.conv import conv
from seg_jax.nn.upsampled import Upsampled
from seg_jax.targets import cycles, table, topology

RECORD = "experiments/operations.json"
PAGE = "docs/accelerators.md"
TARGET = "v5e-8"  # one of its chips
WORSE = 1.03  # a figure that exceeds the committed one by more fails the test


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation of the networks with its gradient.

    Attributes:
      function: of x and perhaps a kernel.
      shapes: of its arguments, with dtypes.
      where: which layer of which network it is.
      differentiated: the argument whose gradient is taken; None: none.
      before: function of the form before; None: the same, lowered as for GPUs.
    """

    function: Callable[..., Any]
    shapes: tuple[tuple[tuple[int, ...], Any], ...]
    where: str
    differentiated: int | None = 0
    before: Callable[..., Any] | None = None


def _stem(image: jax.Array, kernel: jax.Array) -> jax.Array:
    mean = jnp.full((1, 1, 1, 3), 127.5)
    normal = ((image.astype(jnp.float32) - mean) / mean).astype(jnp.bfloat16)
    return conv(normal, kernel.astype(jnp.bfloat16), stride=2, padding=3)


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
    "picture and 7x7 convolution, stride 2": Operation(
        _stem,
        (((2, 513, 513, 3), jnp.uint8), ((7, 7, 3, 64), jnp.float32)),
        "ResNet's stem at 513 px, 2 images",
        differentiated=1,
    ),
    "upsampling and cross-entropy": _upsampled(loss, 8, 21),
    "upsampling and cross-entropy, 150 classes": _upsampled(loss, 2, 150),
    "upsampling, labels and confusion counts": _upsampled(labels, 8, 21, differentiated=None),
}
FORMS = {"before": "gpu", "now": "tpu"}  # the platform whose form is compiled for the TPU


def compile_one(name: str, form: str) -> dict[str, Any]:
    """Compile value and gradient of an operation for one TPU v5e; `topology.prepare` comes first.

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
        chosen = operation.differentiated
        if chosen is None:
            return function(*args)

        def of(argument: jax.Array) -> Any:
            others = list(args)
            others[chosen] = argument
            found = function(*others)
            return found if isinstance(found, tuple) else (found, ())

        y, back, counts = jax.vjp(of, args[chosen], has_aux=True)
        return y, counts, back(gradient)

    with lowering.for_platform(platform):
        shapes = [jax.ShapeDtypeStruct(*shape, sharding=place) for shape in operation.shapes]
        y = jax.tree.leaves(jax.eval_shape(function, *shapes))[0]
        gradient = jax.ShapeDtypeStruct(y.shape, y.dtype, sharding=place)
        compiled: Any = jax.jit(value_and_gradient).lower(gradient, *shapes).compile()
    found = cycles.of(compiled.as_text())
    return {
        "estimated_cycles": found.total,
        "temporaries_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "without_estimate": found.unknown,
    }


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


_HEAD = """\
# What the TPU's compiler estimates

Generated by `python -m seg_jax.targets.operations --write`; do not edit.

**Nothing on this page has run.** Cycles are *the compiler's estimates*, of value and gradient of
one operation compiled for one TPU v5e (1.5 GHz); the same program always gets the same ones.
Some operations carry no estimate: they are named, and their cycles are not in the sums.

| operation | where | form | estimated cycles | temporaries | without an estimate |
|---|---|---|---|---|---|
"""
_TAIL = """
"before" is the form that GPUs keep; of upsampling it holds the logits of the image's size, the
default, and "now" is `--train.logits strips` and `--evaluation.logits strips`. For the
select-and-scatter that max pooling's gradient now is, the dumped bundles
(`seg_jax.targets.bundles`) bound what the sum leaves out: 3x3 with stride 2 is 102 trips of 8,179
bundles, 0.83 M cycles, loops inside them counted once. So the compiler's
figures make it about 13 times cheaper than before, not the 27 times that the estimates alone say.
Bundles are no substitute for estimates: of layout-changing copies the estimates are five times the
bundles times trips, because those repeat inner loops or wait for memory.

Of upsampling on a v5e, strips save memory, and few cycles or none: the logits of two images live in
the chip's 128 MiB of vector memory, and the compiler fuses the last product of the resize with the
argmax. Each of the four reductions over the classes interpolates its strip once more.

## The cross-entropy's kernel

`kernels.upsampled_loss_tpu`: value and gradient of one interval between two rows of scores (16 rows
of logits at stride 16), 128 columns and 21 classes, are 520 bundles on v5e; the vector units, which
bind, need 498 of them (1.04 times the bound). For 8 images of 513 px that is 33 intervals of 5 x
520 bundles each, 0.70 M cycles, beside 3.3 M in strips and 3.8 M with whole logits; the
interpolation along the columns, which stays XLA's, comes on top. Compiled for v5e, v5p and v6e with
21 classes, for v5e with 150; interpreted, equal to the plain form within 1e-6. The training step
does not use it: `shard_map` with `check_vma` takes no Pallas kernel in jax 0.10.2.

## The CRF's kernel

`exact_tpu`, blocks of 512 pixels, 21 classes: compiled for v5e, v5p and v6e, interpreted with the
race detector, equal to `exact` within 2e-4. The loop over pairs of blocks has 1,913 bundles a trip
on v5e; the matrix unit, which binds, needs 1,677 of them (1.14 times the bound). With Q and kernel
rounded to bfloat16 once it was 1,387 bundles, but probabilities were 8e-4 away.
"""


def page(record: dict[str, Any]) -> str:
    """Return docs/accelerators.md for the recorded figures."""
    rows = []
    for name, forms in record.items():
        for form, found in forms.items():
            unknown = ", ".join(f"{n} {op}" for op, n in found["without_estimate"].items())
            rows.append(
                f"| {name} | {OPERATIONS[name].where} | {form} | "
                f"{found['estimated_cycles'] / 1e6:.2f} M | "
                f"{found['temporaries_bytes'] / 1e6:.0f} MB | {unknown} |\n"
            )
    return _HEAD + "".join(rows) + _TAIL


def main() -> None:
    """Print operations in both forms; `--write`: also write the record and the page."""
    root = Path(__file__).parents[2]
    words = [word for word in sys.argv[1:] if word != "--write"]
    chosen = [name for name in OPERATIONS if not words or any(word in name for word in words)]
    topology.prepare(table.get(TARGET))
    found = {name: {form: compile_one(name, form) for form in FORMS} for name in chosen}
    progress.show(json.dumps(found, indent=1))
    if "--write" in sys.argv[1:]:
        kept = json.loads((root / RECORD).read_text())
        record = {name: found.get(name) or kept[name] for name in OPERATIONS}
        files.write_json(root / RECORD, record)
        files.write_text(root / PAGE, page(record))


if __name__ == "__main__":
    main()
