"""VOC 2012 and SBD as archives in the published layout, made of a few drawn pictures."""

import dataclasses
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from seg_jax.data.prepare import voc
from seg_jax.data.prepare.archives import Archive
from seg_jax.data.prepare.seg11valid import SEG11VALID
from seg_jax.types import IGNORE

DEVKIT, BENCHMARK = "VOCdevkit/VOC2012", "benchmark_RELEASE/dataset"


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def mat(mask: np.ndarray) -> bytes:
    """A file of SBD's cls/, with the fields of the real ones."""
    file = io.BytesIO()
    fields = {"Boundaries": np.zeros((20, 1)), "Segmentation": mask, "CategoriesPresent": [[1]]}
    savemat(file, {"GTcls": fields}, do_compression=True)
    return file.getvalue()


def jpeg(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size[::-1], (90, 120, 60)).save(file, "JPEG")
    return file.getvalue()


def png(mask: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return file.getvalue()


def write_voc(path: Path, pictures: dict, masks: dict, lists: dict) -> Path:
    """An archive with files of the real one that are not wanted as well."""
    with tarfile.open(path, "w") as tar:
        for folder in ("VOCdevkit", DEVKIT, f"{DEVKIT}/JPEGImages"):
            member = tarfile.TarInfo(folder)
            member.type = tarfile.DIRTYPE
            tar.addfile(member)
        add(tar, f"{DEVKIT}/Annotations/2007_000027.xml", b"<annotation/>")
        add(tar, f"{DEVKIT}/ImageSets/Main/train.txt", b"2007_000027\n")
        for split, ids in lists.items():
            text = "".join(f"{name}\n" for name in ids)
            add(tar, f"{DEVKIT}/ImageSets/Segmentation/{split}.txt", text.encode())
        for name, content in pictures.items():
            add(tar, f"{DEVKIT}/JPEGImages/{name}.jpg", content)
        for name, content in masks.items():
            add(tar, f"{DEVKIT}/SegmentationClass/{name}.png", content)
            add(tar, f"{DEVKIT}/SegmentationObject/{name}.png", content)
    return path


def write_sbd(path: Path, masks: dict, lists: dict) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        add(tar, "benchmark_RELEASE/README", b"read me")
        for name, content in masks.items():
            add(tar, f"{BENCHMARK}/cls/{name}.mat", content)
            add(tar, f"{BENCHMARK}/inst/{name}.mat", b"not read")
        for split, ids in lists.items():
            add(tar, f"{BENCHMARK}/{split}.txt", "\n".join(ids).encode())
    return path


def archive(path: Path) -> Archive:
    content = path.read_bytes()
    return Archive(path.name, "https://example.org", len(content), hashlib.md5(content).hexdigest())


SIZE = (6, 9)
A, B, C = "2007_000001", "2007_000002", "2008_000003"  # VOC's train
V, W = SEG11VALID[:2]  # VOC's val
X, Y = "2008_000010", "2010_000011"  # in SBD only
VOC_LISTS = {"train": [A, B, C], "val": [V, W], "trainval": [A, B, C, V, W]}
SBD_LISTS = {"train": [A, C, X], "val": [W, Y]}
COUNTS = {
    "train": 3, "val": 2, "trainval": 5, "trainaug": 5, "trainval_aug": 7,
    "sbd_train": 3, "sbd_val": 2, "seg11valid": 2,
}  # fmt: skip
OF_VOC, OF_SBD = 3, 7  # classes that tell whose mask it is


@dataclasses.dataclass
class Case:
    """Two archives and the folder that they are to be extracted into."""

    voc_tar: Path
    sbd_tgz: Path
    root: Path

    def run(self, *, counts=COUNTS, digests=()) -> str:
        release = voc.Release(archive(self.voc_tar), archive(self.sbd_tgz), counts, dict(digests))
        return voc.prepare(self.root, self.voc_tar, self.sbd_tgz, release=release)

    @property
    def home(self) -> Path:
        return self.root / DEVKIT

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.root.rglob("*") if path.is_file())
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in found}


def make(folder: Path, *, sbd_lists=SBD_LISTS, **sbd_masks) -> Case:
    voc_mask = np.full(SIZE, OF_VOC, np.uint8)
    voc_mask[0] = IGNORE
    masks = {
        name: mat(np.full(SIZE, OF_SBD, np.uint8)) for ids in sbd_lists.values() for name in ids
    }
    return Case(
        write_voc(
            folder / "voc.tar",
            {name: jpeg(SIZE) for name in (A, B, C, V, W, X, Y)},
            {name: png(voc_mask) for name in (A, B, C, V, W)},
            VOC_LISTS,
        ),
        write_sbd(folder / "sbd.tgz", masks | sbd_masks, sbd_lists),
        folder / "out",
    )
