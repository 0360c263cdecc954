"""SLURM, through submitit.

Every task is a process of the verb. SLURM's early warning (USR1, `--signal`) reaches the verb,
which saves and ends with code 75, and submitit, which then requeues the job; `scontrol requeue` and
preemption send SIGTERM, upon which the verb saves too and SLURM itself requeues. A job that was
cancelled is not requeued.
"""

import importlib
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seg_jax import checks
from seg_jax.launch.clusters import Cluster
from seg_jax.launch.job import SAVED, Job

INSTALL = "pip install submitit"
WARNING_SECONDS = 120  # between the early warning and the end
_SIGNAL = "USR1"  # submitit's own, USR2, would end the verb, which does not expect it


class Task:
    """What a task runs: one process of the verb, in the same process group.

    Attributes:
      command: shell command.
    """

    def __init__(self, command: str):
        self.command = command
        self._process: subprocess.Popen | None = None

    def __call__(self) -> int:
        """Run the verb; ends the task with its code unless that is 0."""
        self._process = subprocess.Popen(shlex.split(self.command))
        code = self._process.wait()
        if code:
            raise SystemExit(code)
        return code

    def checkpoint(self) -> Any:
        """Wait until the verb has saved and ended; what submitit requeues, None if it did not."""
        code = self._process.wait() if self._process else SAVED
        if code != SAVED:
            return None
        return _submitit().helpers.DelayedSubmission(Task(self.command))

    def __getstate__(self) -> dict[str, Any]:
        return {"command": self.command, "_process": None}


def parameters(job: Job, cluster: Cluster, source: Path) -> dict[str, Any]:
    """Return what submitit's SlurmExecutor is given."""
    wanted = job.resources
    setup = [
        *cluster.setup,
        f"export PYTHONPATH={shlex.quote(str(source))}${{PYTHONPATH:+:$PYTHONPATH}}",
        f"export SUBMITIT_PREEMPT_SIGNAL={_SIGNAL}",
        *(f"export {name}={shlex.quote(value)}" for name, value in cluster.env.items()),
    ]
    found: dict[str, Any] = {
        "job_name": job.name,
        "nodes": wanted.nodes,
        "ntasks_per_node": wanted.tasks_per_node,
        "cpus_per_task": wanted.cpus,
        "time": wanted.minutes,
        "signal_delay_s": WARNING_SECONDS,
        "stderr_to_stdout": True,
        "setup": setup,
        "srun_args": ["--kill-on-bad-exit=0"],  # the others are saving
        "additional_parameters": {"requeue": True, **cluster.options},
    }
    if wanted.gpus:
        found["gpus_per_node"] = wanted.gpus
    for name in ("partition", "account", "qos"):
        if value := getattr(cluster, name):
            found[name] = value
    return found


def render(job: Job, cluster: Cluster, source: Path) -> str:
    """Return the script that submitit submits, and the command that its tasks run."""
    submitit = _submitit()
    make = submitit.slurm.slurm._make_sbatch_string
    folder = _logs(job)
    command = f"python -u -m submitit.core._submit {shlex.quote(str(folder))}"
    with _signal():
        script = make(command=command, folder=folder, **parameters(job, cluster, source))
    return f"{script}\n# each task runs: {job.command(job.run.resolve())}\n"


def submit(job: Job, cluster: Cluster, source: Path) -> list[str]:
    """Submit the job; return SLURM's job id."""
    submitit = _submitit()
    with _signal():
        executor = submitit.SlurmExecutor(folder=_logs(job), max_num_timeout=1000)
        executor.update_parameters(**parameters(job, cluster, source))
        try:
            command = job.command(job.run.resolve())
            return [executor.submit(Task(command)).job_id]
        except Exception as error:
            raise checks.UserError(f"sbatch refused the job: {error}") from error


def _logs(job: Job) -> Path:
    return job.run.resolve() / "launch" / "logs"


class _signal:
    """While a script is made, submitit writes the verb's signal into it."""

    def __enter__(self) -> None:
        self._environment = _submitit().core.job_environment.JobEnvironment
        self._before, self._environment.USR_SIG = self._environment.USR_SIG, _SIGNAL

    def __exit__(self, *_: object) -> None:
        self._environment.USR_SIG = self._before


def _submitit() -> Any:
    try:
        importlib.import_module("submitit.slurm.slurm")
        return importlib.import_module("submitit")
    except ModuleNotFoundError as error:
        raise checks.UserError(f"--on slurm needs submitit: {INSTALL}") from error


def state_command(ids: Sequence[str]) -> list[str]:
    """Return the command that prints id and state of jobs."""
    return ["squeue", "--noheader", "--format=%i %T", "--jobs", ",".join(ids)]


def cancel_command(ids: Sequence[str]) -> list[str]:
    """Return the command that ends jobs."""
    return ["scancel", *ids]


def log_file(run: Path, id: str) -> Path:
    """Return the first task's log."""
    return run / "launch" / "logs" / f"{id}_0_log.out"
