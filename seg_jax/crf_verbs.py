"""The command line's verb `crf`: parsing only, as in `__main__`."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import tyro

from seg_jax import checks

USAGE = """\
usage: python -m seg_jax crf VERB ...

  search RUN        search the dense CRF's constants on held-out pictures, as DeepLab did
"""


def main(args: Sequence[str]) -> int:
    """Run one of the verbs; return its exit code."""
    if not args or args[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if args else 2
    if args[0] not in VERBS:
        raise checks.UserError(f"crf: {checks.unknown(args[0], VERBS)}")
    return VERBS[args[0]](args[1:])


def search(args: Sequence[str]) -> int:
    """Search a grid."""

    def parse(
        run: tyro.conf.Positional[str],
        *,
        grid: Literal["deeplab_v1", "deeplab_v2"] = "deeplab_v2",
        weights: tuple[float, ...] = (),
        px: tuple[float, ...] = (),
        rgb: tuple[float, ...] = (),
        spatial_weight: float = 3.0,
        spatial_px: float = 3.0,
        normalisation: Literal["after", "symmetric", "before", "none"] = "after",
        pictures: int = 100,
        split: str = "",
        root: Path | None = None,
        out: Path | None = None,
    ) -> Any:
        """Score every combination of the bilateral kernel's constants on held-out pictures.

        The network sees each picture once; its probabilities are kept in OUT (1.6 GB for 100
        pictures of VOC; delete them when you are done). Writes OUT/search.json and
        OUT/heat_map.svg, and prints the options of `evaluate` that choose the best.

        Args:
          run: a run folder, a release, or published weights.
          grid: of the paper; 96 points for v1, 128 for v2.
          weights: values of the bilateral weight instead of the grid's.
          px: values of its width in pixels.
          rgb: values of its width in grey levels.
          spatial_weight: the same at all points, as in the papers.
          spatial_px: the same.
          normalisation: of the kernels.
          pictures: spread evenly over the split.
          split: instead of data.val_split.
          root: the data set's folder.
          out: default RUN/crf_search.
        """
        from seg_jax import crf_search

        base = crf_search.GRIDS[grid]
        fixed = dataclasses.replace(
            base.fixed,
            spatial_weight=spatial_weight,
            spatial_px=spatial_px,
            normalisation=normalisation,
        )
        chosen = crf_search.Grid(weights or base.weights, px or base.px, rgb or base.rgb, fixed)
        return run, chosen, pictures, split, root, out

    run, grid, pictures, split, root, out = tyro.cli(
        parse, args=args, prog="python -m seg_jax crf search"
    )
    from seg_jax import crf_search, data, parallel, pretrained
    from seg_jax.report import heat_map
    from seg_jax.results import provenance
    from seg_jax.results.run import describe

    if out is None and not Path(run).is_dir():
        raise checks.UserError(f"{run} is no folder to write into: name one with --out")
    out = out or Path(run) / "crf_search"
    parallel.enable_compilation_cache()
    loaded = pretrained.load(run)
    where = loaded.experiment.data
    source = data.open_source(where.dataset, root or where.root, split or where.val_split)
    outcome = crf_search.search(
        loaded.experiment,
        loaded.variables,
        source,
        grid,
        cache=out / crf_search.cache_name(loaded.experiment, loaded.variables, source),
        pictures=pictures,
    )
    out.mkdir(parents=True, exist_ok=True)
    record = {
        "data": dataclasses.asdict(describe(source)),
        **crf_search.to_dict(outcome),
        **provenance.of_this_process(),
    }
    (out / "search.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (out / "heat_map.svg").write_text(
        heat_map.heat_map(**crf_search.panels(outcome)), encoding="utf-8"
    )
    print(crf_search.as_text(outcome))
    print(f"wrote {out / 'search.json'} and {out / 'heat_map.svg'}")
    print(f"a run with these constants: evaluate RUN {crf_search.options(outcome.best)}")
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {"search": search}
