"""The runs of a suite: every experiment with every seed, all experiments of one seed first."""

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seg_jax import config, experiment, results
from seg_jax.checks import UserError
from seg_jax.experiment import Experiment
from seg_jax.results import files, image_counts
from seg_jax.runs import folder

# Where publications score another list than the one to look at while training.
SCORED_SPLIT = {"camvid": "test"}


class Step(NamedTuple):
    """A network under a protocol, as a step of a waterfall or beside its own protocol.

    Attributes:
      title: what changes.
      experiment: name; its run is compared with that of the step before.
      evaluation: fields of its EvalConfig that differ: another protocol of the same run.
    """

    title: str
    experiment: str
    evaluation: dict[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of a suite.

    Attributes:
      experiment: with its seed.
      folder: of the run.
      first: whether it has the experiment's own seed.
    """

    experiment: Experiment
    folder: Path
    first: bool

    @property
    def split(self) -> str:
        """The list that the suite's page shows: the one that publications score."""
        data = self.experiment.data
        return SCORED_SPLIT.get(data.dataset, data.val_split)

    @property
    def record(self) -> Path:
        """The file of the record on that list."""
        own = self.split == self.experiment.data.val_split
        return self.folder / (files.FILE if own else f"result_{self.split}.json")

    def is_scored(self) -> bool:
        """Whether the run has records of this configuration, with the counts of their images."""
        paths = {self.folder / files.FILE, self.record}
        if not all(path.exists() and image_counts.path_of(path).exists() for path in paths):
            return False
        return all(_same(results.load(path).config, self.experiment) for path in paths)


def _same(stored: dict[str, Any], chosen: Experiment) -> bool:
    """Whether a record is of what an experiment trains and of its evaluation; where its data lay,
    and how it was read and logged, is of no account.
    """
    before = config.from_dict(stored)
    same = folder.identity(before) == folder.identity(chosen)
    return same and before.evaluation == chosen.evaluation


def runs(
    suite: str, workdir: Path, *, seeds: int = 1, root: Path | None = None
) -> tuple[list[Run], list[Run]]:
    """Return the runs of a suite in order, and those that only its waterfall needs.

    Args:
      suite: its name; the waterfall's are those of suite "<name>_steps", with one seed.
      workdir: of the run folders NAME and NAME_seed1, NAME_seed2, ...
      seeds: runs of each experiment: with its own seed, and with the next ones.
      root: the data set's folder; None: the experiments'.

    Raises:
      UserError: there is no such suite, or `root` is given for a suite with several data sets.
    """
    chosen = [experiment.get(name) for name in experiment.suite(suite)]
    extra = f"{suite}_steps"
    steps = [experiment.get(name) for name in experiment.suite(extra)] if has(extra) else []
    datasets = {one.data.dataset for one in (*chosen, *steps)}
    if root is not None and len(datasets) > 1:
        raise UserError(
            f"--data: suite {suite} needs several data sets ({', '.join(sorted(datasets))}); put "
            "them into one folder under these names, and set SEG_JAX_DATA to it"
        )
    return (
        [_run(one, workdir, index, root) for index in range(seeds) for one in chosen],
        [_run(one, workdir, 0, root) for one in steps],
    )


def has(suite: str) -> bool:
    """Whether there is a suite of that name."""
    return suite in experiment.suites()


def _run(chosen: Experiment, workdir: Path, index: int, root: Path | None) -> Run:
    train = dataclasses.replace(chosen.train, seed=chosen.train.seed + index)
    data = dataclasses.replace(chosen.data, root=root or chosen.data.root)
    name = f"{chosen.name}_seed{index}" if index else chosen.name
    return Run(dataclasses.replace(chosen, train=train, data=data), workdir / name, index == 0)


def is_controlled(chosen: Sequence[Experiment]) -> bool:
    """Whether experiments differ in their networks only: data, recipe and evaluation are the same,
    so that differences of their scores are the networks'. Losses of auxiliary outputs may differ,
    and each network's rate, which belongs to it as its initial weights do.
    """
    recipes = {
        (
            one.data,
            dataclasses.replace(one.optim, base_lr=1.0),
            dataclasses.replace(one.loss, heads=(("out", 1.0),), label_grids=()),
            dataclasses.replace(one.train, seed=0),
            one.evaluation,
        )
        for one in chosen
    }
    return len(recipes) == 1 and len(chosen) > 1


def waterfall(suite: str) -> tuple[Step, ...]:
    """Return the steps that experiments/SUITE.py names as WATERFALL; empty: there are none."""
    return tuple(Step(*step) for step in _of_module(suite, "WATERFALL"))


def refined(suite: str) -> tuple[Step, ...]:
    """Return the networks that experiments/SUITE.py names as REFINED, each with the dense CRF under
    which it is scored as well; empty: there are none.
    """
    return tuple(Step("CRF", name, {"crf": crf}) for name, crf in _of_module(suite, "REFINED"))


def _of_module(suite: str, name: str) -> Sequence[Any]:
    try:
        module = importlib.import_module(f"seg_jax.experiments.{suite}")
    except ModuleNotFoundError:
        return ()
    return getattr(module, name, ())
