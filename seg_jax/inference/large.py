"""Label images that are too large for one prediction: window by window, in bounded memory.

The image is cut into squares of CORE px. The network sees each with CONTEXT px around it, under the
evaluation protocol, and only the square is kept. A network that pools over its whole input (PSPNet,
DeepLab v3) so pools over the window. Of a TIFF (with tifffile) or `.npy` only the window is read;
other formats are decoded whole, 3 bytes a pixel. The labels take 1 byte a pixel.
"""

import contextlib
import importlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from seg_jax import files
from seg_jax.checks import UserError
from seg_jax.data import bands, images, visualize
from seg_jax.data.preprocessing import Preprocessing
from seg_jax.experiment import Experiment
from seg_jax.inference import forward, windows

PIXELS = 2**24  # from here on: 4096 x 4096
CORE, CONTEXT = 1024, 128
_OVERVIEW = 4096  # pixels of the longer side of what is drawn
_TIFF = (".tif", ".tiff")
Read = Callable[[slice, slice], np.ndarray]


def is_large(path: Path, experiment: Experiment) -> bool:
    """Return whether an image is labelled window by window.

    Not under the protocol "resize", which shows the network the whole image.
    """
    if experiment.evaluation.mode == "resize":
        return False
    seen = experiment.data.preprocessing
    plain = bands.is_plain(path, seen.channels, seen.range)
    height, width = images.image_size(path) if plain else bands.describe(path).size
    return height * width > PIXELS


def predict(
    experiment: Experiment, variables: Any, path: Path, *, core: int = CORE, context: int = CONTEXT
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the labels of an image, uint8 [h w], and an overview of it.

    Args:
      experiment: gives model, preprocessing and evaluation protocol.
      variables: of the model.
      path: the image.
      core: pixels of a square's side.
      context: pixels around a square that the network sees as well.

    Returns:
      The labels; every n-th pixel of the image as uint8 [h/n w/n 3]; and n.
    """
    with _opened(path, experiment.data.preprocessing) as (size, read):
        step = max(1, math.ceil(max(size) / _OVERVIEW))
        labels = np.empty(size, np.uint8)
        overview = np.zeros((*(-(-side // step) for side in size), 3), np.uint8)
        for rows, seen_rows in _squares(size[0], core, context):
            for columns, seen_columns in _squares(size[1], core, context):
                part = read(seen_rows, seen_columns)
                fitted = windows.covering(experiment, part.shape[:2])
                found = forward.predict_labels(fitted, variables, part)
                inner = (
                    slice(rows.start - seen_rows.start, rows.stop - seen_rows.start),
                    slice(columns.start - seen_columns.start, columns.stop - seen_columns.start),
                )
                labels[rows, columns] = found[inner]
                first = [-part.start % step for part in (rows, columns)]
                shown = visualize.as_rgb(part[inner][first[0] :: step, first[1] :: step])
                top, left = -(-rows.start // step), -(-columns.start // step)
                overview[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
    return labels, overview, step


def _squares(length: int, core: int, context: int) -> Iterator[tuple[slice, slice]]:
    """Yield what is kept and what is seen, along an axis; all that is seen has one length."""
    seen = min(length, core + 2 * context)
    for start in range(0, length, core):
        first = min(max(0, start - context), length - seen)
        yield slice(start, min(start + core, length)), slice(first, first + seen)


@contextlib.contextmanager
def _opened(path: Path, seen: Preprocessing) -> Iterator[tuple[tuple[int, int], Read]]:
    plain = bands.is_plain(path, seen.channels, seen.range)
    if plain and not _by_windows(path):
        image = images.read_upright(path)
        yield image.shape[:2], lambda rows, columns: image[rows, columns]
        return

    def read(rows: slice, columns: slice) -> np.ndarray:
        return bands.read(path, seen.channels, seen.range, (rows, columns))

    yield bands.describe(path).size, read


def _by_windows(path: Path) -> bool:
    """Whether an RGB image of 8 bits is a TIFF that `bands` reads to the same values."""
    if path.suffix.lower() not in _TIFF:
        return False
    try:
        header = bands.describe(path)
    except UserError:  # another compression, tifffile is not there: Pillow decodes it whole
        return False
    return header.dtype == np.uint8 and (header.channels in (1, 3) or header.alpha)


def georeferenced(path: Path) -> Any:
    """Return rasterio's profile of a GeoTIFF's place, None where there is none.

    None as well where rasterio is not installed.
    """
    if path.suffix.lower() not in _TIFF:
        return None
    try:
        rasterio = importlib.import_module("rasterio")
    except ImportError:
        return None
    with files.open_regular(path):  # GDAL would also open a pipe
        pass
    try:
        with rasterio.open(path, driver="GTiff") as source:
            if source.crs is None and source.transform.is_identity:
                return None
            return {"crs": source.crs, "transform": source.transform}
    except rasterio.errors.RasterioError:
        return None


def write_georeferenced(labels: np.ndarray, place: Any, palette: np.ndarray, out: Path) -> None:
    """Write labels, uint8 [h w], as a GeoTIFF at the place of its image, whole or not at all.

    Args:
      labels: class ids.
      place: of `georeferenced`.
      palette: colours by class id, uint8 [256 3].
      out: the file.
    """
    rasterio = importlib.import_module("rasterio")
    memory = importlib.import_module("rasterio.io").MemoryFile()
    height, width = labels.shape
    with memory, memory.open(
        driver="GTiff", height=height, width=width, count=1, dtype=rasterio.uint8,
        compress="deflate", **place,
    ) as target:  # fmt: skip
        target.write(labels, 1)
        target.write_colormap(1, {n: tuple(map(int, color)) for n, color in enumerate(palette)})
        target.close()
        files.write_bytes(out, memory.read())
