"""How the settings of a run were found, where a sweep chose them: RUN/searched.json."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from seg_jax import files
from seg_jax.results import schema

FILE = "searched.json"


@dataclasses.dataclass(frozen=True)
class Searched:
    """The search that settings were chosen by.

    Attributes:
      split: whose images the trials were scored on.
      trials: that the setting is the best of, or among the best of.
      sampler: that proposed them.
      space: fields and distributions that were varied, as `Space.to_dict` writes them.
      trial: name of the trial that had the setting.
    """

    split: str
    trials: int
    sampler: str
    space: dict[str, Any]
    trial: str = ""

    def __str__(self) -> str:
        return f"chosen among {self.trials} trials by mIoU on {self.split}"


def save(found: Searched, run: Path) -> None:
    """Write RUN/searched.json."""
    files.write_json(Path(run) / FILE, schema.plain(found))


def load(run: Path) -> Searched | None:
    """Return how a run's settings were found; None: no sweep chose them.

    Raises:
      UserError: the file is damaged.
    """
    path = Path(run) / FILE
    if not os.path.lexists(path):
        return None
    return schema.parse(Searched, files.read_json(path), file=str(path))
