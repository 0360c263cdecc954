"""Install what an image lacks from the pack, unpack data and weights, and try the device.

    python scripts/gpu/environment.py --pack .gpu/pack.tar.xz --scratch FOLDER

Nothing is downloaded. Packages go to FOLDER/site, which comes first on PYTHONPATH, and only those
that the image lacks or has in a version outside requirements.txt. `pack.py` says what is packed.
"""

import argparse
import concurrent.futures
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What `grain` imports of `array_record`, whose wheel is left out for its size.
STUB = '''"""Stands for array_record, which grain imports: nothing here reads ArrayRecord files."""


class ArrayRecordDataSource:
    """Cannot read."""

    def __init__(self, *_, **__):
        raise NotImplementedError("array_record is not installed")


PathLikeOrFileInstruction = object
'''
TRY = """
import jax, jax.numpy as jnp
devices = jax.devices()
print("jax", jax.__version__, devices, flush=True)
a = jnp.ones((1024, 1024), jnp.bfloat16)
assert float((a @ a)[0, 0]) == 1024
x, k = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 4))
y = jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
assert float(y[0, 4, 4, 0]) == 36
import seg_jax.train.loop, seg_jax.reproduce, seg_jax.evaluation.run
print("seg_jax imports, a product and a convolution are right")
"""


def versions() -> dict[str, str]:
    """Return the versions of the installed packages that requirements.txt names, jax first."""
    found = {}
    for name in ["jaxlib", "torch", *wanted()]:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def wanted() -> dict[str, str]:
    """Return {name: version specifier} of requirements.txt."""
    found = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        match = re.match(r"([\w.-]+)\s*([^#]*)", line.strip())
        if match and not line.startswith("#"):
            found[match[1].lower().replace("_", "-")] = match[2].strip()
    return found


def needs(wheel: Path) -> bool:
    """Whether the image has not what a wheel holds, or not in a version that will do."""
    from packaging.specifiers import SpecifierSet

    name = wheel.name.split("-")[0].lower().replace("_", "-")
    try:
        here = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return True
    return not SpecifierSet(wanted().get(name, "")).contains(here, prereleases=True)


def install(wheels: list[Path], site: Path) -> list[str]:
    """Install wheels into a folder; return their names."""
    chosen = [str(wheel) for wheel in wheels if needs(wheel)]
    if chosen:
        options = ("--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--upgrade")
        pip = (sys.executable, "-m", "pip", "install", "--quiet", *options, "--target", str(site))
        subprocess.run([*pip, *chosen], check=True)
    return [Path(wheel).name for wheel in chosen]


def stub_array_record(site: Path) -> bool:
    """Put a stand-in for array_record where it is missing."""
    try:
        importlib.metadata.version("array-record")
        return False
    except importlib.metadata.PackageNotFoundError:
        module = site / "array_record" / "python" / "array_record_data_source.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        for folder in (module.parent, module.parent.parent):
            (folder / "__init__.py").touch()
        module.write_text(STUB)
        return True


def jpeg(path: Path) -> None:
    """Turn a JPEG XL file back into the JPEG file that it was made of, bit by bit."""
    import pillow_jxl

    is_jpeg, _, content, _ = pillow_jxl.Decoder()(path.read_bytes())[:4]
    if not is_jpeg:
        raise ValueError(f"{path} was not made of a JPEG file")
    path.with_suffix(".jpg").write_bytes(bytes(content))
    path.unlink()


def shorten(camvid: Path, images: int) -> None:
    """Leave the first images of every list only."""
    for path in camvid.glob("*.txt"):
        lines = path.read_text().splitlines()[:images]
        path.write_text("\n".join(lines) + "\n")


def unpack(pack: Path, scratch: Path, images: int | None) -> list[str]:
    """Unpack everything; return what was done, in words."""
    site = scratch / "site"
    for name in ("site", "wheels", "data", "weights"):
        shutil.rmtree(scratch / name, ignore_errors=True)
    site.mkdir(parents=True)
    with tarfile.open(pack) as archive:
        archive.extractall(scratch, filter="data")
    installed = install(sorted((scratch / "wheels").glob("*.whl")), site)
    done = [f"installed {', '.join(installed) or 'nothing'}"]
    if stub_array_record(site):
        done.append("array_record: a stand-in, since grain imports it")
    camvid = scratch / "data" / "camvid"
    if images is not None:
        shorten(camvid, images)
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()  # it was on the path, and not there, when this process began
    listed = {line.split()[0] for path in camvid.glob("*.txt") for line in open(path)}
    found = [camvid / f"{name.removesuffix('.jpg')}.jxl" for name in sorted(listed)]
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(jpeg, [path for path in found if path.exists()], chunksize=8))
    done.append(f"{len(listed)} images of CamVid")
    return done


def prepare(pack: Path, scratch: Path, images: int | None) -> list[str]:
    """Unpack, unless this pack lies there unpacked already; return what was done, in words."""
    if not pack.exists():
        return [f"no {pack}: what the image has must do"]
    done, mark = scratch / "unpacked", f"{pack.stat().st_size} {images}"
    if done.exists() and done.read_text() == mark:
        return ["unpacked before"]
    done.unlink(missing_ok=True)
    lines = unpack(pack, scratch, images)
    done.write_text(mark)
    return lines


def main() -> None:
    """Unpack, look, try, and write summary.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--images", type=int, help="of each list; default: all")
    options = parser.parse_args()
    started = time.monotonic()
    lines = prepare(options.pack, options.scratch, options.images)
    lines.append(f"unpacked in {time.monotonic() - started:.0f} s")
    work = ROOT / "runs" / "gpu" / "work" / "environment"
    work.mkdir(parents=True, exist_ok=True)
    looks = ("nvidia-smi", "nproc", "df -h /dev/shm /tmp", "which nvcc ptxas nvdisasm")
    for command in (look.split() for look in looks):
        if shutil.which(command[0]):
            subprocess.run(command, check=False)
    found = versions()
    (work / "versions.json").write_text(json.dumps({"python": sys.version, **found}, indent=1))
    lines.append(", ".join(f"{name} {version}" for name, version in found.items()))
    (work / "summary.md").write_text("\n".join(lines) + "\n")
    tried = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True, check=False)
    print(tried.stdout, tried.stderr)
    lines.append(tried.stdout.strip() if tried.returncode == 0 else tried.stderr[-2000:])
    (work / "summary.md").write_text("\n".join(lines) + "\n")
    sys.exit(tried.returncode)


if __name__ == "__main__":
    main()
