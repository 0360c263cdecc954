"""Backbones by name, and another backbone in the place of a network's own.

A network that has requirements of its own says so by a method `with_backbone(name)`, which
`replace` calls; for all others, the new backbone gets the output stride of the one it replaces.
"""

import contextlib
import dataclasses
from typing import Any, Literal

from seg_jax import checks, overrides
from seg_jax.backbones.mobilenet_v2 import MobileNetV2
from seg_jax.backbones.resnet import ResNet
from seg_jax.backbones.vgg import DEEPLAB_POOLS, VGG, Pool
from seg_jax.backbones.xception import Xception

Backbone = VGG | ResNet | MobileNetV2 | Xception

_WHOLE: dict[str, Any] = {"width": 1.0}
_NAMED: dict[str, tuple[type, dict[str, Any]]] = {
    "vgg16": (VGG, _WHOLE | {"depths": VGG.depths}),
    "resnet50": (ResNet, _WHOLE | {"depth": 50}),
    "resnet101": (ResNet, _WHOLE | {"depth": 101}),
    "resnet152": (ResNet, _WHOLE | {"depth": 152}),
    "mobilenet_v2": (MobileNetV2, _WHOLE),
    "xception41": (Xception, _WHOLE | {"depth": 41, "middle_units": None}),
    "xception65": (Xception, _WHOLE | {"depth": 65, "middle_units": None}),
    "xception71": (Xception, _WHOLE | {"depth": 71, "middle_units": None}),
}
NAMES = tuple(_NAMED)


def replace(model: Any, name: str) -> Any:
    """Return the network on the backbone `name`; the same network if that is its own.

    Args:
      model: any network of `seg_jax.models`, or a user's with a field `backbone`.
      name: one of `NAMES`.

    Raises:
      ValueError: there is no such backbone, or the network cannot have it; says why.
    """
    if name not in NAMES:
        raise ValueError(checks.unknown(name, NAMES))
    if hasattr(model, "with_backbone"):
        return model.with_backbone(name)
    current = getattr(model, "backbone", None)
    if not isinstance(current, Backbone):
        raise ValueError(f"{type(model).__name__} has no backbone that could be another")
    return model.clone(backbone=in_place_of(current, name))


def flags(recipe: Any, changed: Any) -> list[str]:
    """Return the command line's arguments that turn a recipe into an experiment with other fields,
    --model.backbone among them where that is needed or shorter.

    Raises:
      ValueError: they differ in more than fields and the backbone's name.
    """
    known: list[tuple[tuple[str, ...], Any]] = [((), recipe)]
    for name in NAMES:
        with contextlib.suppress(ValueError):  # a backbone that the network cannot have
            known.append((("--model.backbone", name), recipe.with_backbone(name)))
    kind = type(getattr(changed.model, "backbone", None))
    options = [
        [*chosen, *overrides.flags(default, changed)]
        for chosen, default in known
        if type(getattr(default.model, "backbone", None)) is kind
    ]
    if not options:
        raise ValueError(f"{recipe.name}: no command gives a backbone of type {kind.__name__}")
    return min(options, key=len)


def in_place_of(
    current: Backbone,
    name: str,
    *,
    output_stride: int | None = None,
    pools: Literal["2x2", "3x3"] = "3x3",
) -> Any:
    """Return the backbone `name`, at full width, in the place of another.

    One of the same class keeps that one's other fields (ResNet-101 for ResNet-50: its variant,
    stem and rates). Of another class, it keeps where the batch norms take their statistics from
    and their momentum, which belong to the recipe; their epsilon belongs to the weights.

    Args:
      current: the backbone that is replaced.
      name: one of `NAMES`.
      output_stride: 8, 16 or 32; None: as now.
      pools: VGG's: "2x2" as in the classifier; "3x3", DeepLab's, whose samples lie at the pixels
        0, s, 2 s, ..., as in all other backbones. Only 3x3 pools have an output stride below 32.

    Raises:
      ValueError: the backbone does not have this output stride.
    """
    kind, fields = _NAMED[name]
    if isinstance(current, kind):
        return current.clone(**fields)
    stride = current.output_stride if output_stride is None else output_stride
    checks.one_of((8, 16, 32), output_stride=stride)
    if kind is VGG:
        return VGG() if pools == "2x2" else _vgg_on_corners(stride)
    norm = kind().norm
    if not isinstance(current, VGG):
        now = current.norm
        kept = {name: getattr(now, name) for name in ("momentum", "statistics", "groups")}
        norm = dataclasses.replace(norm, **kept)
    return kind(**fields, output_stride=stride, norm=norm)


def _vgg_on_corners(output_stride: int) -> VGG:
    """Return VGG-16 as DeepLab v2 has it at 8: a pool without its stride makes the next stage
    atrous.
    """
    strided = {8: 3, 16: 4, 32: 5}[output_stride]
    pools = (*DEEPLAB_POOLS[:1] * strided, *(Pool(3, 1, 1),) * (5 - strided))
    return VGG(pools=pools, rates=(1, 1, 1, 1, 2 if output_stride == 8 else 1))
