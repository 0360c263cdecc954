"""Time each implementation of a convolution beside XLA's own, and PyTorch where installed.

    python scripts/bench_conv.py [--dtype bfloat16] [--batch 1] [--rounds 5] [--only NAME]

All contenders of a case run interleaved in one process, so that other load slows all of them.
Printed per case: median milliseconds, and the ratio to XLA's own operation (below 1 is faster);
a star marks the one that seg_jax chooses on this platform ("blocks" is for large batches).
On the CPU freed memory stays in the process, as in training (`seg_jax.parallel.allocator`).
"""

import argparse
import dataclasses
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from jax import numpy as jnp

from seg_jax.nn import depthwise, lowering, products
from seg_jax.nn.conv_geometry import Geometry
from seg_jax.parallel import allocator

sys.path.insert(0, str(Path(__file__).resolve().parent / "gpu"))
import turns  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Case:
    """One convolution of a square image: "same" padding; none for "valid" and "transposed"."""

    name: str
    size: int  # height and width, pixels
    channels: tuple[int, int]  # in, out; equal for a depthwise convolution
    kernel: int = 3
    rate: int = 1
    stride: int = 1
    kind: Literal["conv", "valid", "depthwise", "transposed"] = "conv"

    @property
    def pad(self) -> int:
        """Padding on each side, pixels."""
        return 0 if self.kind in ("valid", "transposed") else self.rate * (self.kernel - 1) // 2

    def arrays(self, batch: int, dtype: str) -> tuple[jax.Array, jax.Array]:
        """Return a random image and kernel."""
        rng = np.random.default_rng(0)
        cin, cout = self.channels
        shape = (self.kernel, self.kernel, 1 if self.kind == "depthwise" else cin, cout)
        x = rng.normal(size=(batch, self.size, self.size, cin))
        return jnp.asarray(x, dtype), jnp.asarray(rng.normal(size=shape) / 10, dtype)

    def contenders(self) -> tuple[dict[str, Callable], Callable]:
        """Return the implementations by name, XLA's first, and the one that seg_jax chooses."""
        stride, pads = (self.stride,) * 2, ((self.pad, self.pad),) * 2
        if self.kind == "transposed":
            found = {"xla": lowering.transposed_xla, "blocks": products.transposed}
            chosen, arguments = lowering.choose_transposed(), (stride, pads)
        else:
            geometry = Geometry(stride, (self.rate,) * 2, pads)
            arguments = (geometry,)
            if self.kind == "depthwise":
                found = {"xla": lowering.depthwise_xla, "shifts": depthwise.shifts}
                chosen = lowering.choose_depthwise()
            else:
                found = {"xla": lowering.conv_xla, "taps": products.taps}
                found |= {"matmul": products.one_tap} if self.kernel == 1 else {}
                found |= {"padded": lowering.conv_padded} if self.kind == "valid" else {}
                found |= {"blocks": lowering.conv_blocks} if self.kernel > 1 else {}
                found |= {"shifted": products.shifted} if self.stride == 1 else {}
                if self.kernel == 3 and self.stride == 1:
                    found["winograd"] = lowering.conv_winograd
                if self.kernel == 7 and self.kind == "conv":
                    found["fourier"] = lowering.conv_fourier
                kernel = (self.kernel, self.kernel, *self.channels)
                chosen = lowering.choose_conv((self.size,) * 2, kernel, geometry)
        found |= {} if chosen in found.values() else {"chosen": chosen}
        bound = {name: functools.partial(_call, run, arguments) for name, run in found.items()}
        return bound, next(bound[name] for name, run in found.items() if run is chosen)


def _call(run, arguments, x, kernel):
    return run(x, kernel, *arguments)


CASES = (
    Case("1x1 1024->256", 65, (1024, 256), kernel=1),
    Case("1x1 256->1024", 65, (256, 1024), kernel=1),
    Case("1x1 256->512 stride 2", 65, (256, 512), kernel=1, stride=2),
    Case("3x3 64->64", 327, (64, 64)),
    Case("3x3 128->128", 164, (128, 128)),
    Case("3x3 256->256", 65, (256, 256)),
    Case("3x3 512->512 rate 2", 65, (512, 512), rate=2),
    Case("3x3 512->512 rate 4", 65, (512, 512), rate=4),
    Case("3x3 2048->256 rate 6", 33, (2048, 256), rate=6),
    Case("3x3 2048->256 rate 12", 33, (2048, 256), rate=12),
    Case("3x3 2048->256 rate 18", 33, (2048, 256), rate=18),
    Case("3x3 2048->256 rate 12", 65, (2048, 256), rate=12),
    Case("3x3 2048->256 rate 24", 65, (2048, 256), rate=24),
    Case("3x3 512->1024 rate 12", 41, (512, 1024), rate=12),
    Case("3x3 128->128 valid", 282, (128, 128), kind="valid"),
    Case("3x3 512->512 valid", 54, (512, 512), kind="valid"),
    Case("3x3 256->256 valid", 20, (256, 256), kind="valid"),
    Case("7x7 512->4096 valid", 11, (512, 4096), kernel=7, kind="valid"),
    Case("7x7 64->64", 129, (64, 64), kernel=7),
    Case("7x7 256->21", 32, (256, 21), kernel=7),
    Case("7x7 512->21", 33, (512, 21), kernel=7),
    Case("3x3 2048->21 rate 12", 41, (2048, 21), rate=12),
    Case("3x3 21->21", 257, (21, 21)),
    Case("depthwise 3x3 728", 33, (728, 728), kind="depthwise"),
    Case("depthwise 3x3 728 rate 2", 33, (728, 728), rate=2, kind="depthwise"),
    Case("depthwise 3x3 128 stride 2", 129, (128, 128), stride=2, kind="depthwise"),
    Case("transposed 2x2 stride 2", 28, (1024, 512), kernel=2, stride=2, kind="transposed"),
    Case("transposed 4x4 stride 2", 70, (21, 21), kernel=4, stride=2, kind="transposed"),
)


