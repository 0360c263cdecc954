"""`list`, `show` and `table`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from seg_jax import progress
from seg_jax.cli.parsing import on_own_data, parse, parse_experiment, print_json


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """List every experiment: parameters, published figure, what has been measured here.

    Attributes:
      long: print the paper, all digits and the whole evidence, a paragraph for each.
      json: print a list of one object for each experiment.
    """

    long: bool = False
    json: bool = False


def list_experiments(args: Sequence[str]) -> None:
    """Print every experiment."""
    options = parse(ListOptions, args, "list")
    from seg_jax.analysis import index

    entries = index.load()
    if options.json:
        print_json(entries)
    else:
        progress.show(index.long_listing(entries) if options.long else index.listing(entries))


@dataclasses.dataclass(frozen=True)
class ShowOptions:
    """Print the resolved configuration, and the network layer by layer.

    Attributes:
      json: print both as one JSON object.
    """

    json: bool = False


def show(args: Sequence[str]) -> None:
    """Print one experiment, or one entry of the catalogue of published weights."""
    from seg_jax.pretrained import catalogue

    if args and args[0] in catalogue.names():
        _show_weights(args[0], args[1:])
        return
    found, options = parse_experiment(args, "show", ShowOptions)
    found = on_own_data(found, args, needed=False, error=True)
    from seg_jax import analysis, config

    details = analysis.analyse_experiment(found)
    if options.json:
        print_json(analysis.summary(found) | {"config": config.to_dict(found), **details.to_dict()})
    else:
        progress.show(analysis.as_text(details, found))


def _show_weights(name: str, args: Sequence[str]) -> None:
    options = parse(ShowOptions, args, f"show {name}")
    from seg_jax import analysis, config
    from seg_jax.pretrained import catalogue
    from seg_jax.report import weights

    entry = catalogue.get(name)
    found = entry.experiment() if entry.experiment else None
    if options.json:
        details = analysis.analyse_experiment(found).to_dict() if found else {}
        plain = {"config": config.to_dict(found)} if found else {}
        print_json(weights.plain(entry) | plain | details)
        return
    progress.show(weights.entry_text(entry))
    if found:
        progress.show("\n" + analysis.as_text(analysis.analyse_experiment(found), found))


@dataclasses.dataclass(frozen=True)
class TableOptions:
    """Print the table of results: of all published experiments, or of the given runs.

    Attributes:
      runs: run folders or records; none: the committed records, beside the published figures.
      json: print the table as JSON.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    json: bool = False


def table(args: Sequence[str]) -> None:
    """Print the table."""
    options = parse(TableOptions, args, "table")
    from seg_jax.report import table

    if options.json:
        print_json(table.as_json(options.runs))
    else:
        progress.show(table.as_markdown(options.runs))
