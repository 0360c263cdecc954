"""Clouds and Kubernetes, through SkyPilot: GPUs, TPU VMs and their pods."""

import json
import shlex
from pathlib import Path
from typing import Any

from seg_jax import checks
from seg_jax.launch.clusters import Cluster
from seg_jax.launch.job import SAVED, Job

INSTALL = "pip install 'skypilot[gcp]'"


def task(job: Job, cluster: Cluster, source: Path) -> dict[str, Any]:
    """Return SkyPilot's task, as data."""
    wanted = job.resources
    resources: dict[str, Any] = {}
    if wanted.accelerators:
        resources["accelerators"] = wanted.accelerators
    if cluster.infra:
        resources["infra"] = cluster.infra
    if cluster.image:
        resources["image_id"] = f"docker:{cluster.image}"
    resources["use_spot"] = wanted.spot
    # A preempted machine is replaced; 75 is a run that saved itself, to be started again.
    resources["job_recovery"] = {"max_restarts_on_errors": 0, "recover_on_exit_codes": [SAVED]}
    resources |= cluster.options
    # A pod of a TPU slice has several hosts though num_nodes is 1: JAX finds them by itself.
    hosts = wanted.nodes > 1 or is_pod(wanted.accelerators)
    envs = dict(cluster.env)
    if cluster.data:
        envs["SEG_JAX_DATA"] = cluster.data
    if wanted.nodes > 1:
        coordinator = [
            'export SEG_JAX_COORDINATOR="$(echo "$SKYPILOT_NODE_IPS" | head -n 1):8476"',
            'export SEG_JAX_PROCESSES="$SKYPILOT_NUM_NODES" SEG_JAX_PROCESS="$SKYPILOT_NODE_RANK"',
        ]
    else:
        coordinator = []
    found: dict[str, Any] = {
        "name": job.name,
        "resources": resources,
        "num_nodes": wanted.nodes,
        "workdir": str(source),
        "setup": "\n".join(cluster.setup or ("pip install -r requirements.txt",)) + "\n",
        "run": "\n".join(
            [
                'export PYTHONPATH="$PWD"',
                *coordinator,
                job.command(f"{cluster.runs}/{job.run.name}", distributed=hosts),
            ]
        )
        + "\n",
    }
    if envs:
        found["envs"] = envs
    if cluster.mounts:
        found["file_mounts"] = {
            path: {"source": bucket, "mode": "MOUNT_CACHED" if path == cluster.runs else "MOUNT"}
            for path, bucket in cluster.mounts.items()
        }
    return found


def is_pod(accelerators: str) -> bool:
    """Whether a TPU slice has several hosts: more than 8 chips of v5e or v6e, 4 of the others."""
    kind, _, size = accelerators.removeprefix("tpu-").rpartition("-")
    if not accelerators.startswith("tpu-") or not size.isdigit():
        return False
    return int(size) > 8


def render(job: Job, cluster: Cluster, source: Path) -> str:
    """Return the YAML file that SkyPilot is given."""
    return yaml_text(task(job, cluster, source))


def launch_command(job: Job, file: Path) -> list[str]:
    """Return the command that starts a managed job, which survives preemption."""
    return ["sky", "jobs", "launch", "--yes", "--detach-run", "--name", job.name, str(file)]


def check_installed() -> None:
    """Raise UserError unless the `sky` command is there."""
    import shutil

    if not shutil.which("sky"):
        raise checks.UserError(f"--on sky needs SkyPilot: {INSTALL}")


def yaml_text(value: Any, indent: int = 0) -> str:
    """Return JSON data as YAML: mappings and lists in blocks, text of several lines as `|`."""
    pad = "  " * indent
    lines = []
    if isinstance(value, dict):
        for key, item in value.items():
            name = _scalar(str(key))
            if isinstance(item, str) and "\n" in item:
                body = "".join(f"{pad}  {line}\n" for line in item.rstrip("\n").split("\n"))
                lines.append(f"{pad}{name}: |\n{body}")
            elif isinstance(item, dict | list) and item:
                lines.append(f"{pad}{name}:\n{yaml_text(item, indent + 1)}")
            else:
                lines.append(f"{pad}{name}: {_scalar(item)}\n")
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict | list) and item:
                body = yaml_text(item, indent + 1)
                lines.append(f"{pad}- {body[2 * indent + 2 :]}")
            else:
                lines.append(f"{pad}- {_scalar(item)}\n")
    return "".join(lines)


def _scalar(value: Any) -> str:
    """Return a scalar in JSON's notation, which is YAML's too; plain words stay plain."""
    if isinstance(value, str):
        plain = shlex.quote(value) == value and value[0].isalpha() and ":" not in value
        if plain and value.lower() not in (
            "true",
            "false",
            "yes",
            "no",
            "null",
            "on",
            "off",
            "y",
            "n",
        ):
            return value
    return json.dumps(value)
