"""The user's clusters.toml: what differs from cluster to cluster and is the same for every job."""

import dataclasses
import os
import tomllib
from pathlib import Path
from typing import Any

from seg_jax import checks

EXAMPLE = Path(__file__).with_name("clusters.example.toml")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """One table of clusters.toml; every field has a default.

    Attributes:
      engine: slurm, sky or gke.
      accelerator: what the GPUs of a SLURM partition are, e.g. H100: whether a training fits is
        then checked before it waits.
      partition: SLURM.
      account: SLURM.
      qos: SLURM.
      setup: shell lines before the verb: modules, environments, installation.
      env: environment variables of the job.
      options: further options of sbatch by name, or further fields of SkyPilot's resources.
      image: container image (sky, gke).
      infra: SkyPilot's, e.g. gcp/us-central1 or kubernetes.
      runs: folder of the run folders on the machine (sky, gke), usually on a mount; for trainings
        of one process on sky also a bucket (gs://bucket/runs), which needs no mount.
      data: folder of the data sets on the machine: SEG_JAX_DATA.
      mounts: path on the machine -> bucket or claim.
      namespace: Kubernetes.
      service_account: Kubernetes.
      chips_per_host: GKE: TPU chips of one host of the slice.
    """

    engine: str
    accelerator: str = ""
    partition: str = ""
    account: str = ""
    qos: str = ""
    setup: tuple[str, ...] = ()
    env: dict[str, str] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    image: str = ""
    infra: str = ""
    runs: str = "/runs"
    data: str = ""
    mounts: dict[str, str] = dataclasses.field(default_factory=dict)
    namespace: str = "default"
    service_account: str = ""
    chips_per_host: int = 4


def path() -> Path:
    """Return $SEG_JAX_CLUSTERS, else ./clusters.toml, else the one in ~/.config/seg_jax."""
    given = os.environ.get("SEG_JAX_CLUSTERS")
    if given:
        return Path(given)
    here = Path("clusters.toml")
    return here if here.exists() else Path.home() / ".config" / "seg_jax" / "clusters.toml"


def load(engine: str, name: str = "", file: Path | None = None) -> Cluster:
    """Return a cluster of an engine.

    Args:
      engine: slurm, sky or gke.
      name: of the table; empty: the only one of that engine, or defaults if there is none.
      file: clusters.toml; None: `path()`.

    Raises:
      UserError: the file cannot be read, or no table or several fit.
    """
    file = file or path()
    tables: dict[str, Any] = {}
    if file.exists():
        try:
            tables = tomllib.loads(file.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise checks.UserError(f"{file}: {error}") from error
    elif name:
        raise checks.UserError(
            f"--cluster {name}: there is no {file}; begin with a copy of {EXAMPLE}"
        )
    if name:
        if name not in tables:
            raise checks.UserError(f"{file}: {checks.unknown(name, tables)}")
        chosen = {name: tables[name]}
    else:
        chosen = {key: table for key, table in tables.items() if table.get("engine") == engine}
    if len(chosen) > 1:
        raise checks.UserError(
            f"{file} has several clusters of {engine}: --cluster {'|'.join(chosen)}"
        )
    if not chosen:
        return Cluster(engine)
    ((key, table),) = chosen.items()
    known = {field.name for field in dataclasses.fields(Cluster)}
    for field in table:
        if field not in known:
            raise checks.UserError(f"{file}, [{key}]: {checks.unknown(field, known)}")
    if table.get("engine") != engine:
        raise checks.UserError(
            f"{file}, [{key}] is of engine {table.get('engine')!r}, not {engine}"
        )
    return Cluster(**{**table, "setup": tuple(table.get("setup", ()))})
