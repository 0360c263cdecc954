"""What can be found wrong before a job waits in a queue; each with its remedy."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_jax import checks, files
from seg_jax import experiments as experiment_files
from seg_jax.launch import memory, sky, slurm, snapshot
from seg_jax.launch.clusters import Cluster
from seg_jax.launch.job import Job
from seg_jax.launch.memory import Compile, Finding

SURVEY = experiment_files.FOLDER / "targets.json"
_ALONE = ("reproduce", "evaluate")  # verbs of one process


def check(
    job: Job,
    cluster: Cluster,
    experiments: Sequence[Any],
    *,
    space: Any | None = None,
    checkout: Path | None = snapshot.CHECKOUT,
    survey: Path = SURVEY,
    compile_one: Compile | None = None,
) -> list[Finding]:
    """Check a job.

    Args:
      job: to be started.
      cluster: where.
      experiments: that it trains, overrides applied; none where they are not known.
      space: of a sweep, which may vary the batch size.
      checkout: whose source is copied for the job; None: is not checked.
      survey: outcomes of `compile`.
      compile_one: compiles the training step for a target where the survey has no outcome of just
        this recipe (`memory.compile_here`); None: that is not done.
    """
    findings = [_source(checkout)] if checkout else []
    findings += [*_processes(job), *_folders(job, cluster), *_warning(job, cluster)]
    if not experiments:
        return findings + [
            Finding("unknown", f"{job.words[0]}: what it needs is checked as it starts")
        ]
    devices = device_count(job, cluster)
    several = len(experiments) > 1
    for experiment in experiments:
        target = memory.target_name(job, cluster, devices)
        entry = memory.entry(experiment, target, survey, compile_one)
        found = [
            *_batches(experiment, space, devices),
            memory.finding(experiment, target, entry),
            _data(experiment, cluster),
            _weights(experiment, cluster),
            _time(experiment, job, entry),
        ]
        if several:  # what is in order need not be said of each
            found = [
                dataclasses.replace(each, text=f"{experiment.name}: {each.text}")
                for each in found
                if each.level != "ok"
            ] or [Finding("ok", f"{experiment.name}: batch, memory, data, weights and time")]
        findings += found
    return findings


def wrong(findings: list[Finding]) -> list[Finding]:
    """Return the mistakes among the findings."""
    return [found for found in findings if found.level == "wrong"]


def device_count(job: Job, cluster: Cluster) -> int:
    """Return how many devices a batch is split over: GPUs, TPU chips, or a CPU a process.

    A trial of a sweep has those of its worker: one of several workers of a process has one, a
    worker alone its task's share of the host. What a suite trains has those of one host.
    """
    wanted = job.resources
    if job.words[0] != "train":
        if job.workers > 1 or (wanted.tasks_per_node > 1 and not wanted.gpus):
            return 1
        share = wanted.tasks_per_node if job.words[0] == "sweep" else 1
        gpus = max(1, wanted.gpus // share) if wanted.gpus else 0
        wanted = dataclasses.replace(wanted, nodes=1, tasks_per_node=1, gpus=gpus)
    if wanted.gpus:
        return wanted.nodes * wanted.gpus
    if cluster.engine == "gke" and wanted.topology:
        chips = 1
        for side in wanted.topology.split("x"):
            chips *= int(side) if side.isdigit() else 1
        return chips
    kind, _, size = wanted.accelerators.rpartition(":")
    if kind and size.isdigit():
        return wanted.nodes * int(size)
    kind, _, size = wanted.accelerators.rpartition("-")
    if kind.startswith("tpu-") and size.isdigit():
        cores = 2 if kind.removeprefix("tpu-") in ("v2", "v3", "v4", "v5p") else 1
        return int(size) // cores
    return wanted.nodes * wanted.tasks_per_node


def _source(checkout: Path) -> Finding:
    """What is copied for the job (`snapshot.take`)."""
    try:
        found = snapshot.describe(checkout)
    except checks.UserError as error:
        return Finding("wrong", f"source: {error}")
    if found.untracked:
        names = ", ".join(found.untracked[:3]) + (", ..." if len(found.untracked) > 3 else "")
        return Finding(
            "wrong",
            f"source: the job gets the files that git knows, and {names} would be missing: "
            "`git add` or delete them",
        )
    if found.changed:
        return Finding(
            "ok", f"source: {found.revision[:12]} and the changes of {len(found.changed)} file(s)"
        )
    return Finding("ok", f"source: {found.revision[:12]}, unchanged")


def _processes(job: Job) -> Iterator[Finding]:
    """Only `train` joins processes; the workers of a sweep share the trials."""
    verb = job.words[0]
    if job.processes == 1:
        return
    if verb in _ALONE:
        yield Finding(
            "wrong",
            f"{verb} runs in one process, {job.processes} would do the same work in one folder: "
            "--nodes 1 --tasks-per-node 1",
        )
    if verb == "sweep" and job.resources.nodes > 1 and not job.option("--storage"):
        yield Finding(
            "wrong",
            "the workers of several hosts need a database that all reach: --storage "
            "postgresql://..., or --nodes 1",
        )


def _folders(job: Job, cluster: Cluster) -> Iterator[Finding]:
    """On clouds, whether what is saved outlives the machine."""
    if cluster.engine == "slurm":
        return
    if url := files.bucket_url(cluster.runs):
        alone = job.words[0] == "train" and job.resources.nodes == 1
        if cluster.engine != "sky" or not alone or sky.is_pod(job.resources.accelerators):
            yield Finding(
                "wrong",
                f"run folder: only one process of `train` on sky may write to {url} by itself: "
                "mount the bucket, and name the mount by `runs` in clusters.toml",
            )
        return
    runs = Path(cluster.runs)
    if not any(runs.is_relative_to(place) for place in cluster.mounts):
        level = "wrong" if job.resources.spot else "unknown"
        yield Finding(
            level,
            f"run folder: {runs} is on no mount, so that checkpoints go with the machine: name a "
            f"bucket or claim for it under `mounts` in clusters.toml",
        )


def _warning(job: Job, cluster: Cluster) -> Iterator[Finding]:
    limit = job.resources.minutes
    if cluster.engine == "slurm" and limit * 60 <= 2 * slurm.WARNING_SECONDS:
        yield Finding(
            "wrong",
            f"time: SLURM warns {slurm.WARNING_SECONDS} s before the end, {limit} min leave little "
            f"or nothing to train in: --time more than {2 * slurm.WARNING_SECONDS // 60}m",
        )


def _batches(experiment: Any, space: Any | None, devices: int) -> Iterator[Finding]:
    """Check the recipe's batch size, or all that a sweep may draw."""
    from seg_jax import search_space

    field = "train.batch_size"
    if space is None or field not in space.fields:
        yield _batch(experiment.train.batch_size, experiment.train.accumulate, devices)
        return
    sizes = sorted(
        {
            size
            for each in search_space.distributions(space.fields[field])
            for size in each.grid()
        }
    )  # fmt: skip
    for size in sizes:
        found = _batch(int(size), experiment.train.accumulate, devices)
        if found.level == "wrong":
            yield dataclasses.replace(found, text=f"{found.text} (in the space's {field})")
            return
    yield Finding("ok", f"batches {sizes} of the space divide among {devices} device(s)")


