"""Hyperparameter search: every trial is an ordinary run, and a killed sweep can be continued.

    workdir/trial-0001/ ...   run folders
    workdir/sweep.db          Optuna's storage: what was tried, what came of it; older sweeps have
                              journal.log, and --storage names a database that many machines reach
    workdir/sweep.json        settings and history, rewritten after every trial

The values of a trial depend only on the seed, its number and the results before it: a sweep that
was killed and started again tries the same values.
"""

import contextlib
import dataclasses
import json
import math
import re
import shlex
import time
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_jax import checks, config, files, overrides, progress
from seg_jax import experiment as experiments
from seg_jax import search_space as spaces
from seg_jax.backbones import choose
from seg_jax.checks import UserError
from seg_jax.experiment import Experiment
from seg_jax.runs import folder as run_folder
from seg_jax.search_space import Space
from seg_jax.sweep import samplers, storage, study
from seg_jax.sweep.samplers import Pruner, Sampler
from seg_jax.sweep.study import Pruned, Report, Trial

HISTORY = "sweep.json"
_LOOK_SECONDS = 5.0
_DEFAULTS = {"pruner": "median", "repeats": 1}  # of sweeps that began before these were settings
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
    pruner: Pruner = "median",
    repeats: int = 1,
    url: str = "",
    say: Callable[[str], None] = progress.show,
) -> Outcome:
    """Search for the values of a space with the highest mIoU, or go on with a search.

    Several processes may call this at once with the same arguments, on machines that reach the
    storage: they share the trials. A trial whose process dies is continued by another one.

    A trial that raises is recorded as failed and the sweep goes on; but a UserError of the first
    one, which is as true of all others, ends it. A diverging loss is a result, not such an error.

    Args:
      experiment: what the values are put into.
      space: checked against the experiment before anything runs.
      workdir: the sweep's folder; one that holds a sweep must have been begun with the same
        experiment, space, sampler, pruner and seed. More trials may be asked for.
      trials: number that have ended when this returns, those of earlier sessions included.
      run_trial: trains and scores a run: (experiment, run folder, report) -> mIoU. It calls
        report(step, mIoU) where it scores on the way, and lets what that raises pass.
      sampler: "tpe" (Bergstra et al. 2011), "random", "cmaes", or "grid": every point once.
      seed: of the sampler.
      pruner: ends trials early: `samplers.pruner`.
      repeats: seeds of a trial, train.seed and the next ones; its mIoU is their mean.
      url: of the storage: `storage.connect`; empty: a file in the folder.
      say: receives a line for each trial.

    Raises:
      UserError: the space does not fit, folder or storage hold another sweep, the storage cannot
        be used, a grid has more points than trials, or no trial completed.
    """
    workdir = Path(workdir)
    settings, trials = checked(experiment, space, trials, sampler, seed, pruner, repeats)
    with contextlib.ExitStack() as stack:
        search = _open(workdir, settings, space, url, stack)
        if warning := storage.network_warning(url or storage.default(workdir)):
            say(f"  {warning}")
        _write(workdir / HISTORY, settings, search.ended(), experiment)

        def run(name: str, values: dict[str, Any], report: Report) -> study.Ended:
            if url:
                say(f"{name} starts: {values_as_text(values)}")
            is_first = not search.ended()
            task = _Task(experiment, run_trial, workdir, repeats, is_first=is_first, say=say)
            ended = task(name, values, report)
            trial = Trial(run=name, values=values, **dataclasses.asdict(ended))
            say(f"[{len(search.ended()) + 1}/{trials}] {line(trial)}")
            return ended

        search.work(
            trials, run, lambda ended: _write(workdir / HISTORY, settings, ended, experiment)
        )
        found = outcome(search.ended(), experiment)
    if found.best is None:
        raise UserError(f"{workdir}: no trial completed; the first: {line(found.trials[0])}")
    return found


def begin(
    experiment: Experiment,
    space: Space,
    workdir: Path,
    *,
    trials: int,
    sampler: Sampler,
    seed: int,
    pruner: Pruner,
    repeats: int,
    url: str,
) -> None:
    """Make storage and folder, and check what `sweep` checks: before workers start."""
    settings, _ = checked(experiment, space, trials, sampler, seed, pruner, repeats)
    with contextlib.ExitStack() as stack:
        search = _open(Path(workdir), settings, space, url, stack)
        _write(Path(workdir) / HISTORY, settings, search.ended(), experiment)


