"""SLURM, through submitit.

Every task is a process of the verb. SLURM's early warning (USR1, `--signal`) reaches the verb,
which saves and ends with code 75, and submitit, which then requeues the job; `scontrol requeue` and
preemption send SIGTERM, upon which the verb saves too and SLURM itself requeues. A job that was
cancelled is not requeued.
"""

import importlib
import os
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seg_jax import checks, progress
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
        self._pid: int | None = None
        self._code: int | None = None
        self._terminated = False

    def __call__(self) -> int:
        """Run the verb; ends the task with its code unless that is 0."""
        signal.signal(signal.SIGTERM, self._terminate)
        words = shlex.split(self.command)
        self._pid = os.posix_spawnp(words[0], words, os.environ)
        if code := self._wait():
            raise SystemExit(code)
        return 0

    def _terminate(self, _number: int, _frame: object) -> None:
        """Take notice of SIGTERM, which the verb gets as well."""
        self._terminated = True

    def checkpoint(self) -> Any:
        """Wait, in the handler of the warning, until the verb has ended; return what is requeued.

        Raises:
          SystemExit: nothing is to be requeued: the verb was finished (0) or failed; or SLURM has
            sent SIGTERM as well, which then requeues the job itself, or somebody cancelled it.
        """
        code = self._wait() if self._pid else SAVED
        if code != SAVED or self._terminated:
            raise SystemExit(code)
        return _submitit().helpers.DelayedSubmission(Task(self.command))

    def _wait(self) -> int:
        """Return the verb's exit code, 128 + signal if one ended it, as a shell does.

        The warning comes while `__call__` is in here, and its handler waits as well: two calls of
        Popen.wait in one thread would wait for each other's lock, for ever.
        """
        if self._code is None:
            assert self._pid is not None
            ended = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
            assert ended is not None  # only with WNOHANG
            status = ended.si_status
            self._code = status if ended.si_code == os.CLD_EXITED else 128 + status
            progress.show(f"launch: the verb ended with code {self._code}")
        return self._code

    def __getstate__(self) -> dict[str, Any]:
        return vars(Task(self.command))


def parameters(job: Job, cluster: Cluster, source: Path) -> dict[str, Any]:
    """Return what submitit's SlurmExecutor is given."""
    wanted = job.resources
    setup = [
        *cluster.setup,
        f"export PYTHONPATH={shlex.quote(str(source))}${{PYTHONPATH:+:$PYTHONPATH}}",
        "export PYTHONSAFEPATH=1",  # the copy, not what lies in the folder it is launched from
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