def _batch(batch: int, accumulate: int, devices: int) -> Finding:
    unit = devices * accumulate
    if batch % unit == 0:
        return Finding("ok", f"batch {batch} divides among {devices} device(s)")
    above = -(-batch // unit) * unit
    below = above - unit
    sizes = " or ".join(str(size) for size in (below, above) if size)
    return Finding(
        "wrong",
        f"batch {batch} does not divide among {devices} device(s) x {accumulate} micro-batch(es): "
        f"--train.batch-size {sizes}, or other machines",
    )


def _data(experiment: Any, cluster: Cluster) -> Finding:
    where = experiment.data
    if cluster.engine != "slurm":
        place = where.root or cluster.data or cluster.env.get("SEG_JAX_DATA")
        if not place and where.dataset != "synthetic_voc":  # which is drawn where it is missing
            return Finding(
                "wrong",
                f"data: nothing says where {where.dataset} is on the machine: `data` in "
                "clusters.toml (and its bucket or claim under `mounts`), or --data.root",
            )
        mounts = " ".join(cluster.mounts) or "none"
        return Finding("unknown", f"data: on the machine at {place}; mounts: {mounts}")
    if "SEG_JAX_DATA" in cluster.env and cluster.env["SEG_JAX_DATA"] != os.environ.get(
        "SEG_JAX_DATA"
    ):
        return Finding("unknown", f"data: the job looks in {cluster.env['SEG_JAX_DATA']}")
    from seg_jax import data

    try:
        source = data.open_configured(where, where.train_split)
    except checks.UserError as error:
        return Finding("wrong", f"data: {error}")
    return Finding("ok", f"data: {len(source)} images of {where.dataset} {where.train_split}")


def _weights(experiment: Any, cluster: Cluster) -> Finding:
    init = experiment.train.init
    if init in ("", "none"):
        return Finding("ok", "weights: none asked for, training starts from scratch")
    if cluster.engine != "slurm":
        return Finding("unknown", f"weights: {init} must be found on the machine")
    if Path(init).exists() or (Path("runs") / init).exists():
        return Finding("ok", f"weights: {init}")
    from seg_jax.pretrained import loading

    try:
        return Finding("ok", f"weights: {loading.resolve(init)}")
    except checks.UserError as error:
        return Finding("wrong", f"weights: {error}")


def _time(experiment: Any, job: Job, entry: Mapping[str, Any] | None) -> Finding:
    every, limit = experiment.train.checkpoint_every, job.resources.minutes
    every = min(every, experiment.train.steps)
    if entry is None or not entry.get("roofline_seconds"):
        return Finding(
            "unknown",
            f"time: {limit} min must hold {every} steps, the first checkpoint; a signal saves too",
        )
    least = every * entry["roofline_seconds"] / 60
    if least > limit:
        return Finding(
            "wrong",
            f"time: {every} steps to the first checkpoint take {least:.0f} min at the very least, "
            f"the limit is {limit}: --time more, or --train.checkpoint-every less",
        )
    return Finding("ok", f"time: the first checkpoint after {least:.1f} min at the very least")
