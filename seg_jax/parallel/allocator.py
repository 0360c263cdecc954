"""Keep freed memory for the next step, on the CPU: glibc gives it back and fetches it anew.

A step on the CPU takes its large buffers from malloc and frees them at its end. glibc maps each
buffer from the system and unmaps it when freed, so that every page of the next step's buffers
faults and is zeroed again: a third of the time of small networks. `keep_freed_memory` has glibc
keep all of it, in one heap. The price is fragmentation: a small buffer is cut from the hole that a
step's large one left, and the next step's goes elsewhere, until there are holes enough. A watching
thread gives back the pages of holes, each time after twice as long, because the steps that follow
fault for what they need of it: FCN-8s', with 2 GiB of temporaries, took 0.4 to 3.4 s more.
Where the machine runs short of memory, it leaves glibc as it was found.
"""

import ctypes
import glob
import itertools
import logging
import os
import sys
import threading
import time
from pathlib import Path

import jax

# <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_SYSTEM = {_M_TRIM_THRESHOLD: 128 * 2**10, _M_MMAP_MAX: 65536}  # glibc's own settings
_TIGHT = 1 / 4  # of the memory: with less than this left, freed memory is given back
_SECONDS = 0.5  # between two looks
_LOOKS = 60  # before holes are given back for the first time; then after twice as many
# Device files that say that an accelerator is there.
DEVICE_FILES = {
    "NVIDIA GPU": "/dev/nvidia[0-9]*", "TPU": "/dev/accel[0-9]*", "AMD GPU": "/dev/kfd",
}  # fmt: skip
_log = logging.getLogger(__name__)
_watching = threading.Event()


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory where this process computes on the CPU; call it before JAX is
    first used, because a thread keeps the heap that it began with.

    Nothing is done without glibc, where an accelerator is there, and where the user has chosen: by
    another allocator in $LD_PRELOAD, by $GLIBC_TUNABLES or any $MALLOC_ variable, such as
    MALLOC_PERTURB_=0, which changes nothing.

    Returns:
      Whether it is kept.
    """
    if _watching.is_set():
        return True
    if not _computes_on_cpu() or _chosen_by_user():
        return False
    mallopt = _glibc_mallopt()
    if mallopt is None:
        return False
    # One heap: of others large buffers are mapped one by one, whatever M_MMAP_MAX says.
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))
    if not all(mallopt(name, value) for name, value in settings):
        return False
    _watching.set()
    threading.Thread(target=_watch, name="memory", daemon=True).start()
    return True


def give_back() -> None:
    """Give freed memory back to the system, now and from now on, as glibc does by itself."""
    mallopt = _glibc_mallopt()
    if mallopt is None:
        return
    for name, value in _SYSTEM.items():
        mallopt(name, value)
    _trim()
    _watching.clear()


def available_memory() -> tuple[int, int]:
    """Return how many bytes this process can still take, and of how many: the machine's memory or
    its container's (cgroup v2), whichever has less left.

    Raises:
      OSError: this system has no /proc/meminfo.
    """
    lines = Path("/proc/meminfo").read_text().splitlines()
    found = {
        name: int(rest.split()[0]) * 1024 for name, rest in (line.split(":") for line in lines)
    }
    machine = found["MemAvailable"], found["MemTotal"]
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())  # "max": there is none
        used = int((group / "memory.current").read_text())
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return machine
    # Pages of files that have not been read lately are given up as soon as memory is needed.
    return min(machine, (limit - used + int(counts.get("inactive_file", 0)), limit))


def _trim() -> None:
    ctypes.CDLL(None).malloc_trim(0)


def _watch() -> None:
    times = 0
    for look in itertools.count(1):
        if not _watching.is_set():
            return
        try:
            left, whole = available_memory()
        except OSError:
            return
        if left < _TIGHT * whole:
            give_back()
            _log.warning(
                "%.1f of %.1f GiB of memory are left: freed memory is given back to the system at "
                "once, which makes steps slower", left / 2**30, whole / 2**30,
            )  # fmt: skip
            return
        if look >= _LOOKS * 2**times:
            _trim()
            times += 1
        time.sleep(_SECONDS)


def _computes_on_cpu() -> bool:
    platforms = jax.config.values["jax_platforms"]
    if platforms:
        return platforms.split(",")[0] == "cpu"
    return not any(glob.glob(names) for names in DEVICE_FILES.values())


def _chosen_by_user() -> bool:
    return any(name.startswith(("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_")) for name in os.environ)


def _glibc_mallopt():
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    # musl has no such function, and other allocators have no heap to set.
    if not hasattr(library, "gnu_get_libc_version"):
        return None
    return library.mallopt
