"""Multi-host TPU slices on GKE: one JobSet, a pod for every host of the slice."""

import math
import shlex
from pathlib import Path
from typing import Any

from seg_jax import checks
from seg_jax.launch.clusters import Cluster
from seg_jax.launch.job import SAVED, Job
from seg_jax.launch.sky import yaml_text

_RESTARTS = 100  # of the whole JobSet: every preemption of a host takes one


def jobset(job: Job, cluster: Cluster, source: Path) -> dict[str, Any]:
    """Return the JobSet, as data (github.com/kubernetes-sigs/jobset, API v1alpha2).

    JAX finds coordinator and rank on GKE by the variables that GKE's webhook sets. The image holds
    the libraries; the source is the copy in the run folder, so that the folder of the run folders
    that is launched from must be the one that the claim mounts.

    Raises:
      UserError: no image, type of slice or topology is given.
    """
    wanted = job.resources
    for name, value in (
        ("--accelerators (e.g. tpu-v6e-slice)", wanted.accelerators),
        ("--topology (e.g. 4x4)", wanted.topology),
        ("`image` in clusters.toml", cluster.image),
    ):
        if not value:
            raise checks.UserError(f"--on gke needs {name}")
    try:
        chips = math.prod(int(side) for side in wanted.topology.split("x"))
    except ValueError as error:
        raise checks.UserError(f"--topology {wanted.topology!r}: write 4x4 or 2x2x4") from error
    hosts = max(1, chips // cluster.chips_per_host)
    run = f"{cluster.runs}/{job.run.name}"
    script = f"export PYTHONPATH={shlex.quote(f'{run}/launch/source')}\n"
    script += f"exec {job.command(run, distributed=hosts > 1)}\n"
    if cluster.setup:
        script = "\n".join(cluster.setup) + "\n" + script
    env = {**({"SEG_JAX_DATA": cluster.data} if cluster.data else {}), **cluster.env}
    container: dict[str, Any] = {
        "name": "seg-jax",
        "image": cluster.image,
        "command": ["bash", "-c", script],
        "ports": [{"containerPort": 8471}, {"containerPort": 8080}],
        "resources": {"limits": {"google.com/tpu": cluster.chips_per_host}},
    }
    if env:
        container["env"] = [{"name": name, "value": value} for name, value in env.items()]
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 120,
        "nodeSelector": {
            "cloud.google.com/gke-tpu-accelerator": wanted.accelerators,
            "cloud.google.com/gke-tpu-topology": wanted.topology,
            **({"cloud.google.com/gke-spot": "true"} if wanted.spot else {}),
        },
        "containers": [container],
    }
    if cluster.service_account:
        pod["serviceAccountName"] = cluster.service_account
    if cluster.mounts:
        names = {path: f"mount-{i}" for i, path in enumerate(cluster.mounts)}
        container["volumeMounts"] = [{"name": n, "mountPath": path} for path, n in names.items()]
        pod["volumes"] = [
            {"name": names[path], "persistentVolumeClaim": {"claimName": claim}}
            for path, claim in cluster.mounts.items()
        ]
    # A saved run (75) or a taken host restarts the set; any other code of the verb fails it.
    rules = [
        {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [SAVED, 137, 143]}}
    ]
    template = {
        "backoffLimit": 0,
        "completions": hosts,
        "parallelism": hosts,
        "completionMode": "Indexed",
        "activeDeadlineSeconds": wanted.minutes * 60,
        "podFailurePolicy": {"rules": rules},
        "template": {"spec": pod},
    }
    annotation = "alpha.jobset.sigs.k8s.io/exclusive-topology"
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": job.name,
            "namespace": cluster.namespace,
            "annotations": {annotation: "cloud.google.com/gke-nodepool"},
        },
        "spec": {
            "failurePolicy": {
                "maxRestarts": _RESTARTS,
                "rules": [
                    {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]},
                ],
            },
            "replicatedJobs": [
                {"name": "slice", "replicas": 1, "template": {"spec": template}},
            ],
        },
    }


def render(job: Job, cluster: Cluster, source: Path) -> str:
    """Return the YAML file for `kubectl apply`."""
    return yaml_text(jobset(job, cluster, source))
