"""Which generation of GPU this is: a kernel for one generation does not run on another."""

import jax

HOPPER = 9  # major compute capability of H100, H200, GH200


def generation() -> int | None:
    """Return the major compute capability of the default device; None if that is no NVIDIA GPU.

    7: Volta and Turing, 8: Ampere and Ada, 9: Hopper, 10 and 12: Blackwell.
    """
    if jax.default_backend() != "gpu":
        return None
    major = str(getattr(jax.local_devices()[0], "compute_capability", "")).split(".")[0]
    return int(major) if major.isdigit() else None  # AMD's are words: "gfx942"
