"""What becomes of a sweep: its state, and its best settings trained anew with several seeds."""

import contextlib
import dataclasses
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seg_jax import config, files, overrides
from seg_jax.checks import UserError
from seg_jax.evaluation import evaluate
from seg_jax.evaluation.run import evaluate_run
from seg_jax.experiment import Experiment
from seg_jax.results import searched
from seg_jax.results.searched import Searched
from seg_jax.search_space import Space
from seg_jax.sweep import search, split, storage, study
from seg_jax.train import loop

PROMOTED = "promoted.json"


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep as its folder and its storage have it.

    Attributes:
      experiment: what the values are put into.
      settings: of the sweep.
      space: that it searches.
      trials: that have ended.
      running: name, values and reported scores of the others, see `study.Study.running`.
    """

    experiment: Experiment
    settings: dict[str, Any]
    space: Space
    trials: tuple[study.Trial, ...]
    running: tuple[tuple[str, dict[str, Any], dict[int, float]], ...]


def read(workdir: Path, url: str = "") -> Sweep:
    """Return what a sweep that is there has done, while it runs or after it; errors as `opened`."""
    with opened(workdir, url) as (found, _):
        return found


@contextlib.contextmanager
def opened(workdir: Path, url: str = "") -> Iterator[tuple[Sweep, study.Study]]:
    """Open a sweep that is there, while it runs or after it, with its study.

    Raises:
      UserError: the folder holds none, or its storage cannot be used.
    """
    path = workdir / search.HISTORY
    if not path.exists():
        raise UserError(f"{path} is not there: give the --workdir of a sweep")
    stored = files.read_json(path)
    settings = stored.get("settings") if isinstance(stored, dict) else None
    if not isinstance(settings, dict) or not isinstance(settings.get("space"), dict):
        raise UserError(f'{path}: has no "settings": is it the history of a sweep?')
    try:
        experiment = config.from_dict(settings.get("experiment"), Experiment)
        space = Space({name: config.from_dict(item) for name, item in settings["space"].items()})
    except ValueError as error:
        raise UserError(f"{path}: cannot be read ({error}); was it edited?") from error
    url = url or storage.default(workdir)
    name = search.study_name(workdir, url)
    search_study = study.Study(url, name, space, settings["sampler"], settings["seed"])
    with contextlib.closing(search_study):
        ended, running = tuple(search_study.ended()), tuple(search_study.running())
        yield Sweep(experiment, settings, space, ended, running), search_study


def promote(
    workdir: Path, *, best: int, seeds: int, val_split: str, url: str = "", command: str = ""
) -> list[dict[str, Any]]:
    """Train the best settings on the whole training split with several seeds, and score them.

    Every run is an ordinary one with an ordinary record, in WORKDIR/promoted/RANK-TRIAL/seed-N; the
    record says how the setting was found (`results.searched`). What is there already is reused.

    Args:
      workdir: of the sweep.
      best: number of settings.
      seeds: of each, from train.seed on.
      val_split: that they are scored on.
      url: of the storage, if it is not in the folder.
      command: for log and records.

    Returns:
      Of every setting: trial, values, the score that it was chosen by, mIoU of each seed, mean,
      standard deviation, and what it was chosen from; WORKDIR/promoted.json has it too.
    """
    found = read(workdir, url)
    complete = [trial for trial in found.trials if trial.miou is not None]
    complete = [trial for trial in complete if trial.state == "complete"]
    if not complete:
        raise UserError(f"{workdir}: no trial is complete")
    ranked = sorted(complete, key=lambda trial: -(trial.miou or 0.0))[:best]
    search_of = Searched(
        split=found.experiment.data.val_split,
        trials=len(found.trials),
        sampler=found.settings["sampler"],
        space=found.settings["space"],
    )
    settings = []
    for rank, trial in enumerate(ranked, 1):
        chosen = split.whole(overrides.apply(found.experiment, trial.values), val_split)
        scores = []
        for seed in range(chosen.train.seed, chosen.train.seed + seeds):
            run = workdir / "promoted" / f"{rank}-{trial.run}" / f"seed-{seed}"
            again = overrides.apply(chosen, {"train.seed": seed})
            loop.fit(again, run, evaluate=evaluate.intermediate, command=command)
            searched.save(dataclasses.replace(search_of, trial=trial.run), run)
            scores.append(evaluate_run(run, command=command).metrics["mean_iou"] or 0.0)
        settings.append(
            {
                "trial": trial.run,
                "values": json.loads(json.dumps(trial.values)),
                "chosen_by": trial.miou,
                "miou": scores,
                "mean": statistics.fmean(scores),
                "sd": statistics.stdev(scores) if len(scores) > 1 else None,
                "searched": dataclasses.asdict(search_of),
            }
        )
        files.write_json(workdir / PROMOTED, settings)
    return settings


def as_text(settings: list[dict[str, Any]]) -> str:
    """Return a line for every promoted setting, in percent."""
    lines = []
    for one in settings:
        spread = "" if one["sd"] is None else f" ± {100 * one['sd']:.2f}"
        lines.append(
            f"{one['trial']}  mIoU {100 * one['mean']:.2f}{spread} ({len(one['miou'])} seeds), "
            f"chosen by {100 * one['chosen_by']:.2f} on {one['searched']['split']} "
            f"among {one['searched']['trials']} trials"
        )
    return "\n".join(lines)
