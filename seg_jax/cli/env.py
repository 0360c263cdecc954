"""`env`: versions, devices and places, as a bug report needs them."""

import dataclasses
import glob
import importlib.metadata
import os
import platform
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seg_jax import experiments, files, plugins, progress
from seg_jax.cli.parsing import parse, print_json

_MORE_LIBRARIES = ("orbax-checkpoint", "grain", "numba", "optuna", "tyro")
# Plugins by which JAX reaches an accelerator.
_PLUGINS = ("libtpu", "jax-cuda13-plugin", "jax-cuda12-plugin", "jax-rocm7-plugin", "jax-metal")
_VARIABLES = (
    "SEG_JAX_", "JAX_", "XLA_", "CUDA_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS", "MALLOC_",
    "GLIBC_TUNABLES", "LD_PRELOAD",
)  # fmt: skip
_SECRET = ("TOKEN", "KEY", "SECRET", "PASSWORD")


@dataclasses.dataclass(frozen=True)
class EnvOptions:
    """Print what a bug report needs: versions, devices, places, environment variables.

    Attributes:
      json: print one JSON object.
    """

    json: bool = False


def env(args: Sequence[str]) -> None:
    """Print the environment."""
    options = parse(EnvOptions, args, "env")
    found = describe()
    print_json(found) if options.json else progress.show(as_text(found))


def describe() -> dict[str, Any]:
    """Return versions, devices, accelerators found, places and variables as JSON data."""
    from seg_jax.parallel.allocator import DEVICE_FILES
    from seg_jax.results import provenance

    revision, dirty = provenance.git_state(Path(__file__).parents[2])
    return {
        "seg_jax": provenance.versions().get("seg_jax", ""),
        "revision": revision,
        "uncommitted_changes": dirty,
        "system": platform.platform(),
        "versions": provenance.versions() | _versions(_MORE_LIBRARIES),
        "device": _device(),
        "accelerators": {
            "device files": {
                kind: found for kind, names in DEVICE_FILES.items() if (found := glob.glob(names))
            },
            "plugins": _versions(_PLUGINS),
        },
        "places": _places(),
        "packages": [f"{name} ({origin})" for name, origin in plugins.packages()],
        "variables": {
            name: "(hidden)" if any(word in name for word in _SECRET) else value
            for name, value in sorted(os.environ.items())
            if name.startswith(_VARIABLES)
        },
    }


def _versions(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _device() -> dict[str, Any]:
    """Return what JAX runs on, or why it cannot start."""
    from seg_jax.results import provenance

    try:
        return dict(provenance.device())
    except RuntimeError as error:  # JAX_PLATFORMS names what is not there
        return {"error": str(error).splitlines()[0]}


def _places() -> dict[str, dict[str, Any]]:
    """Return each place: its path, the variable that names another, and whether it is there."""
    named: dict[str, tuple[Path, str]] = {
        "data sets": (files.place("data"), files.VARIABLES["data"]),
        "weights": (files.place("weights"), files.VARIABLES["weights"]),
        "cache": (files.place("cache"), files.VARIABLES["cache"]),
        "compiled programs": (
            Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or files.place("cache") / "xla"),
            "JAX_COMPILATION_CACHE_DIR",
        ),
        "experiments": (experiments.FOLDER, ""),
        "runs": (Path("runs").absolute(), "--workdir"),
    }
    for kind in ("data", "weights"):
        if former := files.former_place(kind):
            named[f"{kind} of earlier versions"] = (former.absolute(), "")
    return {
        name: {"path": str(path), "set_by": variable, "exists": path.is_dir()}
        for name, (path, variable) in named.items()
    }


def as_text(found: dict[str, Any]) -> str:
    """Return what `describe` found, in lines of at most 100 characters where paths allow it."""
    revision = found["revision"] or "no checkout"
    changes = " with uncommitted changes" if found["uncommitted_changes"] else ""
    device, here = found["device"], found["accelerators"]["device files"]
    shown = device.get("error") or "{devices} x {kind} ({platform}), {cores} cores".format(**device)
    if here and device.get("platform") == "cpu":
        shown += "; an accelerator is here, not used: its jax plugin is missing"
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    accelerators = [
        *(f"{kind}: {', '.join(names)}" for kind, names in here.items()),
        *(f"{name} {version}" for name, version in found["accelerators"]["plugins"].items()),
    ]  # fmt: skip
    lines = [
        f"seg_jax      {found['seg_jax']}, {revision}{changes}",
        f"system       {found['system']}",
        textwrap.fill(f"versions     {versions}", 100, subsequent_indent=" " * 13),
        f"JAX runs on  {shown}",
        f"accelerators {'; '.join(accelerators) or 'no device file and no plugin found'}",
        "places",
    ]
    for name, place in found["places"].items():
        there = "" if place["exists"] else ", not there yet"
        how = f"  (another: {place['set_by']}{there})" if place["set_by"] else ""
        lines.append(f"  {name:18} {place['path']}{how}")
    lines += [f"your package {name}" for name in found["packages"]]
    lines += [
        "variables" if found["variables"] else "variables    none of seg_jax's, JAX' or XLA's"
    ]
    lines += [f"  {name}={value}" for name, value in found["variables"].items()]
    return "\n".join(lines)
