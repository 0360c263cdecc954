"""The summary of one experiment that `list` prints."""

import dataclasses
import functools
import json
import math
from pathlib import Path
from typing import Any

import jax

from seg_jax import experiment as registry
from seg_jax import papers, results
from seg_jax.analysis.network import Analysis, analyse, shapes
from seg_jax.checks import UserError
from seg_jax.experiments import FOLDER

NOT_RUN = "not run"


def image_shape(experiment: Any) -> tuple[int, int, int]:
    """Return (height, width, channels) of the images that an experiment trains on: its crop."""
    height, width = experiment.data.augmentation.crop
    return height, width, experiment.data.preprocessing.inputs


def analyse_experiment(experiment: Any) -> Analysis:
    """Analyse an experiment's model at its crop size; a size it refuses is a UserError."""
    try:
        return analyse(experiment.model, image_shape(experiment))
    except ValueError as error:
        raise UserError(f"{experiment.name}: {error}") from error


def parameter_count(experiment: Any) -> int:
    """Return the number of trainable parameters, without allocating them."""
    try:
        variables = shapes(experiment.model, image_shape(experiment))
    except ValueError as error:
        raise UserError(f"{experiment.name}: {error}") from error
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def notes(name: str) -> str:
    """Return an experiment's lab note, without the command that begins its training."""
    paragraphs = registry.notes(name).split("\n\n")
    return "\n\n".join(text for text in paragraphs if not text.strip().startswith("python -m"))


def summary(experiment: Any) -> dict[str, Any]:
    """Return one experiment as `list --json` prints it.

    Keys: name, family, paper, parameters (trainable), headline (the published figure to compare
    with, see `papers.headline`, or None), test (`papers.test_figure`, or None), published (all
    figures of the network), evidence (what has been measured here, in words), notes (what the
    recipe is, and where it differs from the paper's).
    """
    name = experiment.name
    headline, test = papers.headline(name), papers.test_figure(name)
    return {
        "name": name,
        "family": experiment.family,
        "paper": experiment.paper,
        "parameters": parameter_count(experiment),
        "headline": headline and _figure(headline, name),
        "test": test and _figure(test, name),
        "published": [_figure(figure, name) for figure in papers.figures(name)],
        "evidence": evidence(name),
        "notes": notes(name),
    }


def _figure(figure: papers.Figure, name: str) -> dict[str, Any]:
    fields = {
        field.name: getattr(figure, field.name)
        for field in dataclasses.fields(figure)
        if field.name not in ("family", "experiment", "recipe", "variant")
    }
    return {
        **fields,
        "protocol": str(figure.protocol),
        "metrics": dict(figure.metrics),
        "same_recipe": figure.same_recipe(name),
    }


def evidence(name: str, folder: Path | None = None) -> str:
    """Return what has been measured here of an experiment: committed records, then parity.

    A parity entry applies to the experiment of its name and to those that begin with it and "_".

    Args:
      name: of the experiment.
      folder: that holds `results/*.json` and `parity.json`; None: `experiment.folder()`.
    """
    folder = FOLDER if folder is None else folder
    found = [
        f"mIoU {100 * record.metrics['mean_iou']:.1f} on {record.data.name} {record.data.split}"
        + (f" with {record.weights.name}" if record.weights else "")
        for record in _records(folder / "results")
        if record.experiment == name
    ]
    for part, entry in _parity(folder / "parity.json").items():
        if name == part or name.startswith(f"{part}_"):
            error = max(entry["errors"].values())
            found.append(f"parity {error:.0e} with {entry['reference']}")
    return "; ".join(found) or NOT_RUN


@functools.cache
def _records(folder: Path) -> tuple[results.Record, ...]:
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return tuple(results.load_records(files))


@functools.cache
def _parity(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
