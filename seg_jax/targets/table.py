"""The accelerators that can be compiled for, with their published figures.

Sources, read in November 2026:
  TPU   cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e, "System architecture": peak, memory,
        bandwidth and interchip interconnect a chip. The clock is the one at which the multipliers
        of a chip (v4 and v5p: 8 units of 128 x 128, v5e: 4) reach the published peak; the layout
        of v6e's units is not published in a form that gives one.
  GPU   NVIDIA's data sheets: A100 80GB SXM, H100 SXM, H200 SXM; dense figures, without sparsity.
        NVLink's figure is of both directions, half of it is used here.
"""

import dataclasses
from typing import Literal

from seg_jax import checks

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip's published figures.

    Attributes:
      name: as its maker calls it.
      platform: JAX's name of the platform.
      memory_bytes: of one chip.
      flops: peak a second in bfloat16.
      flops_float32: peak a second of float32 matrix products at JAX's default precision: bfloat16
        passes on TPU, TF32 on GPU.
      bandwidth: of its memory, bytes a second.
      link: bytes a second from a chip to its neighbors, one direction, all links.
      configuration: the compiler's name of how a chip's TensorCores are one JAX device, where it
        must be told; "": it is so anyway.
      clock: cycles a second of the matrix units, of a GPU its highest, as it is described to the
        compiler; None: not published.
      estimated: whether the compiler estimates how long its fusions take. XLA:GPU (0.10.2) has no
        table of the A100's instructions, and does not compile if it is asked to.
    """

    name: str
    platform: Literal["tpu", "gpu"]
    memory_bytes: int
    flops: float
    flops_float32: float
    bandwidth: float
    link: float
    configuration: str = ""
    clock: float | None = None
    estimated: bool = True


V4 = Chip("TPU v4", "tpu", 32 * GIB, 275e12, 275e12, 1.2e12, 150e9, "megacore", clock=1.05e9)
V5E = Chip("TPU v5e", "tpu", 16 * GIB, 197e12, 197e12, 819e9, 100e9, clock=1.5e9)
V5P = Chip("TPU v5p", "tpu", 95 * GIB, 459e12, 459e12, 2.765e12, 300e9, clock=1.75e9)
V6E = Chip("TPU v6e", "tpu", 32 * GIB, 918e12, 918e12, 1.64e12, 224e9)
A100 = Chip(
    "A100 80GB SXM",
    "gpu",
    80 * 10**9,
    312e12,
    156e12,
    2.039e12,
    300e9,
    clock=1.41e9,
    estimated=False,
)
H100 = Chip("H100 SXM", "gpu", 80 * 10**9, 989e12, 494e12, 3.35e12, 450e9, clock=1.98e9)
H200 = Chip("H200 SXM", "gpu", 141 * 10**9, 989e12, 494e12, 4.8e12, 450e9, clock=1.98e9)


@dataclasses.dataclass(frozen=True)
class Target:
    """A number of chips, described to the compiler.

    Attributes:
      name: as the command line takes it. v4 and v5p are named as Google does, by TensorCores: a
        v5p-8 has 4 chips.
      chip: what it is made of.
      topology: the compiler's name of the arrangement.
      chips: all together.
      hosts: machines they are attached to, in the description.
    """

    name: str
    chip: Chip
    topology: str
    chips: int
    hosts: int = 1

    @property
    def devices(self) -> int:
        """JAX devices, one a chip: parts that a batch is split into."""
        return self.chips

    @property
    def memory_bytes(self) -> int:
        """Memory of one device."""
        return self.chip.memory_bytes

    def peak(self, precision: str) -> float:
        """Return the peak FLOP/s of one device at a precision of `TrainConfig`."""
        return self.chip.flops if precision == "bfloat16" else self.chip.flops_float32


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("v5e-8", V5E, "v5e:2x4", 8, hosts=2),
        Target("v5e-16", V5E, "v5e:4x4", 16, hosts=4),
        Target("v6e-8", V6E, "v6e:2x4", 8, hosts=2),
        Target("v6e-16", V6E, "v6e:4x4", 16, hosts=4),
        Target("v5p-8", V5P, "v5p:2x2x1", 4),
        Target("v5p-16", V5P, "v5p:2x2x2", 8, hosts=2),
        Target("v4-8", V4, "v4:2x2x1", 4),
        Target("v4-16", V4, "v4:2x2x2", 8, hosts=2),
        Target("h100x1", H100, "1x1x1", 1),
        Target("h100x8", H100, "1x1x8", 8),
        Target("h100x16", H100, "1x2x8", 16, hosts=2),
        Target("h200x8", H200, "1x1x8", 8),
        Target("a100x8", A100, "1x1x8", 8),
    )
}

# Of docs/targets.md: each kind of chip once, and one kind of each platform on more hosts.
SURVEYED = (
    *("v5e-8", "v5e-16", "v6e-8", "v5p-8", "v4-8"),
    *("h100x1", "h100x8", "h100x16", "h200x8", "a100x8"),
)


def get(name: str) -> Target:
    """Return the target of that name; an unknown name is a UserError that names the closest."""
    if name not in TARGETS:
        raise checks.UserError(f"target: {checks.unknown(name, TARGETS)}")
    return TARGETS[name]
