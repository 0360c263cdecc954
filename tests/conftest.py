"""Strict JAX for every test: four CPU devices, no silent promotion of dtype or rank."""

import os
import signal

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    ).strip()

if "xla_llvm_disable_expensive_passes" not in os.environ["XLA_FLAGS"]:
    # A sixth less processor time: most of the tests' time is compilation.
    os.environ["XLA_FLAGS"] += " --xla_llvm_disable_expensive_passes=true"

# Signals that nohup or a shell's "&" has set aside would be so in the processes that tests stop.
for _number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(_number) == signal.SIG_IGN:
        _handler = signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL
        signal.signal(_number, _handler)

# Commands run in this process do not change its malloc: `seg_jax.parallel.allocator`.
os.environ.setdefault("MALLOC_PERTURB_", "0")

from pathlib import Path  # noqa: E402

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from foreign_package import someone_elses  # noqa: E402, F401

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def rng() -> np.random.Generator:
    """A NumPy generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images and weights; a test that needs it skips where it is absent."""
    folder = os.environ.get("SEG_JAX_TEST_DATA")
    if not folder:
        pytest.skip("SEG_JAX_TEST_DATA is not set: no real images here")
    return Path(folder)
