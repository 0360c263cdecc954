"""Weights & Biases and MLflow as loggers; both are told by their own variables where to write.

A run that goes on continues the run that it has there: RUN/loggers.json keeps its id. One that
begins anew in the same folder gets another.
"""

import importlib
import os
import re
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seg_jax import checks, files

FILE, PROJECT = "loggers.json", "seg_jax"
_MOST_BYTES = 2**16
_MOST_PARAMETERS, _MOST_CHARACTERS = 100, 5000  # of a call of MLflow, of a parameter's value
_MOST_METRICS = 500


def stored_ids(run: Path) -> dict[str, str]:
    """Return the ids of a run in its trackers by their names, empty without RUN/loggers.json.

    Raises:
      UserError: the file cannot be read.
    """
    path = Path(run) / FILE
    if not os.path.lexists(path):
        return {}
    found = files.read_json(path, most=_MOST_BYTES)
    fine = isinstance(found, dict) and all(
        isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value)
        for value in found.values()
    )
    if not fine:
        raise checks.UserError(
            f"{path} does not hold the ids of runs: delete it, and the run gets new ones"
        )
    return found


def _keep_id(run: Path, name: str, value: str) -> None:
    ids = stored_ids(run)
    if ids.get(name) != value:
        files.write_json(run / FILE, {**ids, name: value})


class Wandb:
    """W&B's run; WANDB_MODE=offline writes it into RUN/wandb alone.

    Its steps only grow, those of a run that was killed do not: "step" is an axis of its own.
    """

    def __init__(self, run: Path, step: int, fields: Mapping[str, Any]):
        """Begin a run (step 0), or go on with the one that the folder names."""
        self._wandb: Any = importlib.import_module("wandb")
        known = stored_ids(run).get("wandb") if step else None
        name = known or uuid.uuid4().hex
        run.mkdir(parents=True, exist_ok=True)
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=name,
            name=os.environ.get("WANDB_NAME", run.resolve().name),
            resume="allow",
            reinit="create_new",  # beside one that a notebook has open
            dir=str(run),
            config=dict(fields),
            allow_val_change=True,  # fields in `folder.FREE`
            settings=self._wandb.Settings(console="off"),  # the terminal belongs to the bar
        )
        _keep_id(run, "wandb", name)
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers."""
        self._run.log({**values, "step": step})

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Log images, uint8 [h w 3] each."""
        found = {name: self._wandb.Image(pixels) for name, pixels in images.items()}
        self._run.log({**found, "step": step})

    def close(self) -> None:
        """End the run; waits until what is buffered is written or sent."""
        self._run.finish()


class Mlflow:
    """MLflow's run, in the store that MLFLOW_TRACKING_URI names."""

    def __init__(self, run: Path, step: int, fields: Mapping[str, Any]):
        """Begin a run (step 0), or go on with the one that the folder names."""
        self._client: Any = importlib.import_module("mlflow.tracking").MlflowClient()
        self._entities: Any = importlib.import_module("mlflow.entities")
        known = stored_ids(run).get("mlflow") if step else None
        self._id = self._find(known) or self._begin(run, fields)
        _keep_id(run, "mlflow", self._id)

    def _find(self, name: str | None) -> str | None:
        """Return the id if the store has the run, which then goes on."""
        if name is None:
            return None
        errors: Any = importlib.import_module("mlflow.exceptions")
        try:
            self._client.update_run(name, status="RUNNING")
        except errors.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None  # another store than that of the session before
        return name

    def _begin(self, run: Path, fields: Mapping[str, Any]) -> str:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(experiment)
        owner = found.experiment_id if found else self._client.create_experiment(experiment)
        created = self._client.create_run(owner, run_name=run.resolve().name)
        parameters = [
            self._entities.Param(_key(name), str(value)[:_MOST_CHARACTERS])
            for name, value in fields.items()
        ]
        for first in range(0, len(parameters), _MOST_PARAMETERS):
            some = parameters[first : first + _MOST_PARAMETERS]
            self._client.log_batch(created.info.run_id, params=some)
        return created.info.run_id

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers."""
        now = int(time.time() * 1000)
        metrics = [
            self._entities.Metric(_key(name), value, now, step) for name, value in values.items()
        ]
        for first in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._id, metrics=metrics[first : first + _MOST_METRICS])

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Log images, uint8 [h w 3] each."""
        for name, pixels in images.items():
            self._client.log_image(self._id, pixels, key=_key(name), step=step)

    def close(self) -> None:
        """End the run."""
        self._client.set_terminated(self._id)


def _key(name: str) -> str:
    """Return a name as MLflow takes it: other characters, empty parts and dots become _."""
    parts = re.sub(r"[^\w\-. /]", "_", name).split("/")
    return "/".join("_" if part in ("", ".", "..") else part for part in parts)