def checked(
    experiment: Experiment,
    space: Space,
    trials: int,
    sampler: Sampler,
    seed: int,
    pruner: Pruner,
    repeats: int,
) -> tuple[dict[str, Any], int]:
    """Return the settings as they are stored and the number of trials.

    Raises:
      UserError: the arguments of `sweep` do not fit each other.
    """
    checks.positive(trials=trials, repeats=repeats)
    checks.one_of(typing.get_args(Sampler), sampler=sampler)
    checks.one_of(typing.get_args(Pruner), pruner=pruner)
    spaces.check(space, experiment)
    samplers.check(sampler, space)
    if repeats > 1 and pruner not in ("wilcoxon", "none"):
        raise UserError("several seeds a trial are pruned between seeds: give --pruner wilcoxon")
    if sampler == "grid":
        trials = _grid_trials(space, trials)
    settings = {
        "experiment": config.to_dict(experiment),
        "space": space.to_dict(),
        "sampler": sampler,
        "seed": seed,
        "pruner": pruner,
        "repeats": repeats,
    }
    return settings, trials


def _open(
    workdir: Path, settings: dict[str, Any], space: Space, url: str, stack: contextlib.ExitStack
) -> study.Study:
    """Open the study, made if it is not there; UserError if it is another sweep's."""
    url = url or storage.default(workdir)
    if storage.is_journal(url):
        stack.enter_context(run_folder.lock(workdir))
    workdir.mkdir(parents=True, exist_ok=True)
    with run_folder.exclusive(workdir):
        _check_same(workdir / HISTORY, settings)
        search = study.Study(
            url, study_name(workdir, url), space, settings["sampler"], settings["seed"],
            settings["pruner"],
        )  # fmt: skip
        stack.callback(search.close)
        now = json.loads(json.dumps(settings))
        _compare(search.settings(now), settings, f"{search.url}, study {search.name},")
    return search


def study_name(workdir: Path, url: str) -> str:
    """Return the study's name: fixed, because Hyperband's brackets depend on it."""
    return "sweep" if storage.is_journal(url) else workdir.resolve().name


def _grid_trials(space: Space, trials: int) -> int:
    points = len(space.grid())
    if trials < points:
        raise UserError(
            f"the grid has {points} points: give --trials {points}, or fewer points or options"
        )
    return points


@dataclasses.dataclass(frozen=True)
class _Task:
    """How one trial is done."""

    experiment: Experiment
    run_trial: RunTrial
    workdir: Path
    repeats: int
    is_first: bool
    say: Callable[[str], None]

    def __call__(self, name: str, values: dict[str, Any], report: Report) -> study.Ended:
        from seg_jax.train.loop import NonFiniteLoss

        started, folder = time.monotonic(), self.workdir / name

        def ended(state: study.State, miou: float | None = None, error: str = "") -> study.Ended:
            return study.Ended(state, miou, round(time.monotonic() - started, 3), error)

        reported: list[float] = []

        def note(share: int, miou: float) -> None:
            reported.append(miou)
            report(share, miou)

        try:
            miou = self._score_when_free(overrides.apply(self.experiment, values), folder, note)
            if not math.isfinite(miou):
                raise FloatingPointError(f"mIoU is {miou}")
            return ended("complete", miou)
        except Pruned:
            return ended("pruned", reported[-1])
        except (study.TakenOver, study.StorageLost):
            raise  # is no end of the trial
        except Exception as error:
            mistake = isinstance(error, UserError) and not isinstance(error, NonFiniteLoss)
            if self.is_first and mistake:
                raise  # the trial stays queued, and is done again once the mistake is mended
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "error.txt").write_text(traceback.format_exc())
            return ended("failed", error=f"{type(error).__name__}: {error}")

    def _score_when_free(self, chosen: Experiment, folder: Path, report: Report) -> float:
        """Return the mIoU; waits until a worker that was taken for dead has left the folder."""
        told = False
        while True:
            try:
                return float(self._score(chosen, folder, report))
            except run_folder.InUse as error:
                if not told:
                    self.say(f"{folder.name} waits: {error}")
                told = True
                time.sleep(_LOOK_SECONDS)

    def _score(self, chosen: Experiment, folder: Path, report: Report) -> float:
        if self.repeats == 1:

            def report_share(step: int, miou: float) -> None:
                with _unless(step >= chosen.train.steps):
                    report(samplers.share(step, chosen.train.steps), miou)

            return self.run_trial(chosen, folder, report_share)
        scores = []
        for number in range(self.repeats):
            seed = chosen.train.seed + number
            again = overrides.apply(chosen, {"train.seed": seed})
            scores.append(self.run_trial(again, folder / f"seed-{seed}", lambda *_: None))
            with _unless(number + 1 == self.repeats):
                report(number, scores[-1])
        return sum(scores) / len(scores)


