"""Freed memory that stays in the process, on the CPU."""

import os
import subprocess
import sys
import threading

import jax
import pytest

from seg_jax.parallel import allocator

# Page faults of filling a buffer of 64 MiB a second time, and the resident memory afterwards, with
# the memory kept and after it is given back; what watching says where the machine runs short.
SCRIPT = """
import logging, resource, sys, time
import numpy as np
from seg_jax.parallel import allocator

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(2**26, 1, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 2**20

plain = (faults(), faults())[1]
allocator._LOOKS = 10**9
assert allocator.keep_freed_memory() and allocator.keep_freed_memory()
kept = (faults(), faults())[1]
held = resident()
allocator._LOOKS = 1
time.sleep(2 * allocator._SECONDS)
allocator._LOOKS = 10**9
holes, trimmed = held - resident(), (faults(), faults())
logging.basicConfig(stream=sys.stdout, format="%(message)s")
allocator.available_memory = lambda: (2**30, 2**33)
time.sleep(2 * allocator._SECONDS)
print(plain, kept, holes, *trimmed, held - resident(), faults())
"""


def forget_choices(monkeypatch):
    """Take away the variables by which the tests themselves, or the user, leave glibc alone."""
    for name in list(os.environ):
        if name.startswith(("MALLOC_", "LD_PRELOAD", "GLIBC_TUNABLES")):
            monkeypatch.delenv(name)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_memory_is_kept_until_the_machine_runs_short(monkeypatch):
    forget_choices(monkeypatch)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    said, numbers = done.stdout.splitlines()
    plain, kept, holes, after_holes, kept_again, given_back, again = map(int, numbers.split())
    # numpy asks for huge pages of 2 MiB, where the system gives them: 32 faults, otherwise 16,384.
    assert plain >= 32
    assert max(kept, kept_again) < 4
    assert holes >= 60  # MiB
    assert after_holes >= 32
    assert given_back >= 60  # MiB
    assert again >= 32
    assert said.startswith("1.0 of 8.0 GiB of memory are left: freed memory is given back")


def test_holes_are_given_back_each_time_after_twice_as_long(monkeypatch):
    """Every half minute it cost FCN-8s up to a tenth of its time."""
    looks, trimmed = [], []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 2000:
            allocator._watching.clear()

    monkeypatch.setattr(allocator.time, "sleep", sleep)
    monkeypatch.setattr(allocator, "available_memory", lambda: (2**33, 2**33))
    monkeypatch.setattr(allocator, "_trim", lambda: trimmed.append(sum(looks)))
    monkeypatch.setattr(allocator, "_watching", threading.Event())
    allocator._watching.set()
    allocator._watch()
    assert trimmed == pytest.approx([30, 60, 120, 240, 480, 960], abs=1)


@pytest.mark.parametrize(
    ("platforms", "variable", "device_files", "expected"),
    [
        ("cpu", None, False, True),
        ("cpu", None, True, True),
        ("cuda,cpu", None, True, False),
        (None, None, True, False),
        (None, None, False, True),
        ("cpu", "MALLOC_TRIM_THRESHOLD_", False, False),
        ("cpu", "LD_PRELOAD", False, False),
        ("cpu", "GLIBC_TUNABLES", False, False),
    ],
)
def test_only_where_this_process_computes_on_the_cpu_and_nobody_chose(
    monkeypatch, tmp_path, platforms, variable, device_files, expected
):
    set_ = []
    monkeypatch.setattr(
        allocator, "_glibc_mallopt", lambda: lambda name, value: not set_.append((name, value))
    )
    monkeypatch.setattr(allocator, "_watch", lambda: None)
    monkeypatch.setattr(allocator, "_watching", threading.Event())
    forget_choices(monkeypatch)
    if variable:
        monkeypatch.setenv(variable, "1")
    device = tmp_path / "nvidia0"
    if device_files:
        device.touch()
    monkeypatch.setattr(allocator, "DEVICE_FILES", {"NVIDIA GPU": str(tmp_path / "nvidia*")})
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", platforms)
    try:
        assert allocator.keep_freed_memory() is expected
    finally:
        jax.config.update("jax_platforms", before)
    assert bool(set_) is expected


def test_a_container_s_limit_counts(monkeypatch, tmp_path):
    files = {
        "/proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n",
        "/sys/fs/cgroup/memory.max": f"{2**31}\n",
        "/sys/fs/cgroup/memory.current": f"{2**31 - 2**28}\n",
        "/sys/fs/cgroup/memory.stat": f"anon 5\ninactive_file {2**27}\n",
    }
    monkeypatch.setattr(allocator.Path, "read_text", lambda self: files[str(self)])
    assert allocator.available_memory() == (2**28 + 2**27, 2**31)
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert allocator.available_memory() == (2**32, 2**33)


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert allocator._glibc_mallopt() is None
