"""The index of experiments that `list` prints, read without importing jax, flax or NumPy.

Counting the parameters of 65 networks means tracing them, which takes many seconds. So the
summaries are stored in experiments/index.json, which `python scripts/index_experiments.py` writes
and tests/analysis/test_index.py keeps true.
"""

import hashlib
import json
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seg_jax import experiments, files, papers, plugins

WIDTH = 100  # columns of what is printed
REWRITE = "python scripts/index_experiments.py"
Entry = dict[str, Any]


def load(folder: Path | None = None) -> list[Entry]:
    """Return the summaries of all experiments, in the order of the FCN-to-DeepLab models.

    Experiments that are not in the index are computed: those of users' packages (see
    `seg_jax.plugins`), and those added to `experiments` since it was written.

    Args:
      folder: that holds index.json; None: the package `experiments`.
    """
    folder = experiments.FOLDER if folder is None else folder
    path = folder / "index.json"
    stored = json.loads(path.read_text()) if path.exists() else {"sources": "", "experiments": []}
    entries = stored["experiments"]
    if stored["sources"] == digest(folder) and not plugins.packages():
        return entries
    from seg_jax import experiment
    from seg_jax.analysis.overview import summary

    known = {entry["name"]: entry for entry in entries}
    names = experiment.names()
    return _ordered([known.get(name) or summary(experiment.get(name)) for name in names])


def write(names: Sequence[str], path: Path) -> None:
    """Compute the summaries of the named experiments and write them to `path`."""
    from seg_jax import experiment
    from seg_jax.analysis.overview import summary

    entries = _ordered([summary(experiment.get(name)) for name in names])
    index = {"written_by": REWRITE, "sources": digest(path.parent), "experiments": entries}
    files.write_text(path, json.dumps(index, indent=1, ensure_ascii=False) + "\n")


def digest(folder: Path) -> str:
    """Return a hash of the code in a folder, without docstrings, comments and spaces.

    It changes whenever an experiment may have been added, removed or changed.
    """
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        code = re.sub(r'""".*?"""|#[^\n]*|\s+', "", path.read_text(encoding="utf-8"), flags=re.S)
        total.update(f"{path.name}\0{code}\0".encode())
    return total.hexdigest()[:16]


def _ordered(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: papers.order(entry["name"]))


def listing(entries: Sequence[Entry]) -> str:
    """Return a table of at most 100 columns, one line for each experiment."""
    header = ("experiment", "params", "published", "here")
    rows = [
        (
            entry["name"],
            _millions(entry["parameters"]),
            _short_figure(entry["headline"]),
            _short_evidence(entry["evidence"]),
        )
        for entry in _ordered(entries)
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for name, parameters, figure, here in (header, *rows):
        cells = [name.ljust(widths[0]), parameters.rjust(widths[1]), figure.ljust(widths[2]), here]
        lines.append("  ".join(cells).rstrip())
    notes = "* of another recipe than the experiment's. Details: `list --long`, `show NAME`."
    return "\n".join([*lines, "", notes])


def long_listing(entries: Sequence[Entry]) -> str:
    """Return a paragraph of at most 100 columns for each experiment, with all that is known."""
    paragraphs = []
    for entry in _ordered(entries):
        fields = {
            "paper": f"{entry['family']}: {entry['paper']}",
            "parameters": f"{entry['parameters']:,}",
            "published": figure_text(entry["headline"]),
            "VOC test": figure_text(entry["test"]),
            "here": entry["evidence"],
            "notes": " ".join(entry.get("notes", "").split()),
        }
        lines = [entry["name"]]
        for title, text in fields.items():
            first = f"  {title:<12}"
            lines += textwrap.wrap(
                text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first)
            )
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


def figure_text(figure: Entry | None) -> str:
    """Return a published figure in a few words: "65.5 VOC 2011 seg11valid"."""
    if figure is None:
        return "-"
    other = "" if figure["same_recipe"] else " (other recipe)"
    return f"{_number(figure)} {figure['dataset']} {figure['split']}{other}"


def _short_figure(figure: Entry | None) -> str:
    if figure is None:
        return "-"
    mark = "" if figure["same_recipe"] else "*"
    if figure["miou"] is not None:
        return f"{figure['miou']}{mark} {figure['dataset']} {figure['split']}"
    name, value = next(iter(figure["metrics"].items()))
    return f"{name.split()[0]} {value:.2g}{mark} {figure['dataset']}"


def _number(figure: Entry) -> str:
    if figure["miou"] is not None:
        return f"{figure['miou']}"
    return ", ".join(f"{name} {value:g}" for name, value in figure["metrics"].items())


def _short_evidence(evidence: str) -> str:
    """Return the first result without its data and weights, else the first parity check."""
    first, _, _ = evidence.partition("; ")
    return first.split(" with ")[0].split(" on ")[0]


def _millions(parameters: int) -> str:
    if parameters >= 1e6:
        return f"{parameters / 1e6:.1f} M"
    return f"{parameters / 1e3:.1f} K"
