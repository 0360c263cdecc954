"""PASCAL VOC 2012 and SBD from the authors' two archives, with every list that the papers name.

Each file is written completely or not at all, and existing files are kept, so an interrupted run
continues where it stopped. The lists are written last, after all the files that they name.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from seg_jax import files, progress
from seg_jax.checks import UserError
from seg_jax.data import source
from seg_jax.data.datasets import voc2012 as voc
from seg_jax.data.prepare import archives, sbd
from seg_jax.data.prepare.archives import Archive
from seg_jax.data.prepare.seg11valid import SEG11VALID

_HOME = "VOCdevkit/VOC2012"
_VOC_FILES = (
    rf"{_HOME}/(JPEGImages/[\w-]+\.jpg|SegmentationClass/[\w-]+\.png"
    r"|ImageSets/Segmentation/(?:train|val|trainval)\.txt)"
)


@dataclasses.dataclass(frozen=True)
class Release:
    """The expected archives and their expected contents.

    Attributes:
      voc: VOC 2012's images and masks.
      sbd: the Semantic Boundaries Dataset.
      counts: number of ids in every list.
      digests: SHA-256 of the sorted ids of a list.
    """

    voc: Archive
    sbd: Archive
    counts: Mapping[str, int]
    digests: Mapping[str, str]


RELEASE = Release(
    voc=Archive(
        name="VOCtrainval_11-May-2012.tar",
        url="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        size=1_999_639_040,
        md5="6cd6e144f989b92b3379bac3b3de84fd",
    ),
    sbd=Archive(
        name="benchmark.tgz",
        url="https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/"
        "semantic_contours/benchmark.tgz",
        size=1_419_539_633,
        md5="82b4d87ceb2ed10f6038a1cba92111cb",
    ),
    counts=voc.COUNTS,
    digests=voc.OFFICIAL,
)

# sbd_train and VOC 2012's val are not disjoint; FCN's own two lists are.
DISJOINT = (
    ("train", "val"), ("trainaug", "val"), ("sbd_train", "sbd_val"), ("sbd_train", "seg11valid"),
)  # fmt: skip


def prepare(
    root: Path, voc_tar: Path | None, sbd_tgz: Path | None = None, *, release: Release = RELEASE
) -> str:
    """Write VOCdevkit/VOC2012 in `root`, and return a summary.

    Args:
      root: folder for VOCdevkit; created if it does not exist.
      voc_tar: the file VOCtrainval_11-May-2012.tar; None: its content is in `root` already.
      sbd_tgz: the file benchmark.tgz; None: only VOC's own lists train, val and trainval.
      release: the expected archives and counts.

    Returns:
      Every list with its number of images, and the pairs of lists found to be disjoint.

    Raises:
      UserError: for an archive that is not the published one, a full disk, a mask that cannot be
        converted, and a list that differs from the published one.
    """
    if voc_tar is None and sbd_tgz is None:
        raise UserError(f"--voc is missing: name {release.voc.name} ({release.voc.url})")
    for path, archive in ((voc_tar, release.voc), (sbd_tgz, release.sbd)):
        if path is not None:
            archives.verify(path, archive)
    home = root / _HOME
    home.mkdir(parents=True, exist_ok=True)
    if voc_tar is not None:
        _extract_voc(voc_tar, home)
    lists = {name: _stored_list(home, name) for name in ("train", "val", "trainval")}
    _insist(home, lists, release)
    if sbd_tgz is not None:
        of_sbd = sbd.convert(
            sbd_tgz,
            home / "JPEGImages",
            home / voc.mask_folder("sbd_train"),
            expected=release.counts["sbd_train"] + release.counts["sbd_val"],
        )
        made = augmented_lists(lists, of_sbd)
        lists |= made
        _insist(home, lists, release)
        _insist_on_files(home, {k: v for k, v in lists.items() if not k.endswith("aug")})
        _augmented_masks(home, lists)
        for name, ids in made.items():
            _write_list(home, name, ids)
    _insist_on_files(home, lists)
    return _summary(home, lists)


def augmented_lists(
    voc_lists: Mapping[str, tuple[str, ...]], sbd_lists: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Return the lists that are made from VOC's and SBD's, each sorted.

    Args:
      voc_lists: ids of VOC's train and val.
      sbd_lists: ids of SBD's train and val, which overlap both of VOC's lists.
    """
    train, val = set(voc_lists["train"]), set(voc_lists["val"])
    trainaug = (train | {*sbd_lists["train"], *sbd_lists["val"]}) - val
    made = {
        "trainaug": trainaug,
        "trainval_aug": trainaug | val,
        "sbd_train": sbd_lists["train"],
        "sbd_val": sbd_lists["val"],
        "seg11valid": val.intersection(SEG11VALID),
    }
    return {name: tuple(sorted(ids)) for name, ids in made.items()}


