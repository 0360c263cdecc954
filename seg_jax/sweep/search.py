"""Hyperparameter search: every trial is an ordinary run, and a killed sweep can be continued.

    workdir/trial-0001/ ...   run folders
    workdir/journal.log       Optuna's storage: what was tried, what came of it
    workdir/sweep.json        settings and history, rewritten after every trial

The values of a trial depend only on the seed, its number and the results before it: a sweep that
was killed and started again tries the same values.
"""

import dataclasses
import json
import math
import re
import shlex
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seg_jax import checks, config, files, overrides
from seg_jax import experiment as experiments
from seg_jax import search_space as spaces
from seg_jax.checks import UserError
from seg_jax.experiment import Experiment
from seg_jax.runs import folder as run_folder
from seg_jax.search_space import Space
from seg_jax.sweep import study
from seg_jax.sweep.study import Pruned, Report, Sampler, Trial

HISTORY = "sweep.json"
# Trains and scores one run: (experiment, run folder, report) -> mIoU, a share of 1.
RunTrial = Callable[[Experiment, Path, Report], float]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A sweep's history.

    Attributes:
      trials: in the order in which they ran.
      best: the complete trial of the highest mIoU; None where none completed.
      command: that trains with the best trial's values; empty where there is none.
    """

    trials: tuple[Trial, ...]
    best: Trial | None
    command: str


def load_space(name: str) -> Space:
    """Return the space "module:attribute", e.g. "experiments.sweeps:poly_lr".

    Raises:
      UserError: there is no such module or attribute, or it is no Space.
    """
    module_name, _, attribute = name.partition(":")
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", name):
        raise UserError(f"space {name!r}: write module:name, e.g. experiments.sweeps:poly_lr")
    if module_name.split(".")[0] == "experiments":  # seg_jax's own, whatever is in this folder
        module_name = f"seg_jax.{module_name}"
    try:
        module = config.use_package(module_name)
    except ImportError as error:
        raise UserError(f"space {name!r}: {error}") from error
    known = {key: value for key, value in vars(module).items() if isinstance(value, Space)}
    if attribute not in known:
        raise UserError(f"space {name!r}: {checks.unknown(attribute, known)}")
    return known[attribute]


def sweep(
    experiment: Experiment,
    space: Space,
    workdir: Path,
    *,
    trials: int,
    run_trial: RunTrial,
    sampler: Sampler = "tpe",
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Search for the values of a space with the highest mIoU, or go on with a search.

    A trial that raises is recorded as failed and the sweep goes on; but a UserError of the first
    one, which is as true of all others, ends it. A diverging loss is a result, not such an error.

    Args:
      experiment: what the values are put into.
      space: checked against the experiment before anything runs.
      workdir: the sweep's folder; one that holds a sweep must have been begun with the same
        experiment, space, sampler and seed. More trials may be asked for.
      trials: number that have ended when this returns, those of earlier sessions included.
      run_trial: trains and scores a run: (experiment, run folder, report) -> mIoU. It calls
        report(step, mIoU) where it scores on the way, and lets what that raises pass.
      sampler: "tpe" (Bergstra et al. 2011), "random", or "grid": every point once.
      seed: of the sampler.
      say: receives a line for each trial.

    Raises:
      UserError: the space does not fit, the folder holds another sweep or one at work, a grid has
        more points than trials, or no trial completed.
    """
    checks.positive(trials=trials)
    checks.one_of(("tpe", "random", "grid"), sampler=sampler)
    spaces.check(space, experiment)
    if sampler == "grid":
        trials = _grid_trials(space, trials)
    workdir = Path(workdir)
    with run_folder.lock(workdir):
        settings = {
            "experiment": config.to_dict(experiment),
            "space": space.to_dict(),
            "sampler": sampler,
            "seed": seed,
        }
        _check_same(workdir / HISTORY, settings)
        search = study.Study(workdir / study.JOURNAL, space, sampler, seed)
        _write(workdir / HISTORY, settings, search.ended(), experiment)
        search.requeue_interrupted()
        while len(search.ended()) < trials:
            trial = _run_one(search, experiment, run_trial, workdir)
            ended = search.ended()
            _write(workdir / HISTORY, settings, ended, experiment)
            say(f"[{len(ended)}/{trials}] {_line(trial)}")
    outcome = _outcome(search.ended(), experiment)
    if outcome.best is None:
        raise UserError(f"{workdir}: no trial completed; the first: {_line(outcome.trials[0])}")
    return outcome


