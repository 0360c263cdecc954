"""Pack what a machine without a network needs: wheels, CamVid, weights; into one file.

    python scripts/gpu/pack.py CAMVID WEIGHTS.tflite [--out .gpu/pack.tar.xz] [--limit-mib 64]

CAMVID is the folder with train.txt, val.txt and test.txt; WEIGHTS the ImageNet MobileNetV2 of
`weights import`. Pixels stay what they are: a JPEG file is packed as JPEG XL's lossless form of
it, from which `environment.py` gets back the same bytes (checked here), masks as PNG. Wheels are
repacked without compression, so that xz, which is better, sees their content. Packing needs the
package that environment.py takes the JPEG files out with: pip install pillow-jxl-plugin.
"""

import argparse
import concurrent.futures
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import environment
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = "google_mobilenetv2_imagenet_uint8"
# Missing in a CUDA image with JAX, Flax, Optax, Orbax, PyTorch and Numba; pillow-jxl-plugin is for
# the data. array_record, which only packed data sets need, is as large as all others: left out.
MISSING = (
    "docstring-parser", "grain", "pillow-jxl-plugin", "platformdirs", "portpicker", "tensorboardX",
    "typeguard", "tyro",
)  # fmt: skip
OUTDATED = ("flax", "optax", "orbax-checkpoint")  # installed if the image's are too old
PLATFORMS = ("2_28", "2_27", "2_24", "2_17", "2014", "1")


def download(folder: Path, python: str) -> None:
    """Download the wheels of a Python on Linux."""
    platforms = [f"manylinux{'_' if '_' in v else ''}{v}_x86_64" for v in PLATFORMS]
    where = [word for name in platforms for word in ("--platform", name)]
    bounds = environment.wanted()
    names = [name + bounds.get(name.lower(), "") for name in (*MISSING, *OUTDATED)]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
        "--python-version", python, "--implementation", "cp", *where, "-d", str(folder), *names,
    ]  # fmt: skip
    subprocess.run(command, check=True)


def stored(wheel: Path) -> bytes:
    """Return a wheel whose files are not compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            entry.compress_type = zipfile.ZIP_STORED
            new.writestr(entry, content)
    return buffer.getvalue()


def jxl(path: Path) -> bytes:
    """Return a JPEG file as JPEG XL; ValueError unless the same bytes come back."""
    import pillow_jxl

    original = path.read_bytes()
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.save(buffer, "JXL", lossless_jpeg=True, effort=9)
    is_jpeg, _, content, _ = pillow_jxl.Decoder()(buffer.getvalue())[:4]
    if not is_jpeg or bytes(content) != original:
        raise ValueError(f"{path}: does not come back from JPEG XL as it was")
    return buffer.getvalue()


def plain_png(path: Path) -> bytes:
    """Return a PNG file without its compression."""
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def _packed(path: Path) -> tuple[str, bytes]:
    """Return suffix and content under which a file of CamVid is packed."""
    if path.suffix == ".jpg":
        return ".jxl", jxl(path)
    return path.suffix, plain_png(path)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))


def pack(camvid: Path, weights: Path, out: Path, python: str) -> None:
    """Write the pack."""
    lists = [camvid / f"{split}.txt" for split in ("train", "val", "test")]
    names = [
        name for path in lists for line in path.read_text().splitlines() for name in line.split()
    ]
    if any(name.startswith("/") for name in names):
        raise SystemExit(f"{camvid}: absolute paths in the lists; make them relative first")
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(out.name + ".unfinished")
    with tempfile.TemporaryDirectory() as folder, tarfile.open(unfinished, "w:xz") as archive:
        download(Path(folder), python)
        for wheel in sorted(Path(folder).glob("*.whl")):
            _add(archive, f"wheels/{wheel.name}", stored(wheel))
        _add(archive, f"weights/{WEIGHTS}/{weights.name}", weights.read_bytes())
        for path in lists:
            _add(archive, f"data/camvid/{path.name}", path.read_bytes())
        # Masks first: xz then finds what they have in common.
        ordered = sorted(set(names), key=lambda name: (name.endswith(".jpg"), name))
        with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
            packed = pool.map(_packed, [camvid / name for name in ordered], chunksize=4)
            for name, (suffix, content) in zip(ordered, packed, strict=True):
                _add(archive, f"data/camvid/{Path(name).with_suffix(suffix)}", content)
    unfinished.replace(out)


def travelling(out: Path) -> int:
    """Return the bytes of the pack and of the files that git knows or does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    files = [ROOT / os.fsdecode(name) for name in listed.split(b"\0") if name]
    return out.stat().st_size + sum(path.stat().st_size for path in files if path.is_file())


def main() -> None:
    """Write the pack, and say whether it can be carried."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("camvid", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / ".gpu" / "pack.tar.xz")
    parser.add_argument("--python", default="3.12", help="version on the other machine")
    parser.add_argument("--limit-mib", type=float, default=64.0, help="pack and sources together")
    options = parser.parse_args()
    pack(options.camvid, options.weights, options.out, options.python)
    mib = travelling(options.out) / 2**20
    print(
        f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB; {mib:.1f} MiB with the sources"
    )
    if mib > options.limit_mib:
        sys.exit(f"more than {options.limit_mib:g} MiB: leave a wheel of OUTDATED out")


if __name__ == "__main__":
    main()
