"""`launch`, `jobs`, `logs` and `cancel`."""

import dataclasses
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from seg_jax import progress
from seg_jax.cli.parsing import (
    PROGRAM,
    on_own_data,
    parse,
    parse_experiment,
    print_json,
    with_init,
)
from seg_jax.cli.train import ReproduceOptions, TrainOptions, parse_sweep

USAGE = f"""\
usage: {PROGRAM} launch NAME [--field VALUE ...] --on slurm|sky|gke [options]
       {PROGRAM} launch train|reproduce|sweep|evaluate ... --on slurm|sky|gke [options]

  launch deeplab_v3_resnet101_voc --on slurm --nodes 2 --gpus 8 --time 24h
  launch reproduce voc --on sky --accelerators tpu-v6e-8 --spot --dry-run

The options below are launch's; all other words go to the verb as they are.
"""


@dataclasses.dataclass(frozen=True)
class LaunchOptions:
    """Start a verb on a cluster: submitit for SLURM, SkyPilot for clouds, a JobSet for TPUs on GKE.

    Attributes:
      on: the engine.
      cluster: table of clusters.toml; default: the only one of the engine.
      workdir: the run folder; default runs/NAME.
      nodes: hosts.
      tasks_per_node: processes a host (slurm).
      gpus: of a host (slurm).
      cpus: of a process (slurm).
      accelerators: sky: H100:8, tpu-v6e-8; gke: tpu-v6e-slice.
      topology: gke: of the TPU slice, e.g. 4x4.
      time: limit: 90m, 24h, 2d.
      spot: machines that may be taken away; the run goes on elsewhere.
      dry_run: print what would be submitted, and the checks; nothing is written.
    """

    on: Literal["slurm", "sky", "gke"]
    cluster: str = ""
    workdir: Path | None = None
    nodes: int = 1
    tasks_per_node: int = 1
    gpus: int = 0
    cpus: int = 4
    accelerators: str = ""
    topology: str = ""
    time: str = "24h"
    spot: bool = False
    dry_run: bool = False


def launch(args: Sequence[str]) -> int:
    """Check, copy the source, submit."""
    if not args or {"-h", "--help"} & set(args):
        progress.show(USAGE)
        parse(LaunchOptions, ["--help"], "launch")
    own, rest = _divide(args)
    options = parse(LaunchOptions, own, "launch")
    from seg_jax.launch import clusters, job, memory, preflight, start

    cluster = clusters.load(options.on, options.cluster)
    resources = job.Resources(
        nodes=options.nodes,
        tasks_per_node=options.tasks_per_node,
        gpus=options.gpus,
        cpus=options.cpus,
        accelerators=options.accelerators,
        topology=options.topology,
        minutes=job.minutes(options.time),
        spot=options.spot,
    )
    wanted = job.of(rest, options.workdir, resources)
    experiments, space = _experiments(wanted.words)
    findings = preflight.check(
        wanted, cluster, experiments, space=space, compile_one=memory.compile_here
    )
    marks = {"ok": "ok     ", "unknown": "unknown", "wrong": "WRONG  "}
    for found in findings:
        progress.show(f"# {marks[found.level]} {found.text}")
    if options.dry_run:
        progress.show(start.dry_run(wanted, cluster), end="")
        return int(bool(preflight.wrong(findings)))
    ids = start.start(wanted, cluster, findings)
    progress.show(f"{options.on} {' '.join(ids)}: {wanted.run}")
    progress.show(f"{PROGRAM} logs {wanted.run} --follow")
    return 0


def _divide(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return launch's own options and the verb's words."""
    fields = {f"--{f.name}".replace("_", "-"): f for f in dataclasses.fields(LaunchOptions)}
    own: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        name = word.split("=", 1)[0].replace("_", "-")
        if name not in fields:
            rest.append(word)
            continue
        own.append(word)
        if "=" not in word and fields[name].type is not bool:
            own += [value for value in [next(words, None)] if value is not None]
    return own, rest


def _experiments(words: Sequence[str]) -> tuple[list[Any], Any | None]:
    """Return what a verb trains, overrides applied, and a sweep's space: a mistake is seen here."""
    verb, args = words[0], with_init(words[1:])
    if verb == "train":
        found, _ = parse_experiment(args, verb, TrainOptions)
        # The data may lie on the cluster only.
        return [on_own_data(found, args, needed=False)], None
    if verb == "sweep":
        found, options, space = parse_sweep(args)
        from seg_jax.sweep import search

        search.checked(
            found, space, options.trials, options.sampler, options.sweep_seed, options.pruner,
            options.repeats,
        )  # fmt: skip
        return [on_own_data(found, args, needed=False)], space
    if verb == "reproduce":
        options = parse(ReproduceOptions, args, verb)
        from seg_jax.reproduce import plan

        runs, _ = plan.runs(options.suite, Path(), root=options.data)
        return [run.experiment for run in runs], None
    return [], None


@dataclasses.dataclass(frozen=True)
class JobsOptions:
    """List launched runs and what the engine says of them.

    Attributes:
      root: folder that holds them.
      json: print a list of objects.
    """

    root: tyro.conf.Positional[Path] = Path("runs")
    json: bool = False


def jobs(args: Sequence[str]) -> None:
    """List launched runs."""
    options = parse(JobsOptions, args, "jobs")
    from seg_jax.launch import start

    rows = []
    for run, record in start.launched(options.root):
        rows.append({"run": str(run), **record, "state": start.state(record)})
    if options.json:
        print_json(rows)
    for row in rows if not options.json else ():
        states = ", ".join(f"{id} {state}" for id, state in row["state"].items())
        progress.show(f"{row['run']}  {row['engine']}  {states}  since {row['time']}")


@dataclasses.dataclass(frozen=True)
class LogsOptions:
    """Print the log of a launched run's first process.

    Attributes:
      run: the run folder.
      follow: go on printing.
    """

    run: tyro.conf.Positional[Path]
    follow: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


def logs(args: Sequence[str]) -> int:
    """Print a log."""
    options = parse(LogsOptions, args, "logs")
    from seg_jax.launch import start

    return subprocess.run(start.log_command(options.run, follow=options.follow)).returncode


@dataclasses.dataclass(frozen=True)
class CancelOptions:
    """End a launched run; what it saved stays.

    Attributes:
      run: the run folder.
    """

    run: tyro.conf.Positional[Path]


def cancel(args: Sequence[str]) -> None:
    """End a run."""
    options = parse(CancelOptions, args, "cancel")
    from seg_jax.launch import start

    start.cancel(options.run)
    progress.show(f"cancelled {options.run}")