def _unless(done: bool) -> contextlib.AbstractContextManager:
    """Return a context in which a trial may be pruned, unless all its work is done."""
    return contextlib.suppress(Pruned) if done else contextlib.nullcontext()


def _check_same(history: Path, settings: dict[str, Any]) -> None:
    """Raise UserError if the folder holds a sweep with other settings, naming what differs."""
    if not history.exists():
        return
    stored = files.read_json(history)
    if not isinstance(stored, dict) or not isinstance(stored.get("settings"), dict):
        raise UserError(f'{history}: has no "settings": is it the history of a sweep?')
    _compare(stored["settings"], settings, str(history.parent))


def _compare(stored: Any, settings: dict[str, Any], where: str) -> None:
    if not isinstance(stored, dict):
        raise UserError(f"{where} has settings that are no sweep's")
    before = config.flatten({**_DEFAULTS, **stored, **_rebuilt(stored, where)})
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
            f"{where} holds another sweep: {'; '.join(changed)}. Repeat the command that "
            "began it, or give another --workdir"
        )


def _rebuilt(settings: dict[str, Any], where: str) -> dict[str, Any]:
    """Return experiment and space as they are written today, with the defaults of newer fields."""
    space = settings.get("space")
    try:
        if not isinstance(space, dict):
            raise ValueError(f"space is {space!r:.40}")
        experiment = config.from_dict(settings.get("experiment"), Experiment)
        fields = {path: config.to_dict(config.from_dict(item)) for path, item in space.items()}
    except ValueError as error:
        raise UserError(f"{where}: cannot be read ({error}); was it edited?") from error
    return {"experiment": config.to_dict(experiment), "space": fields}


def _write(history: Path, settings, trials: Sequence[Trial], experiment: Experiment) -> None:
    found = outcome(trials, experiment)
    files.write_json(history, {"settings": settings, **dataclasses.asdict(found)})


def outcome(trials: Sequence[Trial], experiment: Experiment) -> Outcome:
    """Return a history with its best trial."""
    complete = [trial for trial in trials if trial.state == "complete"]
    best = max(complete, key=lambda trial: trial.miou or 0.0, default=None)
    command = train_command(overrides.apply(experiment, best.values)) if best else ""
    return Outcome(tuple(trials), best, command)


def train_command(experiment: Experiment) -> str:
    """Return the command that trains an experiment, its differences from the registered one as
    options.
    """
    options = choose.flags(experiments.get(experiment.name), experiment)
    return shlex.join(["python", "-m", "seg_jax", "train", experiment.name, *options])


def as_text(outcome: Outcome) -> str:
    """Return the history as a table, the best trial marked, and the command that trains with it."""
    lines = [
        f"{'*' if outcome.best and trial.run == outcome.best.run else ' '} {line(trial)}"
        for trial in outcome.trials
    ]
    if outcome.best:
        lines += ["", f"best: {outcome.best.run}", outcome.command]
    return "\n".join(lines)


def values_as_text(values: Mapping[str, Any]) -> str:
    """Return a trial's values on one line."""
    return "  ".join(
        f"{path}={value:.4g}" if isinstance(value, float) else f"{path}={value}"
        for path, value in values.items()
    )


def line(trial: Trial) -> str:
    """Return how a trial ended, on one line."""
    score = "      -" if trial.miou is None else f"{100 * trial.miou:7.2f}"
    values = values_as_text(trial.values)
    text = f"{trial.run}  {trial.state:8}  mIoU {score}  {trial.seconds:6.0f} s  {values}"
    return f"{text}  {trial.error}" if trial.error else text
