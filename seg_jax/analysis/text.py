"""The analysis of a network as text: a table of layers and the totals."""

import dataclasses
import typing
from collections.abc import Collection, Sequence
from typing import Any

from seg_jax import config, overrides
from seg_jax.analysis.network import Analysis, Layer

_HEADER = (
    "layer", "kind", "kernel", "stride", "rate", "channels", "output", "field", "OS", "parameters",
    "multiply-adds",
)  # fmt: skip
_NUMBERS = range(2, len(_HEADER))  # columns that are aligned to the right


def as_text(analysis: Analysis, experiment: Any = None) -> str:
    """Return the layers as a table (without norms, which are summed), then the totals.

    "field" is the receptive field in image pixels, "OS" the output stride after the layer. A field
    "image" is the whole image; a stride "-" means that the size does not depend on the image's.

    Args:
      analysis: of the network.
      experiment: its resolved configuration is printed first; None: only the network.
    """
    rows = [_row(layer) for layer in analysis.layers if layer.kind != "norm"]
    height, width, channels = analysis.image
    lines = [f"image {height}x{width}x{channels}", ""]
    lines += [*align([_HEADER, *rows], right=_NUMBERS), "", *_totals(analysis)]
    if experiment is not None:
        lines = [*configuration(experiment), "", *lines]
    return "\n".join(lines)


def configuration(value: Any, path: str = "") -> list[str]:
    """Return a configuration as lines "path = value", paths as the command line spells them.

    What cannot be set there is marked "(fixed)": names and references, and what is None but could
    be a group of fields.
    """
    lines = []
    hints = typing.get_type_hints(type(value))
    for name, item in config.fields(value).items():
        here = f"{path}.{name}" if path else name
        is_group = any(map(dataclasses.is_dataclass, typing.get_args(hints[name])))
        if here in overrides.IDENTITY or (item is None and is_group):
            lines.append(f"{here} = {item!r} (fixed)")
            continue
        if dataclasses.is_dataclass(item):
            lines += [f"{here} = {type(item).__name__}", *configuration(item, here)]
        elif isinstance(item, tuple) and any(map(dataclasses.is_dataclass, item)):
            lines += [f"{here}.{index} = {part}" for index, part in enumerate(item)]
        else:
            lines.append(f"{here} = {item!r}" if item != "" else f"{here} =")
    return lines


def _row(layer: Layer) -> tuple[str, ...]:
    return (
        layer.path,
        layer.kind,
        _pair(layer.kernel),
        _pair(layer.stride),
        _pair(layer.rate) if layer.rate and max(layer.rate) > 1 else "",
        f"{layer.in_channels} -> {layer.out_channels}"
        if layer.in_channels != layer.out_channels
        else str(layer.out_channels),
        "x".join(map(str, layer.output)),
        field_text(layer.receptive_field),
        "-" if layer.output_stride is None else f"{layer.output_stride:.4g}",
        f"{layer.parameters:,}" if layer.parameters else "",
        billions(layer.multiply_adds) if layer.multiply_adds else "",
    )


def _totals(analysis: Analysis) -> list[str]:
    norms = [layer for layer in analysis.layers if layer.kind == "norm"]
    rows = [
        ("parameters", f"{analysis.parameters:,}"),
        ("statistics", f"{analysis.statistics:,} running averages, not trained"),
        ("norms", f"{len(norms)} with {sum(layer.parameters for layer in norms):,} parameters"),
        ("only in training", f"{len(analysis.unused)} parameters: {', '.join(analysis.unused)}"),
        ("multiply-adds", f"{billions(analysis.multiply_adds)}, of convolutions, at this size"),
        ("output stride", f"{analysis.output_stride}, of the coarsest feature map"),
        ("receptive field", field_text(analysis.receptive_field) + " px, of one logit"),
        ("at most", f"the field was not traced through {', '.join(analysis.unknown)}"),
    ]
    absent = {
        "statistics": not analysis.statistics,
        "norms": not norms,
        "only in training": not analysis.unused,
        "at most": not analysis.unknown,
    }
    shown = [row for row in rows if not absent.get(row[0])]
    return align(shown)


def field_text(field: tuple[int | None, int | None]) -> str:
    """Return "404", "404x300" or, where it is not bounded, "image"."""
    height, width = field
    if height is None or width is None:
        return "image"
    return _pair((height, width))


def _pair(pair: tuple[int, int] | None) -> str:
    if pair is None:
        return ""
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def billions(count: int) -> str:
    """Return a count of multiply-adds as the papers write it: 81.02B, or 1.2M, 3.4K below that."""
    for factor, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= factor:
            return f"{count / factor:.2f}{unit}"
    return str(count)


def align(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """Return rows of cells as lines with aligned columns, those in `right` to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
