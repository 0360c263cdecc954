"""Whether a training step fits, by what was compiled before or is compiled now."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from seg_jax import config, experiment, progress
from seg_jax.launch.clusters import Cluster
from seg_jax.launch.job import Job
from seg_jax.runs import folder

# Compiles a training step for a target: an entry of `targets.survey`, None if it cannot be done.
Compile = Callable[[Any, str], Mapping[str, Any] | None]
# GPUs of a job, by SkyPilot's names and our own: their targets of `compile` begin so.
_GPUS = {"h100": "h100", "h200": "h200", "a100-80gb": "a100", "a100": "a100"}
# TPU slices by GKE's names.
_SLICES = {
    "tpu-v4-podslice": "v4",
    "tpu-v5-lite-podslice": "v5e",
    "tpu-v5p-slice": "v5p",
    "tpu-v6e-slice": "v6e",
}
_BY_CORES = ("v4", "v5p")  # targets that are named by TensorCores, two a chip
# Fields that may differ from the recipe that was compiled: they are inputs of the step, or are not
# in it. Zero may leave a part of the step out, which needs no more memory.
_NOT_IN_THE_STEP = (
    *folder.FREE, "optim.base_lr", "optim.momentum", "optim.weight_decay", "optim.schedule",
    "train.steps", "train.seed", "train.init", "train.evaluate_split", "train.best_metric",
    "data.dataset", "data.train_split", "data.val_split",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Finding:
    """One check.

    Attributes:
      level: "ok"; "unknown": cannot be checked here; "wrong": the job would fail.
      text: what was found, and for a mistake the remedy.
    """

    level: Literal["ok", "unknown", "wrong"]
    text: str


def target_name(job: Job, cluster: Cluster, devices: int) -> str:
    """Return the name that `compile` gives to a job's machines, "" if it has none.

    A SLURM cluster says by `accelerator` of its table what its GPUs are.
    """
    name = (job.resources.accelerators or cluster.accelerator).lower()
    if name in _SLICES:
        kind = _SLICES[name]
        return f"{kind}-{devices * 2 if kind in _BY_CORES else devices}"
    kind = name.partition(":")[0]
    if kind in _GPUS:
        return f"{_GPUS[kind]}x{devices}"
    if name.startswith("tpu-"):
        name = name.removeprefix("tpu-").replace("v5litepod", "v5e")
        return name if name.rpartition("-")[2].isdigit() else ""
    return ""


def entry(
    wanted: Any, target: str, survey: Path, compile_one: Compile | None
) -> Mapping[str, Any] | None:
    """Return what the survey or a compiler says of an experiment on a target; None: nothing."""
    if not target:
        return None
    asked, key = wanted.train, (wanted.name, target, "train")
    settings = {  # `compile` takes others too
        "batch": asked.batch_size, "precision": asked.precision, "accumulate": asked.accumulate,
    }  # fmt: skip
    found = json.loads(survey.read_text()) if survey.exists() and not changes(wanted) else []
    for each in found:
        # Of a compiler that a signal ended there are no settings: the survey gave it the recipe's.
        same = all(each.get(name, value) == value for name, value in settings.items())
        if same and (each["experiment"], each["target"], each["mode"]) == key:
            return each
    return compile_one(wanted, target) if compile_one else None


def changes(wanted: Any) -> list[str]:
    """Return the fields in which the step of an experiment differs from its recipe's."""
    recipe = experiment.get(wanted.name)
    return [
        name
        for name in config.difference(recipe, wanted)
        if not any(name == free or name.startswith(free + ".") for free in _NOT_IN_THE_STEP)
    ]


def compile_here(wanted: Any, target_name: str) -> Mapping[str, Any] | None:
    """Compile the training step, in a process of its own, if the target's compiler is here."""
    from seg_jax.targets import survey, table, topology

    target = table.TARGETS.get(target_name)
    if target is None or not topology.available(target.chip.platform):
        return None
    progress.show(f"# compiling {wanted.name} for {target.name}: one to five minutes of a core")
    return survey.of_experiment(wanted, target.name)


def finding(wanted: Any, target: str, found: Mapping[str, Any] | None) -> Finding:
    """Return whether the step fits."""
    if not target:
        return Finding(
            "unknown",
            "memory: these machines are none that `compile` knows, or nothing says which GPUs they "
            "have (`accelerator` in clusters.toml)",
        )
    if found is None:
        why = ", ".join(changes(wanted)[:3])
        return Finding(
            "unknown",
            f"memory: {wanted.name}{f' with other {why}' if why else ''} has not been compiled for "
            f"{target}: bash scripts/targets.sh --install, then launch with .venv-targets",
        )
    if found["status"] == "error":
        return Finding("unknown", f"memory: the compiler for {target} says: {found['error'][:200]}")
    if found["batch"] != wanted.train.batch_size:
        return Finding("unknown", f"memory: compiled for a batch of {found['batch']} only")
    need, have = found["peak_bytes"] / 2**30, found["memory_bytes"] / 2**30
    sizes = f"{need:.1f} of {have:.1f} GiB a device by the compiler for {target}"
    if found["fits"]:
        return Finding("ok", f"memory: {sizes}")
    return Finding("wrong", f"does not fit: {sizes}: {found.get('remedy', 'a smaller batch')}")
