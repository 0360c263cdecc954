"""The table of what dense CRFs gain and cost, from committed measurements."""

import dataclasses
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg_jax import metrics
from seg_jax.checks import UserError
from seg_jax.kernels.crf import api
from seg_jax.report.grid import NONE, Column, Grid, percent
from seg_jax.results import Split, schema
from seg_jax.results.record import Counts

MARKERS = ("<!-- crf:begin -->", "<!-- crf:end -->")  # of the README
TRIMAP_PX = (2, 5, 20)


@dataclasses.dataclass(frozen=True)
class Row:
    """One CRF, or none, over the images of a measurement.

    Attributes:
      crf: in words; empty: none.
      normalisation: of its kernels.
      implementation: of `kernels.crf.mean_field`, by today's or a former name.
      seconds: median time of the CRF for an image, without compilation.
      counts: sums over the images.
    """

    crf: str
    normalisation: str
    implementation: str
    seconds: float | None
    counts: Counts

    def scores(self, classes: int) -> metrics.Scores:
        """Return the counts as arrays, with the metrics as properties."""
        bands = self.counts.trimap_px
        shapes = metrics.shapes_of_counts(classes, len(bands))
        arrays = {
            name: np.array(getattr(self.counts, name), np.int64).reshape(shape)
            for name, shape in shapes.items()
        }
        return metrics.Scores(**arrays, trimap_px=bands, images=self.counts.images)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Several CRFs applied to the same probabilities of the same images.

    Attributes:
      weights: of the network, by their name in the catalogue.
      cutting: how images were presented to the network, in words.
      data: the split.
      pictures: number of its images that were used, evenly spread (the stored field's name).
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
    folder = Path(importlib.import_module("experiments").__path__[0])
    return load(folder / "crf_worth.json")


def load(path: Path) -> tuple[Measurement, ...]:
    """Return the measurements of a file; none where there is no file.

    Raises:
      UserError: it is damaged.
    """
    if not path.is_file():
        return ()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from error
    return schema.parse(tuple[Measurement, ...], data, file=str(path))


def save(path: Path, new: Measurement) -> None:
    """Add a measurement; it replaces earlier ones whose CRFs it has all measured again."""

    def is_superseded(old):
        return _subject(old) == _subject(new) and {*map(_name, old.rows)} <= {*map(_name, new.rows)}

    kept = [old for old in load(path) if not is_superseded(old)]
    lines = [json.dumps(schema.plain(found), ensure_ascii=False) for found in [*kept, new]]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def _subject(found: Measurement) -> tuple:
    """Return what has to be the same in two measurements for one table to hold both."""
    return found.weights, found.cutting, found.data, found.pictures, found.classes


def _name(row: Row) -> tuple[str, str, str]:
    return row.crf, row.normalisation, row.implementation


def markdown(measurements: Sequence[Measurement]) -> str:
    """Return a table of the measurements of each network and split, with their origin below it.

    Raises:
      ValueError: two of them refined different probabilities: without a CRF they score differently.
    """
    parts = []
    for subject in dict.fromkeys(map(_subject, measurements)):
        group = [found for found in measurements if _subject(found) == subject]
        origins = "; ".join(map(_origin, group))
        parts += [
            _grid(_joined(group), subject[-1]).as_markdown(),
            f"{group[0].weights} ({group[0].cutting}) on {group[0].pictures} images of "
            f"{group[0].data.description}. In percent; s per image: median, the CRF alone, on "
            f"cores shared with other work. {origins}.",
        ]
    return "\n\n".join(parts)


def _origin(found: Measurement) -> str:
    revision = (found.revision or "no checkout")[:10] + ("+" if found.dirty else "")
    crfs = ", ".join(dict.fromkeys(_today(row.implementation) for row in found.rows if row.crf))
    cores = f"{found.device['cores']} {found.device['kind']} cores"
    return f"{crfs}: {cores}, {found.date[:10]}, {revision}"


def _today(implementation: str) -> str:
    """Return today's name of an implementation: files keep the name of their time."""
    return api.ALIASES.get(implementation, implementation)


def _joined(group: Sequence[Measurement]) -> list[Row]:
    """Return the rows of all, the one without a CRF once; of a CRF measured twice, the last."""
    rows: dict[tuple, Row] = {}
    for found in group:
        for row in found.rows:
            if not row.crf and row.counts != rows.setdefault(_name(row), row).counts:
                raise ValueError(
                    f"{found.weights} on {found.pictures} images: the measurements do not agree "
                    "on the scores without a CRF, so their probabilities differ; measure all of "
                    "the CRFs in one run of scripts/measure_crf.py"
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
                _today(row.implementation) or NONE,
                percent(scores.mean_iou, digits=2),
                percent(scores.pixel_accuracy, digits=2),
                *(percent(trimap[px], digits=2) for px in TRIMAP_PX),
                percent(scores.boundary_f1, digits=2),
                NONE if row.seconds is None else f"{row.seconds:.2f}",
            )
        )
    return Grid(columns, tuple(lines))
