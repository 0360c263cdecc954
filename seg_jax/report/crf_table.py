"""How much the dense CRF improves the scores: committed measurements, and the README's table."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg_jax import experiment, metrics
from seg_jax.checks import UserError
from seg_jax.kernels.crf.api import ALIASES
from seg_jax.report.grid import NONE, Column, Grid, percent
from seg_jax.results import Split, schema
from seg_jax.results.record import Counts

MARKERS = ("<!-- crf:begin -->", "<!-- crf:end -->")  # of the README
TRIMAP_PX = (2, 5, 20)


@dataclasses.dataclass(frozen=True)
class Row:
    """The scores of one CRF, or of none, over the images of a measurement.

    Attributes:
      crf: name of its constants (`kernels.crf.presets`); empty: no CRF.
      normalisation: of its kernels.
      implementation: of `kernels.crf.mean_field`; a stored name may be a former one (ALIASES).
      seconds: median time of the CRF for one image, without compilation.
      counts: sums over the images.
    """

    crf: str
    normalisation: str
    implementation: str
    seconds: float | None
    counts: Counts

    def scores(self, classes: int) -> metrics.Scores:
        """Return the metrics, computed from the stored counts."""
        bands = self.counts.trimap_px
        shapes = metrics.shapes_of_counts(classes, len(bands))
        arrays = {
            name: np.array(getattr(self.counts, name), np.int64).reshape(shape)
            for name, shape in shapes.items()
        }
        return metrics.Scores(**arrays, trimap_px=bands, images=self.counts.images)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Several CRFs that refined the same probabilities of the same images, in turn.

    `cutting` and `pictures` are keys of the stored file.

    Attributes:
      weights: name of the network's weights in the catalogue.
      cutting: the evaluation protocol, in words.
      data: the split.
      pictures: number of images used, evenly spread over the split.
      classes: names by id.
      rows: in the table's order.
      revision, dirty, versions, device, date: as in `results.Record`.
    """

    weights: str
    cutting: str
    data: Split
    pictures: int
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    revision: str | None
    dirty: bool | None
    versions: dict[str, str]
    device: dict[str, Any]
    date: str


def committed() -> tuple[Measurement, ...]:
    """Read the measurements that are part of the project."""
    return load(experiment.folder() / "crf_worth.json")


def load(path: Path) -> tuple[Measurement, ...]:
    """Read a file of measurements; empty if it does not exist.

    Raises:
      UserError: the file is damaged.
    """
    if not path.is_file():
        return ()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from error
    return schema.parse(tuple[Measurement, ...], data, file=str(path))


def save(path: Path, new: Measurement) -> None:
    """Add a measurement; earlier ones whose CRFs are all measured again in it are dropped."""

    def is_superseded(old):
        return _subject(old) == _subject(new) and {*map(_name, old.rows)} <= {*map(_name, new.rows)}

    kept = [old for old in load(path) if not is_superseded(old)]
    lines = [json.dumps(schema.plain(found), ensure_ascii=False) for found in [*kept, new]]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def _subject(found: Measurement) -> tuple:
    """Return what two measurements in one table must have in common."""
    return found.weights, found.cutting, found.data, found.pictures, found.classes


def _name(row: Row) -> tuple[str, str, str]:
    return row.crf, row.normalisation, _implementation(row)


def _implementation(row: Row) -> str:
    """Return today's name of a row's implementation."""
    return ALIASES.get(row.implementation, row.implementation)


def markdown(measurements: Sequence[Measurement]) -> str:
    """Return one table for each network and split, with the origin of its rows below it.

    Raises:
      ValueError: two measurements score differently without a CRF, so their probabilities differ.
    """
    parts = []
    for subject in dict.fromkeys(map(_subject, measurements)):
        group = [found for found in measurements if _subject(found) == subject]
        origins = "; ".join(map(_origin, group))
        parts += [
            _grid(_joined(group), subject[-1]).as_markdown(),
            f"{group[0].weights} ({group[0].cutting}) on {group[0].pictures} images of "
            f"{group[0].data.description}. In percent; s per image: median, the CRF alone, "
            f"on shared cores. {origins}.",
        ]
    return "\n\n".join(parts)


def _origin(found: Measurement) -> str:
    revision = (found.revision or "no checkout")[:10] + ("+" if found.dirty else "")
    crfs = ", ".join(dict.fromkeys(_implementation(row) for row in found.rows if row.crf))
    cores = f"{found.device['cores']} {found.device['kind']} cores"
    return f"{crfs}: {cores}, {found.date[:10]}, {revision}"


def _joined(group: Sequence[Measurement]) -> list[Row]:
    """Return all rows; the one without a CRF once, and of a CRF measured twice the last."""
    rows: dict[tuple, Row] = {}
    for found in group:
        for row in found.rows:
            if not row.crf and row.counts != rows.setdefault(_name(row), row).counts:
                raise ValueError(
                    f"{found.weights} on {found.pictures} images: the measurements do not agree "
                    "on the scores without a CRF, so their probabilities differ; measure all "
                    "CRFs in one run of scripts/measure_crf.py"
                )
            rows[_name(row)] = row
    return list(rows.values())


def _grid(rows: Sequence[Row], classes: tuple[str, ...]) -> Grid:
    columns = (
        Column("dense CRF"), Column("normalised"), Column("implementation"),
        Column("mIoU", number=True), Column("pixel acc.", number=True),
        *(Column(f"trimap {px} px", number=True) for px in TRIMAP_PX),
        Column("boundary F1", number=True), Column("s per image", number=True),
    )  # fmt: skip
    lines = []
    for row in rows:
        scores = row.scores(len(classes))
        trimap = dict(zip(scores.trimap_px, scores.trimap_iou, strict=True))
        lines.append(
            (
                row.crf or "none",
                row.normalisation or NONE,
                _implementation(row) or NONE,
                percent(scores.mean_iou, digits=2),
                percent(scores.pixel_accuracy, digits=2),
                *(percent(trimap[px], digits=2) for px in TRIMAP_PX),
                percent(scores.boundary_f1, digits=2),
                NONE if row.seconds is None else f"{row.seconds:.2f}",
            )
        )
    return Grid(columns, tuple(lines))