def _grid_trials(space: Space, trials: int) -> int:
    points = len(space.grid())
    if trials < points:
        raise UserError(
            f"the grid has {points} points: give --trials {points}, or fewer points or options"
        )
    return points


def _run_one(search: study.Study, experiment, run_trial, workdir) -> Trial:
    from seg_jax.train.loop import NonFiniteLoss

    is_first = not search.ended()
    run, values, report = search.ask()
    started = time.monotonic()

    def ended(state, *, miou=None, error=""):
        return search.tell(state, miou=miou, seconds=time.monotonic() - started, error=error)

    try:
        miou = float(run_trial(overrides.apply(experiment, values), workdir / run, report))
        if not math.isfinite(miou):
            raise FloatingPointError(f"mIoU is {miou}")
        return ended("complete", miou=miou)
    except Pruned:
        return ended("pruned")
    except Exception as error:
        mistake = isinstance(error, UserError) and not isinstance(error, NonFiniteLoss)
        if is_first and mistake:
            raise  # the trial stays unfinished, and is done again once the mistake is mended
        (workdir / run).mkdir(parents=True, exist_ok=True)
        (workdir / run / "error.txt").write_text(traceback.format_exc())
        return ended("failed", error=f"{type(error).__name__}: {error}")


def _check_same(history: Path, settings: dict[str, Any]) -> None:
    """Raise UserError if the folder holds a sweep with other settings, naming what differs."""
    if not history.exists():
        return
    stored = files.read_json(history)
    if not isinstance(stored, dict) or not isinstance(stored.get("settings"), dict):
        raise UserError(f'{history}: has no "settings": is it the history of a sweep?')
    before = config.flatten({**stored["settings"], **_rebuilt(stored["settings"], history)})
    now = config.flatten(json.loads(json.dumps(settings)))
    free = tuple(f"experiment.{name}" for name in run_folder.FREE)
    changed = [
        f"{path} was {before.get(path)!r}, is {now.get(path)!r}"
        for path in sorted(before.keys() | now.keys())
        if before.get(path) != now.get(path)
        and not any(path == name or path.startswith(f"{name}.") for name in free)
    ]
    if changed:
        raise UserError(
            f"{history.parent} holds another sweep: {'; '.join(changed)}. Repeat the command that "
            "began it, or give another --workdir"
        )


def _rebuilt(settings: dict[str, Any], history: Path) -> dict[str, Any]:
    """Return experiment and space as they are written today, with the defaults of newer fields."""
    space = settings.get("space")
    try:
        if not isinstance(space, dict):
            raise ValueError(f"space is {space!r:.40}")
        experiment = config.from_dict(settings.get("experiment"), Experiment)
        fields = {path: config.to_dict(config.from_dict(item)) for path, item in space.items()}
    except ValueError as error:
        raise UserError(f"{history}: cannot be read ({error}); was it edited?") from error
    return {"experiment": config.to_dict(experiment), "space": fields}


def _write(history: Path, settings, trials: Sequence[Trial], experiment: Experiment) -> None:
    outcome = _outcome(trials, experiment)
    files.write_json(history, {"settings": settings, **dataclasses.asdict(outcome)})


def _outcome(trials: Sequence[Trial], experiment: Experiment) -> Outcome:
    complete = [trial for trial in trials if trial.state == "complete"]
    best = max(complete, key=lambda trial: trial.miou or 0.0, default=None)
    command = train_command(overrides.apply(experiment, best.values)) if best else ""
    return Outcome(tuple(trials), best, command)


def train_command(experiment: Experiment) -> str:
    """Return the command that trains an experiment, its differences from the registered one as
    options.
    """
    options = overrides.flags(experiments.get(experiment.name), experiment)
    return shlex.join(["python", "-m", "seg_jax", "train", experiment.name, *options])


def as_text(outcome: Outcome) -> str:
    """Return the history as a table, the best trial marked, and the command that trains with it."""
    lines = [
        f"{'*' if outcome.best and trial.run == outcome.best.run else ' '} {_line(trial)}"
        for trial in outcome.trials
    ]
    if outcome.best:
        lines += ["", f"best: {outcome.best.run}", outcome.command]
    return "\n".join(lines)


def _line(trial: Trial) -> str:
    score = "      -" if trial.miou is None else f"{100 * trial.miou:7.2f}"
    values = "  ".join(
        f"{path}={value:.4g}" if isinstance(value, float) else f"{path}={value}"
        for path, value in trial.values.items()
    )
    line = f"{trial.run}  {trial.state:8}  mIoU {score}  {trial.seconds:6.0f} s  {values}"
    return f"{line}  {trial.error}" if trial.error else line
