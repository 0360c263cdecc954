"""Preflight, copy of the source, submission; and what became of it."""

import datetime
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seg_jax import checks, files, progress
from seg_jax.launch import gke, preflight, sky, slurm, snapshot
from seg_jax.launch.clusters import Cluster
from seg_jax.launch.job import Job

ENGINES = {"slurm": slurm, "sky": sky, "gke": gke}
_FILES = {"slurm": "job.sbatch", "sky": "task.yaml", "gke": "jobset.yaml"}
RECORD = "job.json"


def dry_run(job: Job, cluster: Cluster) -> str:
    """Return exactly what would be submitted, as text; nothing is written."""
    return ENGINES[cluster.engine].render(job, cluster, _source_folder(job))


def start(
    job: Job,
    cluster: Cluster,
    findings: Sequence[preflight.Finding],
    *,
    checkout: Path = snapshot.CHECKOUT,
    say: Callable[[str], None] = progress.show,
) -> list[str]:
    """Copy the source into the run folder and submit; return the engine's ids.

    Raises:
      UserError: a check found a mistake, the source cannot be copied, or the engine refuses.
    """
    mistakes = preflight.wrong(list(findings))
    if mistakes:
        raise checks.UserError("; ".join(found.text for found in mistakes))
    if cluster.engine == "sky":
        sky.check_installed()
    folder = job.run / "launch"
    if record := read(job.run):
        if any(state(record)[id] not in ENDED for id in record["ids"]):
            raise checks.UserError(
                f"{job.run} is launched already ({record['engine']} {' '.join(record['ids'])}): "
                f"python -m seg_jax cancel {job.run}, or another --workdir"
            )
    text = dry_run(job, cluster)
    source = snapshot.take(checkout, folder)
    say(f"  source {source.revision[:12]}{' with changes' if source.changed else ''}")
    file = folder / _FILES[cluster.engine]
    files.write_text(file, text)
    if cluster.engine == "slurm":
        ids = slurm.submit(job, cluster, source.folder.resolve())
    else:
        if cluster.engine == "sky":
            command = sky.launch_command(job, file)
        else:
            command = ["kubectl", "apply", "--filename", str(file)]
        _run(command)
        ids = [job.name]
    content = {
        "engine": cluster.engine,
        "ids": ids,
        "namespace": cluster.namespace,
        "command": job.command(),
        "source": {"revision": source.revision, "changed": source.changed},
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    files.write_json(folder / RECORD, content)
    return ids


def _source_folder(job: Job) -> Path:
    return job.run.resolve() / "launch" / "source"


def read(run: Path) -> dict[str, Any] | None:
    """Return the record of a launched run, None if it was not launched."""
    path = Path(run) / "launch" / RECORD
    return json.loads(path.read_text()) if path.exists() else None


def launched(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the launched runs below a folder, and their records."""
    for path in sorted(Path(root).rglob(f"launch/{RECORD}")):
        run = path.parents[1]
        if record := read(run):
            yield run, record


# A job that SLURM no longer knows has ended.
ENDED = {"ended", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "unknown"}


def state(record: dict[str, Any]) -> dict[str, str]:
    """Return the state of each of a job's ids, as the engine calls it; "unknown" without one."""
    ids = record["ids"]
    if record["engine"] != "slurm":
        return dict.fromkeys(ids, "unknown")
    try:
        done = subprocess.run(slurm.state_command(ids), capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return dict.fromkeys(ids, "unknown")
    found = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if " " in line)
    return {id: found.get(id, "ended") for id in ids}


def cancel(run: Path) -> None:
    """End a run's jobs.

    Raises:
      UserError: the run was not launched, or the engine refuses.
    """
    record = _record(run)
    name = record["ids"][0]
    commands = {
        "slurm": slurm.cancel_command(record["ids"]),
        "sky": ["sky", "jobs", "cancel", "--yes", "--name", name],
        "gke": ["kubectl", "delete", "jobset", name, "--namespace", record["namespace"]],
    }
    _run(commands[record["engine"]])


def log_command(run: Path, *, follow: bool) -> list[str]:
    """Return the command that prints a run's log.

    Raises:
      UserError: the run was not launched, or has not begun.
    """
    record = _record(run)
    name = record["ids"][0]
    if record["engine"] == "slurm":
        path = slurm.log_file(Path(run), name)
        if not path.exists():
            raise checks.UserError(f"{run} has no log yet: {name} is {state(record)[name]}")
        return ["tail", "-n", "+1", *(["-F"] if follow else []), str(path)]
    if record["engine"] == "sky":
        return ["sky", "jobs", "logs", *([] if follow else ["--no-follow"]), "--name", name]
    selector = f"jobset.sigs.k8s.io/jobset-name={name}"
    words = ["kubectl", "logs", "--namespace", record["namespace"], "--selector", selector]
    return [*words, "--tail=-1", *(["--follow"] if follow else [])]


def _record(run: Path) -> dict[str, Any]:
    record = read(run)
    if record is None:
        raise checks.UserError(f"{run} was not launched: it has no launch/{RECORD}")
    return record


def _run(command: Sequence[str]) -> None:
    if not shutil.which(command[0]):
        raise checks.UserError(f"`{command[0]}` is not installed here")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        message = (done.stderr or done.stdout).strip().splitlines()
        raise checks.UserError(f"`{' '.join(command)}`: {message[-1] if message else 'failed'}")
