"""Where a GPU program's time goes: XLA's own estimates, and the roofline for what libraries do.

XLA:GPU writes what it expects of each fusion ("reification_cost", which `topology.prepare` asks
for), without launching it. It writes nothing usable of cuDNN's convolutions, cuBLAS's products and
copies: they get the slower of their arithmetic and their memory traffic at the published peaks.
"""

import math
import re
from collections.abc import Mapping

from seg_jax.targets import cycles, hlo
from seg_jax.targets.table import Target

_COST = re.compile(r'reification_cost":\[\{"end_to_end_cycles":([\d.e+-]+)')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_FILTER = re.compile(r"dim_labels=\w+?_(\w+)->")
_CONTRACTED = re.compile(r'lhs_contracting_dimensions":\[([^\]]*)\]')
# Of a convolution's operands and result (-1), which are its output and its filter.
_CONVOLUTIONS = {
    "__cudnn$convForward": (-1, 1),
    "__cudnn$convBiasActivationForward": (-1, 1),
    "__cudnn$convBackwardInput": (0, 1),
    "__cudnn$convBackwardFilter": (1, -1),
}


def of(text: str, target: Target, *, depth: int = 3) -> tuple[cycles.Cycles, float]:
    """Add up the estimates in a compiled GPU program's text.

    Args:
      text: of `jax.stages.Compiled.as_text`.
      target: of GPUs, whose clock, peaks and bandwidth are used.
      depth: levels of the module's path to keep apart.

    Returns:
      the estimates, and the FLOPs of convolutions and matrix products, of one device.
    """
    clock = target.chip.clock
    assert clock is not None
    instructions = list(hlo.executed(text))
    shapes = {one.name: one.shapes for one in instructions}
    flops = {one.name: _flops(one, shapes) for one in instructions}

    def estimate(one: hlo.Instruction) -> float | None:
        if flops[one.name] or one.opcode == "copy":
            return clock * _roofline(one, shapes, flops[one.name], target)
        found = _COST.search(one.line) if one.opcode == "fusion" else None
        return float(found.group(1)) if found else None

    counted = cycles.add_up(instructions, estimate, depth=depth)
    return counted, sum(flops[one.name] * one.times for one in instructions)


def _flops(instruction: hlo.Instruction, shapes: Mapping[str, str]) -> float:
    """Return the operations of one of cuDNN's convolutions or cuBLAS's products; 0: neither."""
    found = _TARGET.search(instruction.line)
    name = found.group(1) if found else ""
    if name not in _CONVOLUTIONS and not name.startswith("__cublas$"):
        return 0.0
    sizes = [hlo.dimensions(shapes[operand]) for operand in instruction.operands]
    sizes.append(hlo.dimensions(instruction.shapes))
    if name in _CONVOLUTIONS:
        output, kernel = (sizes[place] for place in _CONVOLUTIONS[name])
        labels = _FILTER.search(instruction.line)
        assert labels is not None
        channels = kernel[labels.group(1).index("o")]
        return 2.0 * math.prod(output) * math.prod(kernel) / channels
    contracted = _CONTRACTED.search(instruction.line)
    assert contracted is not None
    axes = [int(axis) for axis in re.findall(r"\d+", contracted.group(1))]
    return 2.0 * math.prod(sizes[-1]) * math.prod(sizes[0][axis] for axis in axes)


def _roofline(
    instruction: hlo.Instruction, shapes: Mapping[str, str], flops: float, target: Target
) -> float:
    """Return seconds: the slower of arithmetic and memory, the library's workspace left out."""
    result = hlo.first(instruction.shapes)
    moved = sum(hlo.size_bytes(hlo.first(shapes[operand])) for operand in instruction.operands)
    precision = "bfloat16" if result.startswith(("bf16", "f16")) else "float32"
    arithmetic = flops / target.peak(precision)
    return max(arithmetic, (moved + hlo.size_bytes(result)) / target.chip.bandwidth)
