"""The catalogue of published weights as tables and as JSON."""

import dataclasses
import json
from typing import Any

from seg_jax.inference import protocols
from seg_jax.pretrained import cache, catalogue
from seg_jax.report.grid import NONE, Column, Grid

_CAPTION = """\
Saw val: whether VOC 2012's val images were trained on; such weights are never scored on val.
Folded norms: training with norms that are not frozen first estimates their statistics. Get a file
from its publishers and import it: python -m seg_jax weights import FILE --as NAME"""


def as_text() -> str:
    """Return one row for each entry, and below them a table of where each file is published."""
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
            "yes" if cache.is_imported(entry.name) else "",
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
    """Return a JSON list with one object for each entry."""
    return json.dumps([plain(catalogue.get(name)) for name in catalogue.names()], indent=2)


def entry_text(entry: catalogue.Entry) -> str:
    """Return what the catalogue says of one entry, a line a field."""
    shown = {
        "file": f"{entry.file} ({entry.host})",
        "license": entry.license,
        "trained on": entry.trained_on,
        "saw val": entry.leak,
        "published": str(entry.score) if entry.score else NONE,
        "norms": "folded: a training estimates their statistics first" if entry.folded else "",
        "protocol": protocols.words(entry.experiment().evaluation) if entry.experiment else "",
        "note": entry.note,
        "use": _use(entry),
    }
    lines = [f"  {name:<11}{value}" for name, value in shown.items() if value]
    return "\n".join([entry.name, *lines])


def _use(entry: catalogue.Entry) -> str:
    if not cache.is_imported(entry.name):
        return f"python -m seg_jax weights import FILE --as {entry.name}"
    if entry.experiment is None:
        return f"python -m seg_jax train NAME --init {entry.name}"
    return f"python -m seg_jax evaluate {entry.name}"


def plain(entry: catalogue.Entry) -> dict[str, Any]:
    """Return an entry as JSON data."""
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
        "imported": cache.is_imported(entry.name),
    }
