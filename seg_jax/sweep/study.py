"""The Optuna study of a sweep: proposes values, prunes trials, and keeps the journal."""

import dataclasses
import os
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from seg_jax import files
from seg_jax import search_space as spaces
from seg_jax.checks import UserError
from seg_jax.results import schema
from seg_jax.search_space import Space

JOURNAL = "journal.log"
_MOST_BYTES = 64 * 2**20  # of a journal; a trial takes one or two kilobytes
_STARTUP = 4  # trials that are drawn at random and never pruned, before the others' results count
Sampler = Literal["tpe", "random", "grid"]
State = Literal["complete", "pruned", "failed"]
Report = Callable[[int, float], None]  # (step, mIoU so far); raises Pruned


class Pruned(Exception):
    """Raised in a trial that is worse than the median of the trials before it."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial that has ended.

    Attributes:
      run: name of its folder.
      state: how it ended.
      values: what was varied, by dotted field.
      miou: of a complete trial, a share of 1; of a pruned one the last that it reported.
      seconds: wall time of the session that ended it.
      error: what a failed trial raised.
    """

    run: str
    state: State
    values: dict[str, Any]
    miou: float | None
    seconds: float
    error: str = ""


@dataclasses.dataclass(frozen=True)
class _Ended:
    """How a trial ended, as the journal has it."""

    state: str
    miou: float | None
    seconds: float
    error: str


