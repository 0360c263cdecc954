"""The catalogue of published weights, printed."""

import dataclasses
import json
from typing import Any

from seg_jax.pretrained import cache, catalogue
from seg_jax.report.grid import NONE, Column, Grid

_CAPTION = """\
Saw val: whether VOC 2012's val images were trained on; such weights are never scored on val.
Folded norms: a training with norms that are not frozen estimates their statistics first. Get a file
from its publishers and import it: python -m seg_jax weights import FILE --as NAME"""


def as_text() -> str:
    """Return one row an entry, and below them where each file is offered."""
    entries = [catalogue.get(name) for name in catalogue.names()]
    columns = (
        "name",
        "for",
        "trained on",
        "saw val",
        "published mIoU",
        "license",
        "norms",
        "imported",
    )
    rows = tuple(
        (
            entry.name,
            entry.experiment().name if entry.experiment else "--init",
            entry.trained_on,
            entry.leak,
            str(entry.score) if entry.score else NONE,
            entry.license,
            "folded" if entry.folded else "",
            "yes" if _imported(entry.name) else "",
        )
        for entry in entries
    )
    files = Grid(
        tuple(map(Column, ("name", "file", "from", "SHA-256", "note"))),
        tuple((e.name, e.file, e.host, e.sha256[:12], e.note or NONE) for e in entries),
    )
    tables = (Grid(tuple(map(Column, columns)), rows).as_markdown(), files.as_markdown(), _CAPTION)
    return "\n\n".join(tables)


def as_json() -> str:
    """Return one object an entry."""
    return json.dumps([_plain(catalogue.get(name)) for name in catalogue.names()], indent=2)


def _plain(entry: catalogue.Entry) -> dict[str, Any]:
    experiment = entry.experiment() if entry.experiment else None
    preprocessing = experiment.data.preprocessing if experiment else entry.preprocessing
    return {
        "name": entry.name,
        "file": entry.file,
        "host": entry.host,
        "sha256": entry.sha256,
        "license": entry.license,
        "experiment": experiment.name if experiment else None,
        "preprocessing": dataclasses.asdict(preprocessing) if preprocessing else None,
        "trained_on": entry.trained_on,
        "saw_val": entry.leak,
        "score": dataclasses.asdict(entry.score) if entry.score else None,
        "folded": entry.folded,
        "note": entry.note,
        "imported": _imported(entry.name),
    }


def _imported(name: str) -> bool:
    return (cache.folder() / name).is_dir()
