"""The Semantic Boundaries Dataset (Hariharan et al., ICCV 2011): MATLAB masks to palette PNGs.

    benchmark_RELEASE/dataset/cls/<id>.mat       struct GTcls, field Segmentation: 0..20, no void
    benchmark_RELEASE/dataset/train.txt val.txt  an id on each line; not a subset of VOC's lists

Its images are VOC's own and are taken from there.
"""

import io
from pathlib import Path

import numpy as np

from seg_jax import files, progress
from seg_jax.checks import UserError
from seg_jax.data import images, visualize
from seg_jax.data.prepare import archives, mat5
from seg_jax.data.source import size_mismatch
from seg_jax.types import VOC_CLASSES, voc_palette

_FILES = r"benchmark_RELEASE/dataset/(?:cls/([\w-]+)\.mat|(train|val)\.txt)"
_MASK_BYTES = 8192  # estimate for a mask on disk; VOC's take 3.2 KB on average


def convert(
    path: Path, image_folder: Path, mask_folder: Path, *, expected: int
) -> dict[str, tuple[str, ...]]:
    """Write every mask of the archive to mask_folder/<id>.png, unless it exists already.

    Args:
      path: the archive, benchmark.tgz.
      image_folder: holds <id>.jpg, which must have the mask's size.
      mask_folder: created if it does not exist.
      expected: number of masks in the archive, for the disk space and the progress bar.

    Returns:
      The ids of SBD's lists "train" and "val".
    """
    mask_folder.mkdir(exist_ok=True)
    missing = expected - len(list(mask_folder.glob("*.png")))
    archives.need_space(mask_folder, max(0, missing) * _MASK_BYTES)
    lists = {}
    with (
        archives.open_tar(path) as tar,
        progress.bar(total=expected, desc="converting SBD", leave=True) as bar,
    ):
        for match, member in archives.members(tar, _FILES):
            image_id, split = match.groups()
            if split:
                lists[split] = tuple(archives.content(tar, member).decode().split())
                continue
            target = mask_folder / f"{image_id}.png"
            if not target.is_file():
                content = archives.content(tar, member)
                mask = read_mat(content, f"{path}, {member.name}")
                _insist_on_size(mask, image_folder / f"{image_id}.jpg", member.name)
                files.write_bytes(target, _png(mask))
            bar.update()
    for split in {"train", "val"} - lists.keys():
        raise UserError(f"{path}: has no benchmark_RELEASE/dataset/{split}.txt; download it again")
    return lists


def read_mat(content: bytes, name: str) -> np.ndarray:
    """Return the mask in one of SBD's files in cls/: uint8 [h w], 0..20, without void.

    Args:
      content: of the file (MATLAB 5): a struct GTcls with the field Segmentation.
      name: of the file, for errors.
    """
    try:
        mask = mat5.struct_field(content, "GTcls", "Segmentation")
    except ValueError as error:
        raise UserError(f"{name}: not a file of SBD's cls/ ({error})") from error
    if not mask.size:
        raise UserError(f"{name}: a mask of type {mask.dtype} and shape {mask.shape}")
    if not np.isin(mask, range(len(VOC_CLASSES))).all():
        raise UserError(f"{name}: values up to {mask.max()}; SBD's masks hold 0 to 20")
    return mask.astype(np.uint8)


def _insist_on_size(mask: np.ndarray, image: Path, name: str) -> None:
    size = images.image_size(image)
    if mask.shape != size:
        raise UserError(size_mismatch(Path(name), mask.shape, size))


def _png(mask: np.ndarray) -> bytes:
    file = io.BytesIO()
    visualize.label_image(mask, voc_palette()).save(file, "PNG", optimize=True)
    return file.getvalue()