class Study:
    """The trials of one sweep, one at a time, kept in Optuna's journal file.

    Optuna's trials carry two attributes of ours: "run", the folder's name, and "ended", how the
    trial ended, as a dictionary. A trial without the latter was interrupted; another one is queued
    in its place, with its folder and values, so that its run is resumed from its checkpoint.
    """

    def __init__(self, journal: Path, space: Space, sampler: Sampler, seed: int):
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        _drop_torn_line(journal)
        self._optuna = optuna
        self._states = optuna.trial.TrialState
        self._journal, self._space, self._sampler, self._seed = journal, space, sampler, seed
        try:
            self._study = optuna.create_study(
                study_name="sweep",
                storage=JournalStorage(JournalFileBackend(str(journal))),
                direction="maximize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP),
            )
            trials = self._trials()
        except Exception as error:  # Optuna checks with assertions and whatever its parsers raise
            raise self._damaged(f"{type(error).__name__}: {error}") from error
        for trial in trials:
            self._check(trial)
        self._asked: Any = None  # the trial that was begun last

    def _damaged(self, reason: str) -> UserError:
        return UserError(
            f"{self._journal} is no journal of this sweep ({reason}); restore the file"
        )

    def _check(self, trial: Any) -> None:
        """Raise UserError for a trial that this class would not have written."""
        attributes = trial.user_attrs
        run = attributes.get("run", "trial-0000")
        if not isinstance(run, str) or not re.fullmatch(r"trial-[0-9]{4,9}", run):
            raise self._damaged(f"run is {run!r:.60}")
        if "ended" in attributes:
            ended = attributes["ended"]
            schema.parse(_Ended, ended, file=str(self._journal), field=run)
            if ended["state"] not in typing.get_args(State) or "run" not in attributes:
                raise self._damaged(f"{run} ended as {ended['state']!r:.60}")
            self._decoded(trial.params)
        # A trial that was interrupted may lack values. What is queued is a point of the grid, or a
        # trial of before.
        for path, value in {**trial.params, **trial.system_attrs.get("fixed_params", {})}.items():
            self._value(path, value)

    def requeue_interrupted(self) -> None:
        """Queue again what was running when the sweep was killed."""
        for trial in self._trials(self._states.RUNNING):
            if "ended" in trial.user_attrs:  # killed between the two halves of `tell`
                self._end(trial.number, trial.user_attrs["ended"])
            else:
                self._study.tell(trial.number, state=self._states.FAIL)
        known = {trial.user_attrs.get("run") for trial in self._trials(self._states.WAITING)}
        known |= {trial.run for trial in self.ended()}
        for trial in self._trials(self._states.FAIL):
            run = trial.user_attrs.get("run")
            if run and run not in known:
                self._study.enqueue_trial(trial.params, user_attrs={"run": run})
                known.add(run)

    def ask(self) -> tuple[str, dict[str, Any], Report]:
        """Begin a trial; return its folder's name, its values, and the function it reports to."""
        number = len({t.user_attrs["run"] for t in self._trials() if "run" in t.user_attrs})
        if self._sampler == "grid" and not self._trials(self._states.WAITING):
            point = self._space.grid()[number]
            self._study.enqueue_trial({k: self._encode(k, value) for k, value in point.items()})
        # A sampler of its own for each trial: what it draws does not depend on earlier sessions.
        self._study.sampler = self._new_sampler(self._seed + 1_000_003 * number)
        trial = self._study.ask(
            {path: self._distribution(item) for path, item in self._space.fields.items()}
        )
        if "run" not in trial.user_attrs:
            trial.set_user_attr("run", f"trial-{number + 1:04d}")

        def report(step: int, miou: float) -> None:
            trial.report(miou, step)
            if trial.should_prune():
                raise Pruned(f"mIoU {miou:.4f} at step {step}")

        self._asked = trial
        return trial.user_attrs["run"], self._decoded(trial.params), report

    def tell(
        self, state: State, *, seconds: float, miou: float | None = None, error: str = ""
    ) -> Trial:
        """End the trial that was begun last."""
        ended = {"state": state, "miou": miou, "seconds": round(seconds, 3), "error": error}
        # Two writes: should the second be missing, `requeue_interrupted` makes up for it.
        self._asked.set_user_attr("ended", ended)
        return self._ended(self._end(self._asked.number, ended))

    def _end(self, number: int, ended: dict[str, Any]) -> Any:
        names = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
        return self._study.tell(number, ended["miou"], state=self._states[names[ended["state"]]])

    def ended(self) -> list[Trial]:
        """Return the trials that ended, in the order of their folders."""
        ended = [
            self._ended(trial)
            for trial in self._trials()
            if "ended" in trial.user_attrs and trial.state.is_finished()
        ]
        return sorted(ended, key=lambda trial: trial.run)

    def _ended(self, trial) -> Trial:
        ended = trial.user_attrs["ended"]
        return Trial(
            run=trial.user_attrs["run"],
            state=ended["state"],
            values=self._decoded(trial.params),
            miou=trial.value,  # of a pruned trial Optuna fills in what it reported last
            seconds=ended["seconds"],
            error=ended["error"],
        )

    def _trials(self, *states) -> list[Any]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _new_sampler(self, seed: int) -> Any:
        samplers = self._optuna.samplers
        if self._sampler == "tpe":
            return samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP)
        return samplers.RandomSampler(seed=seed)

    def _distribution(self, item: spaces.Distribution) -> Any:
        kinds = self._optuna.distributions
        if isinstance(item, spaces.Choice):
            return kinds.CategoricalDistribution(tuple(map(repr, item.options)))
        if isinstance(item, spaces.Integer):
            return kinds.IntDistribution(item.low, item.grid()[-1], step=item.step)
        log = isinstance(item, spaces.LogUniform)
        return kinds.FloatDistribution(item.low, item.high, log=log)

    def _encode(self, path: str, value: Any) -> Any:
        # Optuna's categories are plain scalars; ours may be tuples.
        return repr(value) if isinstance(self._space.fields[path], spaces.Choice) else value

    def _decoded(self, stored: dict[str, Any]) -> dict[str, Any]:
        return {path: self._value(path, stored.get(path)) for path in self._space.fields}

    def _value(self, path: str, found: Any) -> Any:
        """Return what a stored value stands for; UserError for one that the space does not have."""
        item = self._space.fields.get(path)
        if isinstance(item, spaces.Choice):
            for option in item.options:
                if repr(option) == found:
                    return option
        elif isinstance(item, spaces.Integer):
            if type(found) is int and found in range(item.low, item.high + 1, item.step):
                return found
        elif item is not None and type(found) in (int, float) and item.low <= found <= item.high:
            return found
        raise self._damaged(f"{path:.60} is {found!r:.60}, which the space does not have")


def _drop_torn_line(journal: Path) -> None:
    """Cut off a last line without an end, which a crash of the machine may leave: Optuna would
    append to it, and never again read the file.
    """
    if not os.path.lexists(journal):
        return
    content = files.read_bytes(journal, most=_MOST_BYTES)
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(journal, whole)
