"""Search the dense CRF's constants on held-out images, as DeepLab v1 and v2 did.

DeepLab v1, section 4.1, and v2, section 4.1.3: the spatial kernel is fixed, the bilateral one is
searched over a grid by mIoU on 100 images of val. The network sees each image once: its
probabilities are kept on disk.
"""

import dataclasses
import hashlib
import itertools
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from seg_jax import checks, config, files, metrics
from seg_jax import progress as progress_bar
from seg_jax.evaluation.evaluate import Source
from seg_jax.experiment import Experiment
from seg_jax.inference import forward, windows
from seg_jax.kernels.crf import CrfParams, presets

_MOST_BYTES = 2**30  # of an image's probabilities
# What `np.save` writes before an array float32 [h w k]; NumPy's own reader takes objects, too.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<f4', 'fortran_order': False, "
    rb"'shape': \((\d{1,6}), (\d{1,6}), (\d{1,6})\), \} *\n",
    re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Grid:
    """Values of the bilateral kernel to combine; everything else is `fixed`'s.

    Attributes:
      weights: of the kernel.
      px: widths in pixels.
      rgb: widths in grey levels.
      fixed: the other constants.
    """

    weights: tuple[float, ...]
    px: tuple[float, ...]
    rgb: tuple[float, ...]
    fixed: CrfParams = CrfParams(spatial_weight=3.0, spatial_px=3.0)

    def __post_init__(self):
        for name in ("weights", "px", "rgb"):
            if not getattr(self, name):
                raise checks.UserError(f"the grid has no values of bilateral {name}: give one")

    def points(self) -> tuple[CrfParams, ...]:
        """Return every combination; the last axis varies fastest."""
        return tuple(
            dataclasses.replace(
                self.fixed, bilateral_weight=weight, bilateral_px=px, bilateral_rgb=rgb
            )
            for weight, px, rgb in itertools.product(self.weights, self.px, self.rgb)
        )


def _range(first: int, last: int, step: int = 1) -> tuple[float, ...]:
    return tuple(map(float, range(first, last + 1, step)))


