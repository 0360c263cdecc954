"""What is to be started: a verb, its run folder and its machines."""

import dataclasses
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from seg_jax import checks

VERBS = ("train", "reproduce", "sweep", "evaluate")
SAVED = 75  # exit code of a run that a signal stopped and that is saved (`train.termination`)
_UNITS = {"m": 1, "h": 60, "d": 24 * 60}


@dataclasses.dataclass(frozen=True)
class Resources:
    """The machines of a job.

    Attributes:
      nodes: hosts.
      tasks_per_node: processes a host; a process uses the GPUs it sees.
      gpus: of a host.
      cpus: of a process.
      accelerators: as SkyPilot names them ("H100:8", "tpu-v6e-8"), or GKE's type of TPU slice.
      topology: of a TPU slice on GKE, e.g. 4x4.
      minutes: time limit.
      spot: machines that may be taken away.
    """

    nodes: int = 1
    tasks_per_node: int = 1
    gpus: int = 0
    cpus: int = 4
    accelerators: str = ""
    topology: str = ""
    minutes: int = 24 * 60
    spot: bool = False


@dataclasses.dataclass(frozen=True)
class Job:
    """A verb to run.

    Attributes:
      words: of the command line after `python -m seg_jax`, without --workdir.
      run: its folder, given to the verb as --workdir.
      resources: the machines.
    """

    words: tuple[str, ...]
    run: Path
    resources: Resources

    @property
    def name(self) -> str:
        """Name for the engine: lower case, letters, digits and dashes, at most 40."""
        return re.sub(r"[^a-z0-9]+", "-", self.run.name.lower()).strip("-")[:40].strip("-")

    @property
    def processes(self) -> int:
        """Processes that work together."""
        return self.resources.nodes * self.resources.tasks_per_node

    @property
    def workers(self) -> int:
        """Workers of a sweep on each host."""
        given = self.option("--workers")
        return int(given) if given.isdigit() else 1

    def option(self, name: str) -> str:
        """Return what the verb is given for an option, "" if it is not."""
        for index, word in enumerate(self.words):
            if word == name:
                return self.words[index + 1] if index + 1 < len(self.words) else ""
            if word.startswith(f"{name}="):
                return word.partition("=")[2]
        return ""

    def command(self, run: str | Path | None = None, *, distributed: bool | None = None) -> str:
        """Return the shell command of one process.

        Args:
          run: where the run folder is on the machine; None: where it is here.
          distributed: the verb joins other processes; None: if there are several.
        """
        words = [*self.words, "--workdir", str(run or self.run)]
        several = self.processes > 1 if distributed is None else distributed
        if several and self.words[0] == "train":
            words.append("--distributed")
        # -P: the code is found by PYTHONPATH, where its copy is, never in the current folder.
        return shlex.join(["python", "-P", "-m", "seg_jax", *words])


def minutes(text: str) -> int:
    """Return the minutes of "90m", "24h", "2d" or "1-12:00:00" (days-hours:minutes:seconds).

    Raises:
      UserError: it is none of these.
    """
    if found := re.fullmatch(r"(\d+)([mhd])", text):
        return int(found.group(1)) * _UNITS[found.group(2)]
    if found := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text):
        days, hours, small, seconds = (int(part or 0) for part in found.groups())
        return days * 1440 + hours * 60 + small + (seconds > 0)
    raise checks.UserError(f"--time {text!r}: write 90m, 24h, 2d or 1-12:00:00")


def of(args: Sequence[str], workdir: Path | None, resources: Resources) -> Job:
    """Return the job of a command line: NAME ... is short for train NAME ....

    Raises:
      UserError: no verb or experiment is named, or the verb is not one that can be launched.
    """
    if not args:
        raise checks.UserError(
            f"launch: name an experiment, or one of {', '.join(VERBS)} and its arguments"
        )
    words = list(args) if args[0] in VERBS else ["train", *args]
    if len(words) < 2 or words[1].startswith("-"):
        raise checks.UserError(f"launch: `{' '.join(words)}` names nothing to {words[0]}")
    default = Path("runs") / ("sweeps" if words[0] == "sweep" else "") / words[1]
    return Job(tuple(words), Path(workdir or default), resources)
