"""What can be found wrong before a job waits in a queue; each with its remedy."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from seg_jax import checks, experiments
from seg_jax.launch.clusters import Cluster
from seg_jax.launch.job import Job

SURVEY = experiments.FOLDER / "targets.json"
# The devices of a job, by SkyPilot's and our names: which target of `compile` they are.
_TARGETS = {"h100": "h100", "h200": "h200", "a100-80gb": "a100"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One check.

    Attributes:
      level: "ok"; "unknown": cannot be checked here; "wrong": the job would fail.
      text: what was found, and for a mistake the remedy.
    """

    level: Literal["ok", "unknown", "wrong"]
    text: str


def check(
    job: Job, cluster: Cluster, experiment: Any | None, *, survey: Path = SURVEY
) -> list[Finding]:
    """Check a job; the source is checked where it is copied.

    Args:
      job: to be started.
      cluster: where.
      experiment: that a training or sweep is of, overrides applied; None: the verb has none.
      survey: outcomes of `compile`.
    """
    if experiment is None:
        return [Finding("unknown", f"{job.words[0]}: its experiments are checked as they start")]
    devices = device_count(job, cluster)
    entry = _entry(experiment, job, devices, survey)
    return [
        _batch(experiment, devices),
        _memory(experiment, entry),
        _data(experiment, cluster),
        _weights(experiment, cluster),
        _time(experiment, job, entry),
    ]


def wrong(findings: list[Finding]) -> list[Finding]:
    """Return the mistakes among the findings."""
    return [found for found in findings if found.level == "wrong"]


def device_count(job: Job, cluster: Cluster) -> int:
    """Return how many devices a batch is split over: GPUs, TPU chips, or a CPU a process."""
    wanted = job.resources
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
    return job.processes


def target_name(job: Job, devices: int) -> str:
    """Return the name that `compile` gives to a job's machines, "" if it has none."""
    accelerators = job.resources.accelerators.lower()
    kind, _, size = accelerators.rpartition(":")
    if kind in _TARGETS and size.isdigit():
        return f"{_TARGETS[kind]}x{devices}"
    if accelerators.startswith("tpu-"):
        name = accelerators.removeprefix("tpu-").replace("v5litepod", "v5e")
        return name if name.rpartition("-")[2].isdigit() else ""
    return ""


def _entry(experiment: Any, job: Job, devices: int, survey: Path) -> Mapping[str, Any] | None:
    target = target_name(job, devices)
    if not survey.exists():
        return None
    for entry in json.loads(survey.read_text()):
        found = entry["experiment"], entry["target"], entry["mode"]
        if found == (experiment.name, target, "train"):
            return entry
    return None


def _batch(experiment: Any, devices: int) -> Finding:
    batch, accumulate = experiment.train.batch_size, experiment.train.accumulate
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


def _memory(experiment: Any, entry: Mapping[str, Any] | None) -> Finding:
    if entry is None or entry["status"] == "error":
        return Finding(
            "unknown",
            f"memory: {experiment.name} has not been compiled for these machines: "
            f"python -m seg_jax compile {experiment.name} --for ...",
        )
    asked = experiment.train
    same = (entry["batch"], entry["precision"], entry["accumulate"]) == (
        asked.batch_size, asked.precision, asked.accumulate
    )  # fmt: skip
    if not same:
        return Finding("unknown", "memory: compiled for another batch, precision or accumulate")
    need, have = entry["peak_bytes"] / 2**30, entry["memory_bytes"] / 2**30
    sizes = f"{need:.1f} of {have:.1f} GiB a device by the compiler"
    if entry["fits"]:
        return Finding("ok", f"memory: {sizes}")
    return Finding("wrong", f"does not fit: {sizes}: {entry.get('remedy', 'a smaller batch')}")


def _data(experiment: Any, cluster: Cluster) -> Finding:
    where = experiment.data
    if cluster.engine != "slurm":
        mounts = " ".join(cluster.mounts) or "none"
        place = cluster.data or "not set (`data` in clusters.toml)"
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
    if not init:
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