def _extract_voc(path: Path, home: Path) -> None:
    with archives.open_tar(path) as tar:
        wanted = [
            (home / match[1], member)
            for match, member in archives.members(tar, _VOC_FILES)
            if not _is_there(home / match[1], member.size)
        ]
        archives.need_space(home, sum(member.size for _, member in wanted))
        wanted.sort(key=lambda file: file[0].suffix == ".txt")  # lists last; else tar's own order
        for target, member in progress.bar(
            wanted, desc=f"extracting {path.name}", unit="file", leave=True
        ):
            files.write_bytes(target, archives.content(tar, member))


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _augmented_masks(home: Path, lists: Mapping[str, tuple[str, ...]]) -> None:
    """Use VOC's mask, which has void along the borders, where there is one, else SBD's."""
    folder = home / voc.mask_folder("trainaug")
    folder.mkdir(exist_ok=True)
    of_voc = set(lists["trainval"])
    for image_id in progress.bar(
        lists["trainval_aug"], desc="augmented masks", unit="mask", leave=True
    ):
        target = folder / f"{image_id}.png"
        if not target.is_file():
            origin = voc.mask_folder("trainval" if image_id in of_voc else "sbd_train")
            _link(home / origin / target.name, target)


def _link(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # a file system without hard links
        files.write_bytes(new, old.read_bytes())


def _list_file(home: Path, name: str) -> Path:
    return home / "ImageSets" / "Segmentation" / f"{name}.txt"


def _stored_list(home: Path, name: str) -> tuple[str, ...]:
    return tuple(source.read_list(_list_file(home, name)))


def _write_list(home: Path, name: str, ids: tuple[str, ...]) -> None:
    if not _list_file(home, name).is_file() or _stored_list(home, name) != ids:
        files.write_bytes(_list_file(home, name), "".join(f"{i}\n" for i in ids).encode())


def _insist(home: Path, lists: Mapping[str, tuple[str, ...]], release: Release) -> None:
    """Raise a UserError unless every list has the published number of ids and, where their digest
    is known, the published ids, and lists that must be disjoint are.
    """
    for name, ids in lists.items():
        expected = release.counts[name]
        if len(set(ids)) != len(ids) or len(ids) != expected:
            raise UserError(
                f"{home}: list {name} has {len(ids)} ids, {len(set(ids))} different ones, and "
                f"{expected} are published; delete the folder and prepare it again"
            )
        if name in release.digests and source.digest(sorted(ids)) != release.digests[name]:
            raise UserError(
                f"{home}: list {name} has {expected} ids, but not the published ones; delete the "
                "folder and prepare it again"
            )
    for one, other in _disjoint_pairs(lists):
        if shared := set(lists[one]) & set(lists[other]):
            raise UserError(f"{home}: {one} and {other} share {len(shared)} ids: {min(shared)} ...")


def _disjoint_pairs(lists: Mapping[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [pair for pair in DISJOINT if lists.keys() >= set(pair)]


def _insist_on_files(home: Path, lists: Mapping[str, tuple[str, ...]]) -> None:
    there = {
        folder: {path.name for path in (home / folder).iterdir()}
        for folder in {"JPEGImages", *map(voc.mask_folder, lists)}
    }
    for name, ids in lists.items():
        for folder, suffix in (("JPEGImages", "jpg"), (voc.mask_folder(name), "png")):
            missing = [i for i in ids if f"{i}.{suffix}" not in there[folder]]
            if missing:
                raise UserError(
                    f"{home / folder}: {len(missing)} of the {len(ids)} files of {name} are "
                    f"missing, e.g. {missing[0]}.{suffix}; prepare it again with both archives"
                )


def _summary(home: Path, lists: Mapping[str, tuple[str, ...]]) -> str:
    lines = [f"{home}", f"  {'list':<14}{'images':>8}   masks in"]
    lines += [f"  {name:<14}{len(lists[name]):>8}   {voc.mask_folder(name)}" for name in lists]
    lines += [f"  {one} and {other} share no image" for one, other in _disjoint_pairs(lists)]
    if "sbd_train" in lists:
        val = set(lists["val"])
        sbd, train = {*lists["sbd_train"], *lists["sbd_val"]}, set(lists["sbd_train"])
        lines += [
            f"  SBD: {len(sbd)} masks; {len(sbd & val)} are of images in VOC's val and left "
            "out of trainaug",
            f"  sbd_train and val share {len(train & val)} images: score what was trained on "
            "sbd_train on seg11valid, never on val",
        ]
    return "\n".join(lines)