# The papers' first rounds, in MATLAB's notation: w1 in [5,10], [50:10:100], [3:1:10] and [3:6],
# [30:10:100], [3:6]. They then refine the steps around the best values: give those as values.
GRIDS = {
    "deeplab_v1": Grid((5.0, 10.0), _range(50, 100, 10), _range(3, 10)),
    "deeplab_v2": Grid(_range(3, 6), _range(30, 100, 10), _range(3, 6)),
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
      grid: that was searched.
      images: ids of the images: the constants were chosen on them, so a score on them flatters.
      plain: mIoU without a CRF, a share of 1.
      scores: mIoU of `grid.points()`, float [weights px rgb].
    """

    grid: Grid
    images: tuple[str, ...]
    plain: float
    scores: np.ndarray

    @property
    def best(self) -> CrfParams:
        """The point of the highest mIoU, the first of equal ones."""
        return self.grid.points()[int(np.nanargmax(self.scores))]


def search(
    experiment: Experiment,
    variables: Any,
    source: Source,
    grid: Grid,
    *,
    cache: Path,
    images: int = 100,
    progress: bool = True,
) -> Outcome:
    """Score every point of the grid on images spread evenly over the split.

    The constants are arguments of the compiled CRF, so all points share its compilations: one for
    each image size, none on a CPU with Numba.

    Args:
      experiment: its model, preprocessing and evaluation protocol are used, without its CRF.
      variables: of the model.
      source: the split.
      grid: the points.
      cache: folder that keeps the probabilities, NAME.npy, float32 [h w k]: 1.6 GB for 100 images
        of VOC. The caller names it after network and split.
      images: how many.
      progress: draw a progress bar.

    Raises:
      UserError: the split is empty, or the protocol does not fit.
    """
    checks.positive(images=images)
    if not len(source):
        raise checks.UserError("the split to search on holds no images")
    experiment = experiment.with_evaluation(crf=None)
    windows.check_evaluation(experiment)
    chosen = np.linspace(0, len(source) - 1, min(images, len(source))).astype(int)
    points, k = grid.points(), len(source.classes)
    sums = np.zeros((1 + len(points), k, k), np.int64)
    names = []
    total = len(chosen) * len(points)
    with progress_bar.bar(total=total, desc="searching", unit="CRF", shown=progress) as shown:
        for index in chosen:
            example = source[int(index)]
            names.append(example["id"])
            shares = _cached(cache, example, experiment, variables)
            checks.scored_classes(shares.shape[-1], k)
            sums[0] += _count(example, shares)
            for position, params in enumerate(points, 1):
                sums[position] += _count(example, presets.refine(params)(example["image"], shares))
                shown.update()
    scores = [metrics.mean_iou(confusion) for confusion in sums]
    shape = (len(grid.weights), len(grid.px), len(grid.rgb))
    return Outcome(grid, tuple(names), float(scores[0]), np.reshape(scores[1:], shape))


def cache_name(experiment: Experiment, variables: Any, source: Any) -> str:
    """Return the name of a cache folder: it differs wherever the probabilities would."""
    what = config.digest(experiment.with_evaluation(crf=None))
    return f"probabilities_{what}_{_weights_digest(variables)}_{source.split}"


def _weights_digest(variables: Any) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()[:16]


def _cached(
    cache: Path, example: Mapping[str, Any], experiment: Experiment, variables: Any
) -> np.ndarray:
    name = checks.path_component(f"{example['id'].replace('/', '_')}.npy", "image id")
    path = cache / name
    if os.path.lexists(path):
        return _load(path, example["label"].shape)
    shares = forward.predict_probabilities(experiment, variables, example["image"])
    with files.write_atomically(path) as file:
        np.save(file, shares)
    return shares


def _load(path: Path, size: tuple[int, ...]) -> np.ndarray:
    """Return stored probabilities, float32 [h w k] of an image of that size.

    Raises:
      UserError: the file holds anything else.
    """
    content = files.read_bytes(path, most=_MOST_BYTES)
    found = _HEADER.match(content)
    shape = tuple(map(int, found.groups())) if found else ()
    if not found or shape[:2] != size or 4 * math.prod(shape) != len(content) - found.end():
        raise checks.UserError(
            f"{path}: no probabilities of this image; delete the file, which is made again"
        )
    return np.frombuffer(content, np.float32, offset=found.end()).reshape(shape)


def _count(example: Mapping[str, Any], shares: np.ndarray) -> np.ndarray:
    prediction = forward.labels(shares)
    return metrics.confusion_on_host(example["label"], prediction, shares.shape[-1])


def as_text(outcome: Outcome) -> str:
    """Return the best point for the terminal, and which axes the grid should be widened along."""
    lines = [
        f"best of {outcome.scores.size} on {len(outcome.images)} images: "
        f"{presets.words(outcome.best)}",
        f"mIoU {100 * np.nanmax(outcome.scores):.2f}, without a CRF {100 * outcome.plain:.2f}",
    ]
    at = np.unravel_index(int(np.nanargmax(outcome.scores)), outcome.scores.shape)
    for place, name in zip(at, ("weights", "px", "rgb"), strict=True):
        values = getattr(outcome.grid, name)
        if len(values) > 1 and place in (0, len(values) - 1):
            lines.append(f"bilateral {name} {values[place]:g} is at the edge of the grid: widen it")
    return "\n".join(lines)


def options(params: CrfParams) -> str:
    """Return the options of `evaluate` that choose these constants."""
    name, base = "deeplab_v2_resnet101", presets.get("deeplab_v2_resnet101")
    changed = [
        f"--evaluation.crf.{field.name.replace('_', '-')} {getattr(params, field.name)}"
        for field in dataclasses.fields(params)
        if getattr(params, field.name) != getattr(base, field.name)
    ]
    return " ".join([f"--crf {name}", *changed])


def to_dict(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as JSON data: every point with its mIoU, a share of 1."""
    scores = outcome.scores.ravel().tolist()
    return {
        "pictures": list(outcome.images),
        "plain": outcome.plain,
        "best": dataclasses.asdict(outcome.best),
        "points": [
            {**dataclasses.asdict(point), "mean_iou": score}
            for point, score in zip(outcome.grid.points(), scores, strict=True)
        ],
    }


def panels(outcome: Outcome, *, what: str) -> dict[str, Any]:
    """Return the arguments of `report.heat_map`: a panel a weight, rgb over px, mIoU in percent.

    Args:
      outcome: of the search.
      what: was searched with, in words: run, data and protocol.
    """
    grid = outcome.grid
    return {
        "panels": [
            (f"bilateral weight {weight:g}", (100 * scores.T).tolist())
            for weight, scores in zip(grid.weights, outcome.scores, strict=True)
        ],
        "x_title": "bilateral width in pixels",
        "y_title": "grey levels",
        "x_labels": [f"{value:g}" for value in grid.px],
        "y_labels": [f"{value:g}" for value in grid.rgb],
        "title": f"mIoU on {len(outcome.images)} images, without a CRF {100 * outcome.plain:.2f}",
        "note": what,
    }