def jax_functions(run: Callable, x: jax.Array, kernel: jax.Array) -> dict[str, Callable]:
    """Return the forward pass and both gradients as compiled, blocking functions."""
    forward = jax.jit(run)
    y = forward(x, kernel)
    backward = jax.jit(lambda x, kernel, g: jax.vjp(run, x, kernel)[1](g))
    return {
        "forward": lambda: jax.block_until_ready(forward(x, kernel)),
        "gradients": lambda: jax.block_until_ready(backward(x, kernel, y)),
    }


def torch_functions(case: Case, x: jax.Array, kernel: jax.Array) -> dict[str, Callable]:
    """Return the same functions for PyTorch on the CPU, channels last; empty without PyTorch."""
    try:
        import torch
    except ImportError:
        return {}
    if jax.default_backend() != "cpu" or x.dtype != jnp.float32:
        return {}
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    order = (2, 3, 0, 1) if case.kind == "transposed" else (3, 2, 0, 1)
    tensors = (np.asarray(x).transpose(0, 3, 1, 2), np.asarray(kernel).transpose(order))
    layout = torch.channels_last
    image, weight = (torch.tensor(t).to(memory_format=layout).requires_grad_() for t in tensors)

    def forward():
        if case.kind == "transposed":
            return torch.nn.functional.conv_transpose2d(image, weight, stride=case.stride)
        groups = case.channels[0] if case.kind == "depthwise" else 1
        return torch.nn.functional.conv2d(
            image, weight, None, case.stride, case.pad, case.rate, groups
        )

    y = forward()
    g = y.detach()
    return {
        "forward": forward,
        "gradients": lambda: torch.autograd.grad(y, (image, weight), g, retain_graph=True),
    }


def medians(functions: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Return each function's median milliseconds over interleaved rounds."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def prepare(case: Case, *, batch: int, dtype: str) -> tuple[dict[str, dict[str, Callable]], str]:
    """Return the functions of each contender, called once, and the name of the chosen one."""
    x, kernel = case.arrays(batch, dtype)
    runs, chosen = case.contenders()
    functions = {name: jax_functions(run, x, kernel) for name, run in runs.items()}
    if torch := torch_functions(case, x, kernel):
        functions["torch"] = torch
    for contender in functions.values():
        for function in contender.values():
            function()
    return functions, next(name for name, run in runs.items() if run is chosen)


def report(
    case: Case, functions: dict[str, dict[str, Callable]], chosen: str, *, rounds: int
) -> None:
    """Time one case and print its two lines."""
    for what in ("forward", "gradients"):
        found = medians({name: f[what] for name, f in functions.items()}, rounds)
        cells = [
            f"{name + '*' * (name == chosen):8} {ms:8.2f} ({ms / found['xla']:4.2f})"
            for name, ms in found.items()
        ]
        print(f"{case.name:27} {case.size:4} {what:10} " + "  ".join(cells), flush=True)


def main() -> None:
    """Time the requested cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16")
    parser.add_argument("--batch", type=int, default=1, help="images")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each contender")
    parser.add_argument("--only", default="", help="the case of this name, or all that contain it")
    parser.add_argument("--turns", type=Path, help="folder shared with processes that also measure")
    options = parser.parse_args()
    allocator.keep_freed_memory()
    named = [case for case in CASES if case.name == options.only]
    cases = named or [case for case in CASES if options.only in case.name]
    if not cases:
        raise SystemExit(f"--only {options.only}: no such case")
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, {options.dtype}; ms (ratio)")
    ready = ((case, *prepare(case, batch=options.batch, dtype=options.dtype)) for case in cases)
    if options.turns:  # all compile before any measures
        ready = list(ready)
    with turns.alone(options.turns):
        for case, functions, chosen in ready:
            report(case, functions, chosen, rounds=options.rounds)


if __name__ == "__main__":
    main()
