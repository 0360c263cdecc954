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
from seg_jax.results.record import SCHEMA, Record

FILE = "result.json"
PICTURES = "predictions"  # folder of a run: <id>.input.jpg, <id>.truth.png, <id>.prediction.png


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
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from error
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
    _check_counts(record, str(path))
    for name, value in record.metrics.items():
        if version == 1 and isinstance(stored, dict) and name not in stored:
            continue  # a metric that schema 1 did not have
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


def _check_counts(record: Record, file: str) -> None:
    k, bands = len(record.classes), len(record.counts.trimap_px)
    for name, shape in metrics.shapes_of_counts(k, bands).items():
        counts = getattr(record.counts, name)
        try:
            found = np.array(counts, np.int64).shape
        except (ValueError, OverflowError):
            found = "ragged"
        if found != shape and not (name == "trimap" and bands == 0 and not counts):
            raise UserError(f"{file}: counts.{name} has shape {found}, {k} classes need {shape}")
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
    return math.isclose(stored, value, rel_tol=0, abs_tol=1e-12)
