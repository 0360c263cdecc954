"""`train`, `sweep` and `reproduce`."""

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import tyro

from seg_jax import checks, files, progress
from seg_jax.cli.parsing import command, on_own_data, parse, parse_experiment, with_init


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Train an experiment into a run folder; the same command resumes it.

    Attributes:
      workdir: the run folder, also on a bucket (gs://, s3://); default runs/NAME.
      parallel: how the training step is compiled for several devices.
      distributed: this is one of several processes that train together, e.g. one on each host.
      extend: let --train.steps of a run grow although the learning rates of its steps so far were
        those of a shorter schedule.
    """

    BUCKETS: ClassVar[tuple[str, ...]] = ("workdir",)

    workdir: Path | None = None
    parallel: Literal["shard_map", "pmap"] = "shard_map"
    distributed: bool = False
    extend: bool = False


def train(args: Sequence[str]) -> None:
    """Train one experiment."""
    args = with_init(args)
    found, options = parse_experiment(args, "train", TrainOptions)
    found = on_own_data(found, args)
    import jax

    from seg_jax import parallel, progress
    from seg_jax.evaluation import evaluate
    from seg_jax.runs import bucket
    from seg_jax.train import loop

    parallel.prepare_process()
    if options.distributed:
        parallel.initialize_distributed()
    run = options.workdir or Path("runs") / found.name
    with bucket.trained(run, distributed=options.distributed) as folder:
        loop.fit(
            found,
            folder,
            parallel=options.parallel,
            evaluate=evaluate.with_images,
            extend=options.extend,
            command=command("train", *args),
        )
    if jax.process_index() == 0:
        place = files.bucket_url(run) or str(run)
        progress.say(f"next: {command('evaluate', place)}")


@dataclasses.dataclass(frozen=True)
class ReproduceOptions:
    """Train, evaluate and tabulate every experiment of a suite; finished runs are reused.

    Attributes:
      suite: name of the suite; `reproduce --help` lists them.
      workdir: folder for the runs, table.md and report.html; default runs/SUITE.
      seeds: runs of each experiment; all experiments run with one seed before any with the next.
      data: the data set's folder; default: where each experiment says.
      estimate: say how long it will take on this machine, and do nothing else.
    """

    suite: tyro.conf.Positional[str]
    workdir: Path | None = None
    seeds: int = 1
    data: Path | None = None
    estimate: bool = False


def reproduce(args: Sequence[str]) -> None:
    """Run a suite."""
    options = parse(ReproduceOptions, args, "reproduce", notes=_suites)
    from seg_jax import reproduce

    if options.seeds < 1:
        raise checks.UserError(f"--seeds {options.seeds}: at least 1")
    workdir = options.workdir or Path("runs") / options.suite
    if options.estimate:
        text = reproduce.estimate(options.suite, workdir, seeds=options.seeds, root=options.data)
        progress.show(text)
        return
    reproduce.reproduce(options.suite, workdir, seeds=options.seeds, root=options.data)


def _suites() -> str:
    from seg_jax import experiment

    lines = [f"  {name:12} {count} experiments" for name, count in experiment.suites().items()]
    return "\n".join(["Suites:", *lines])


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """Search hyperparameters; the same command goes on with a sweep, or joins in it.

    `sweep status|best|report WORKDIR` tell of one, `sweep promote WORKDIR` retrains its best.

    Attributes:
      space: module:name of a search space, e.g. experiments.sweeps:poly_lr; `sweep --help` lists
        those that are ready.
      trials: total number of finished trials, including earlier sessions.
      sampler: tpe (Bergstra et al. 2011), random, cmaes (numbers only), or grid: every point once.
      pruner: median; asha or hyperband: successive halving on the share of the schedule done;
        wilcoxon: between the seeds of a trial; none.
      repeats: seeds of each trial, whose mean counts; more than one needs wilcoxon or none.
      workers: processes on this machine, each with a GPU of its own where there are several.
      storage: sqlite:///FILE, postgresql://, mysql:// or grpc://HOST:PORT, which several machines
        reach; default: a file in the sweep's folder.
      search_split: share of the training images that trials are scored on and not trained with,
        chosen by image id; 0: they are scored on the validation split, which flatters the best.
      workdir: folder of the sweep; default runs/sweeps/NAME.
      sweep_seed: seed of the sampler.
    """

    space: str = ""
    trials: int = 12
    sampler: Literal["tpe", "random", "grid", "cmaes"] = "tpe"
    pruner: Literal["median", "asha", "hyperband", "wilcoxon", "none"] = "median"
    repeats: int = 1
    workers: int = 1
    storage: str = ""
    search_split: float = 0.2
    workdir: Path | None = None
    sweep_seed: int = 0


def sweep(args: Sequence[str]) -> None:
    """Search hyperparameters."""
    if args and args[0] in ("status", "best", "promote", "report"):
        from seg_jax.cli import sweep as verbs

        return verbs.run(args)
    found, options, space = parse_sweep(args)
    found = on_own_data(found, args)
    from seg_jax import parallel
    from seg_jax.sweep import search, split, storage, trial, watch, workers

    workdir = options.workdir or Path("runs") / "sweeps" / found.name
    url = options.storage or storage.default(workdir)
    if options.workers > 1 and storage.is_journal(url):
        raise checks.UserError(
            f"{url} is for one worker: finish it with --workers 1, or give another --workdir"
        )
    found = split.searched(found, options.search_split)
    workers.share_the_host()
    parallel.prepare_process()
    settings = {
        "trials": options.trials, "sampler": options.sampler, "seed": options.sweep_seed,
        "pruner": options.pruner, "repeats": options.repeats, "url": options.storage,
    }  # fmt: skip
    if options.workers > 1 and not workers.is_worker():
        search.begin(found, space, workdir, **settings)
        look = watch.watcher(workdir, options.storage, options.trials)
        workers.run(options.workers, args, workdir, look)
    told = storage.without_password(command("sweep", *args))
    outcome = search.sweep(found, space, workdir, run_trial=trial.run_trial(told), **settings)
    if not workers.is_worker():
        progress.show(search.as_text(outcome))


def parse_sweep(args: Sequence[str]) -> tuple[Any, SweepOptions, Any]:
    """Return a sweep's experiment, overrides applied, its options and its space.

    Raises:
      UserError: there is no such space.
    """
    found, options = parse_experiment(args, "sweep", SweepOptions, notes=_spaces)
    from seg_jax.sweep import search

    if not options.space:
        raise checks.UserError(
            "--space is missing: module:name of a space, e.g. experiments.sweeps:poly_lr"
        )
    checks.positive(workers=options.workers)
    return found, options, search.load_space(options.space)


def _spaces() -> str:
    from seg_jax.search_space import Space

    ready = vars(importlib.import_module("seg_jax.experiments.sweeps"))
    lines = [
        f"  {f'experiments.sweeps:{name}':33} {', '.join(space.fields)}"
        for name, space in ready.items()
        if isinstance(space, Space)
    ]
    return "\n".join(["Ready search spaces, for --space:", *lines])
