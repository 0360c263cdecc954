"""`crf`: search the dense CRF's constants."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from seg_jax import checks, files, progress
from seg_jax.cli.parsing import Verb, dispatch, parse

USAGE = """\
usage: python -m seg_jax crf VERB ...

  search RUN        search the dense CRF's constants on held-out images, as DeepLab did
"""


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """Score every combination of the bilateral kernel's constants on held-out images.

    The network runs once on each image; its probabilities are kept in OUT (1.6 GB for 100 images of
    VOC; delete them when you are done). Writes OUT/search.json and OUT/heat_map.svg, and prints
    the options of `evaluate` for the best constants.

    Attributes:
      run: a run folder, a release, or published weights.
      grid: the paper's grid; 96 points for v1, 128 for v2.
      weights: values of the bilateral kernel's weight, instead of the grid's.
      px: values of the bilateral kernel's width in pixels, instead of the grid's.
      rgb: values of the bilateral kernel's width in grey levels, instead of the grid's.
      spatial_weight: weight of the spatial kernel; fixed, as in the papers.
      spatial_px: width of the spatial kernel in pixels; fixed, as in the papers.
      normalisation: of the kernels.
      images: number of images, spread evenly over the split.
      split: list of images, instead of data.val_split.
      root: folder of the data set, instead of data.root.
      allow_outside: the list of images may name files outside that folder.
      out: folder for the results; default RUN/crf_search.
    """

    run: tyro.conf.Positional[str]
    grid: Literal["deeplab_v1", "deeplab_v2"] = "deeplab_v2"
    weights: tuple[float, ...] = ()
    px: tuple[float, ...] = ()
    rgb: tuple[float, ...] = ()
    spatial_weight: float = 3.0
    spatial_px: float = 3.0
    normalisation: Literal["after", "symmetric", "before", "none"] = "after"
    images: int = 100
    split: str = ""
    root: Path | None = None
    allow_outside: bool = False
    out: Path | None = None


def search(args: Sequence[str]) -> None:
    """Search a grid."""
    options = parse(SearchOptions, args, "crf search")
    from seg_jax import data, parallel, pretrained
    from seg_jax.evaluation import crf_search
    from seg_jax.evaluation.run import describe
    from seg_jax.inference import protocols
    from seg_jax.report import heat_map
    from seg_jax.results import provenance

    if options.out is None and not Path(options.run).is_dir():
        raise checks.UserError(f"{options.run} is not a folder to write to: name one with --out")
    out = options.out or Path(options.run) / "crf_search"
    parallel.prepare_process()
    loaded = pretrained.load(options.run)
    where = dataclasses.replace(loaded.experiment.data, allow_outside=options.allow_outside)
    source = data.open_configured(where, options.split or where.val_split, root=options.root)
    outcome = crf_search.search(
        loaded.experiment,
        loaded.variables,
        source,
        _grid(options),
        cache=out / crf_search.cache_name(loaded.experiment, loaded.variables, source),
        images=options.images,
    )
    record = {
        "data": dataclasses.asdict(describe(source)),
        **crf_search.to_dict(outcome),
        **provenance.of_this_process(),
    }
    files.write_text(out / "search.json", json.dumps(record, indent=2) + "\n")
    protocol = protocols.words(loaded.experiment.with_evaluation(crf=None).evaluation)
    what = f"{options.run}, {source.name} {source.split}, {protocol}"
    panels = crf_search.panels(outcome, what=what)
    files.write_text(out / "heat_map.svg", heat_map.heat_map(**panels))
    progress.show(crf_search.as_text(outcome))
    progress.show(f"wrote {out / 'search.json'} and {out / 'heat_map.svg'}")
    progress.show(f"a run with these constants: evaluate RUN {crf_search.options(outcome.best)}")


def _grid(options: SearchOptions):
    from seg_jax.evaluation import crf_search

    base = crf_search.GRIDS[options.grid]
    fixed = dataclasses.replace(
        base.fixed,
        spatial_weight=options.spatial_weight,
        spatial_px=options.spatial_px,
        normalisation=options.normalisation,
    )
    return crf_search.Grid(
        options.weights or base.weights, options.px or base.px, options.rgb or base.rgb, fixed
    )


VERBS: dict[str, Verb] = {"search": search}


def main(args: Sequence[str]) -> int:
    """Run one of the verbs; return its exit code."""
    return dispatch(VERBS, USAGE, args, group="crf")
