"""Records as JSON files, one a run.

The counts are stored, and the metrics beside them for readers; reading divides the counts again and
refuses a file in which the two disagree.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from seg_jax import files, metrics
from seg_jax.checks import UserError
from seg_jax.results import schema
from seg_jax.results.record import LATER_METRICS, SCHEMA, Record
from seg_jax.types import IGNORE

FILE = "result.json"
_LARGEST_SUM = 2.0**62  # of pixels: sums stay within int64
_MOST_BANDS = 64
PREDICTIONS = "predictions"  # folder of a run: <id>.input.jpg, <id>.truth.png, <id>.prediction.png


def save(record: Record, path: Path) -> None:
    """Write a record whole or not at all."""
    # Counts take many lines with an indent; one line a top-level field keeps diffs readable.
    fields = (f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in record.to_dict().items())
    files.write_text(Path(path), "{\n" + ",\n".join(fields) + "\n}\n")


def load(path: Path) -> Record:
    """Read and check one record.

    Args:
      path: a JSON file, or a run folder that holds `result.json`.

    Raises:
      UserError: names the file and the field that is missing, wrong or contradicts the counts.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / FILE).exists():
            raise UserError(
                f"{path}: no {FILE} here; `python -m seg_jax evaluate {path}` makes one of a run"
            )
        path = path / FILE
    data = files.read_json(path)
    version = data.get("schema") if isinstance(data, dict) else None
    if version not in (1, SCHEMA):
        raise UserError(
            f"{path}: schema is {version!r}, this version reads 1 and {SCHEMA}; evaluate the run "
            "again"
        )
    stored = data.pop("metrics", None)
    if version == 1:
        _add_counts_of_schema_2(data)
    record = schema.parse(Record, data, file=str(path))
    _check_device(record, str(path))
    _check_counts(record, str(path))
    for name, value in record.metrics.items():
        later = version == 1 or name in LATER_METRICS
        if later and isinstance(stored, dict) and name not in stored:
            continue  # a metric that the writer did not have
        found = stored.get(name) if isinstance(stored, dict) else None
        if not _agree(found, value):
            raise UserError(
                f"{path}: metrics.{name} is {found}, but the file's counts give {value}; "
                "evaluate the run again instead of editing its record"
            )
    return record


def load_records(paths: list[Path] | tuple[Path, ...]) -> list[Record]:
    """Read the records of files, run folders, and folders that hold either; sorted by path."""
    found = []
    for path in map(Path, paths):
        is_run = any((path / name).exists() for name in (FILE, "config.json"))
        if path.is_dir() and not is_run:
            inside = sorted([*path.glob("*.json"), *(f.parent for f in path.glob(f"*/{FILE}"))])
            found += inside or [path]  # of an empty folder, `load` says what is missing
        else:
            found.append(path)
    return [load(path) for path in found]


def _add_counts_of_schema_2(data: dict[str, Any]) -> None:
    """Give a record of schema 1 the counts that it lacks: of no image, so that they have no score.

    A record that is damaged otherwise is left as it is, for the parser to name what is wrong.
    """
    data["schema"] = SCHEMA
    classes, counts = data.get("classes"), data.get("counts")
    if isinstance(classes, list) and isinstance(counts, dict):
        for name in ("image_iou", "objects", "membranes"):
            shape = metrics.shapes_of_counts(len(classes), 0)[name]
            counts.setdefault(name, np.zeros(shape, np.int64).tolist())


def _check_device(record: Record, file: str) -> None:
    for name, kind in {"platform": str, "kind": str, "devices": int}.items():  # tables show them
        found = record.device.get(name)
        if type(found) is not kind:
            raise UserError(f"{file}: device.{name} should be {kind.__name__}, found {found!r:.40}")


def _check_counts(record: Record, file: str) -> None:
    k, bands = len(record.classes), len(record.counts.trimap_px)
    if not 1 <= k <= IGNORE or bands > _MOST_BANDS:
        raise UserError(f"{file}: has {k} classes and {bands} trimap bands: no record of ours")
    if len({*record.classes}) < k or len({*record.counts.trimap_px}) < bands:
        raise UserError(f"{file}: a class or a band of counts.trimap_px is there twice")
    for name, shape in metrics.shapes_of_counts(k, bands).items():
        counts = getattr(record.counts, name)
        try:
            array = np.array(counts, np.int64)
            found = array.shape
        except (ValueError, OverflowError):
            array, found = np.zeros(0), "ragged"
        if found != shape and not (name == "trimap" and bands == 0 and not counts):
            raise UserError(f"{file}: counts.{name} has shape {found}, {k} classes need {shape}")
        if np.any(array < 0) or array.sum(dtype=float) > _LARGEST_SUM:
            raise UserError(f"{file}: counts.{name} has a negative or an impossibly large number")
    if record.counts.images != record.data.images:
        raise UserError(
            f"{file}: counts.images is {record.counts.images}, but data.images {record.data.images}"
        )


def _agree(stored: Any, value: Any) -> bool:
    if isinstance(value, dict):
        return (
            isinstance(stored, dict)
            and stored.keys() == value.keys()
            and all(_agree(stored[key], item) for key, item in value.items())
        )
    if stored is None or value is None or isinstance(stored, str | dict | list):
        return stored is value
    try:
        return math.isclose(stored, value, rel_tol=0, abs_tol=1e-12)
    except OverflowError:  # an integer beyond floats
        return False
