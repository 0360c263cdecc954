"""The counts of every image beside a record, from which intervals and paired tests are made.

`result.json` has `result_images.csv` beside it, with a line for each image and class that occurs in
its truth or prediction:

    index,image,class,true,predicted,both
    0,0001TP_008550,sky,31044,30210,29877

An image without labelled pixels has one line with an empty class. The sums over the images are
those of the record's confusion matrix; a file of which this is not true is refused.
"""

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np

from seg_jax import checks, files
from seg_jax.checks import UserError
from seg_jax.metrics import bootstrap
from seg_jax.results.record import Record

_HEADER = ["index", "image", "class", "true", "predicted", "both"]
_MOST_BYTES = 256 * 2**20
_MOST_PIXELS = 2**40  # of one class in one image


@dataclasses.dataclass(frozen=True, eq=False)
class ImageCounts:
    """Pixels of every class in every image of a split.

    Attributes:
      ids: names of the images.
      counts: int64 [n 3 k]: true, predicted, and both.
    """

    ids: tuple[str, ...]
    counts: np.ndarray


def worst(found: ImageCounts, number: int) -> list[tuple[int, float]]:
    """Return (index, mean IoU) of the images with the lowest mean IoU, the worst first.

    The mean is over the classes that occur in an image's truth or prediction; images without a
    labelled pixel have none and are left out.
    """
    scores = bootstrap.mean_iou(found.counts)
    order = np.argsort(scores, kind="stable")
    return [(int(i), float(scores[i])) for i in order if not np.isnan(scores[i])][:number]


def class_iou(found: ImageCounts, index: int) -> dict[int, float]:
    """Return the IoU of every class that occurs in an image's truth or prediction, by class id."""
    true, predicted, both = found.counts[index]
    union = true + predicted - both
    return {int(k): float(both[k] / union[k]) for k in np.flatnonzero(union)}


def path_of(record: Path) -> Path:
    """Return the file that belongs to a record's."""
    return record.with_name(f"{record.stem}_images.csv")


def save(found: ImageCounts, classes: tuple[str, ...], path: Path) -> None:
    """Write the file whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    for index, (name, counts) in enumerate(zip(found.ids, found.counts, strict=True)):
        occurring = np.flatnonzero(counts.any(0)).tolist()
        writer.writerows(
            (index, name, classes[value], *counts[:, value].tolist()) for value in occurring
        )
        if not occurring:
            writer.writerow((index, name, "", 0, 0, 0))
    files.write_text(path, text.getvalue())


def load(path: Path, record: Record) -> ImageCounts:
    """Read the file beside a record.

    Args:
      path: of the file.
      record: that it belongs to.

    Raises:
      UserError: it cannot be read, a line is wrong, or the sums are not the record's.
    """
    content = files.read_bytes(path, most=_MOST_BYTES)
    images = record.counts.images
    place = {name: index for index, name in enumerate(record.classes)}
    ids: dict[int, str] = {}
    lines: dict[int, dict[int, list[int]]] = {}
    try:
        rows = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
        if next(rows, None) != _HEADER:
            raise ValueError(f"the first line is not {','.join(_HEADER)}")
        for index, name, kind, *numbers in rows:
            image, counts = int(index), [int(number) for number in numbers]
            if not 0 <= image < images or ids.setdefault(image, name) != name:
                raise ValueError(f"line {rows.line_num}: no image {index:.20} of {images}")
            if len(counts) != 3 or not 0 <= counts[2] <= min(counts[:2]):
                raise ValueError(f"line {rows.line_num}: no counts of pixels")
            if max(counts) > _MOST_PIXELS:
                raise ValueError(f"line {rows.line_num}: impossibly many pixels")
            of_image = lines.setdefault(image, {})
            if kind or any(counts):
                if kind not in place or place[kind] in of_image:
                    raise ValueError(f"line {rows.line_num}: no class of the record, or twice")
                of_image[place[kind]] = counts
    except (ValueError, csv.Error) as error:
        reason = checks.printable(str(error))
        raise UserError(f"{path}: {reason}; evaluate the run again") from error
    if len(ids) != images:
        raise UserError(f"{path}: has {len(ids)} images, the record {images}; evaluate again")
    # Only now is as much memory taken as the record asks for: the file names every image.
    counts = np.zeros((images, 3, len(place)), np.int64)
    for image, of_image in lines.items():
        for kind, numbers in of_image.items():
            counts[image, :, kind] = numbers
    confusion = np.array(record.counts.confusion, np.int64)
    sums = np.stack([confusion.sum(1), confusion.sum(0), np.diag(confusion)])
    if not np.array_equal(counts.sum(0), sums):
        raise UserError(f"{path}: its sums are not those of the record; evaluate the run again")
    return ImageCounts(tuple(ids[index] for index in range(images)), counts)
