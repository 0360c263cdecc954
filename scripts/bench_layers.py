"""Time each convolution of a network by itself, ours beside PyTorch's."""

import collections
import functools
import time
from collections.abc import Callable

import jax
import numpy as np
import torch
from bench_conv import medians
from bench_torch import DEVICE, tensor, wait

from seg_jax.nn import lowering
from seg_jax.nn.conv_geometry import Geometry


def costly_layers(
    module: torch.nn.Module, kind: str, images: int, size: tuple[int, int], *, rounds: int
) -> list[str]:
    """Describe the convolutions that lose the most time to PyTorch's, and the time of all.

    Time that a network loses beyond that is lost between its convolutions.

    Args:
      module: PyTorch's network.
      kind: "forward", or "step" for the gradients.
      images: in one call.
      size: (height, width) of the images.
      rounds: timed calls.
    """
    shapes = _convolutions(module.eval(), size)
    excess = []
    total = {"ours": 0.0, "torch": 0.0}
    for (size_in, conv), count in shapes.items():
        calls = _layer_calls(size_in, conv, images, kind)
        times = {name: _alone(call, rounds) for name, call in calls.items()}
        ours, theirs = times["ours"], times["torch"]
        total = {key: total[key] + count * times[key] for key in total}
        c_in, c_out, kernel, stride, _, rate, groups = conv
        text = (
            f"{count} x {kernel[0]}x{kernel[1]} {c_in}->{c_out} at {size_in[0]}x{size_in[1]}"
            f"{f' stride {stride[0]}' if stride[0] > 1 else ''}"
            f"{f' rate {rate[0]}' if rate[0] > 1 else ''}{' depthwise' if groups > 1 else ''}: "
            f"{ours:.1f} / {theirs:.1f} ms"
        )
        excess.append((count * (ours - theirs), text))
    costly = [text for value, text in sorted(excess, reverse=True)[:3] if value > 0]
    return [*costly, f"all convolutions: {total['ours']:.0f} / {total['torch']:.0f} ms"]


def _alone(call: Callable, rounds: int) -> float:
    """Return the median milliseconds of a call after others of the same: see `bench.take_turns`."""
    call()  # compiles
    until = time.monotonic() + 0.03
    while time.monotonic() < until:
        call()
    return medians({"": call}, rounds)[""]


def _convolutions(module: torch.nn.Module, size: tuple[int, int]) -> collections.Counter:
    """Count the network's convolutions by (input size, geometry)."""
    found = collections.Counter()

    def note(layer, inputs):
        conv = (
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
            layer.dilation, layer.groups,
        )  # fmt: skip
        found[tuple(inputs[0].shape[-2:]), conv] += 1

    for layer in module.modules():
        if type(layer) is torch.nn.Conv2d:
            layer.register_forward_pre_hook(note)
    with torch.inference_mode():
        module(torch.zeros(1, 3, *size))
    return found


def _layer_calls(size: tuple[int, int], conv: tuple, images: int, kind: str) -> dict[str, Callable]:
    """Return JAX's and PyTorch's call of one convolution: forward, with gradients for a step."""
    c_in, c_out, kernel, stride, padding, rate, groups = conv
    rng = np.random.default_rng(0)
    x = rng.normal(size=(images, *size, c_in)).astype(np.float32)
    weight = rng.normal(size=(*kernel, c_in // groups, c_out)).astype(np.float32)
    geometry = Geometry(stride, rate, tuple((pad, pad) for pad in padding))
    if groups > 1:
        run = lowering.choose_depthwise()
    else:
        run = lowering.choose_conv(size, weight.shape, geometry)
    forward = jax.jit(lambda x, weight: run(x, weight, geometry))
    arrays = jax.device_put((x, weight))
    ours = functools.partial(forward, *arrays)
    image = tensor(x).requires_grad_(kind == "step")
    filters = torch.from_numpy(weight.transpose(3, 2, 0, 1).copy()).to(DEVICE)
    filters = filters.to(memory_format=torch.channels_last).requires_grad_(kind == "step")
    theirs = functools.partial(
        torch.nn.functional.conv2d, image, filters, None, stride, padding, rate, groups
    )
    if kind == "step":
        y = np.array(ours())
        ours = functools.partial(
            jax.jit(lambda x, w, g: jax.vjp(lambda x, w: run(x, w, geometry), x, w)[1](g)),
            *arrays, jax.device_put(y),
        )  # fmt: skip
        single, g = theirs, tensor(y)

        def theirs():
            return torch.autograd.grad(single(), (image, filters), g)

    return {"ours": lambda: jax.block_until_ready(ours()), "torch": lambda: (theirs(), wait())}
