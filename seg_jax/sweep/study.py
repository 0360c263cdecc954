"""The Optuna study of a sweep, which several workers share: trials begin, end, and are taken up."""

import dataclasses
import re
import time
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

from seg_jax.checks import UserError
from seg_jax.results import schema
from seg_jax.search_space import Space
from seg_jax.sweep import parameters, samplers, storage
from seg_jax.sweep.samplers import Pruner, Sampler

State = Literal["complete", "pruned", "failed"]
Report = Callable[[int, float], None]  # (share of the schedule in percent, mIoU); raises Pruned
# Does a trial: (folder's name, values, report) -> how it ended. What else it raises interrupts it.
Run = Callable[[str, dict[str, Any], Report], "Ended"]
_POLL_SECONDS = 1.0


class Pruned(Exception):
    """Raised in a trial that the pruner gives up."""


class TakenOver(Exception):
    """Raised in a trial that another worker has taken up: this one was silent for so long that it
    was taken for dead.
    """


class StorageLost(UserError):
    """The storage has not answered for long; what ended is kept, and trials are taken up later."""


class _Over(Exception):
    """Ends a trial of Optuna's as failed: ours failed, or is done elsewhere, or is one too many."""


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
class Ended:
    """How a trial ended, as the storage has it."""

    state: str
    miou: float | None
    seconds: float
    error: str


class Study:
    """The trials of one sweep.

    Optuna's trials carry attributes of ours: "run", the folder's name; "worker", the process that
    began it; "ended", how it ended. A trial without the last whose worker is gone is queued again
    with its folder and values, so that its run is resumed from its checkpoint; of Optuna's trials
    for one of ours only the last counts.

    Args:
      url: of the storage.
      name: of the study.
      space, sampler, seed, pruner: of the sweep.
    """

    def __init__(
        self,
        url: str,
        name: str,
        space: Space,
        sampler: Sampler,
        seed: int,
        pruner: Pruner = "median",
    ):
        import optuna
        from optuna.storages import RetryHeartbeatStaleTrialCallback

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self._states = optuna.trial.TrialState
        self.url, self.name = storage.without_password(url), name
        self._parameters = parameters.Parameters(space, self._damaged)
        with storage.quiet():
            self._requeue = RetryHeartbeatStaleTrialCallback()
        sampling = samplers.per_trial(sampler, space, seed, self._index, self._parameters.encode)
        try:
            with storage.quiet():
                connected = self._connected = storage.connect(url, self._requeue)
                self._study = optuna.create_study(
                    study_name=name,
                    storage=connected,
                    direction="maximize",
                    load_if_exists=True,
                    sampler=sampling,
                    pruner=samplers.pruner(pruner),
                )
            trials = self._trials()
        except UserError:
            raise
        except Exception as error:  # Optuna checks with assertions and whatever its parsers raise
            raise self._damaged(f"{type(error).__name__}: {error}") from error
        self._unreachable = storage.unreachable(url)
        for trial in trials:
            self._check(trial)

    def close(self) -> None:
        """Close the connections to the storage."""
        if (engine := getattr(self._connected, "engine", None)) is not None:
            self._connected.remove_session()
            engine.dispose()

    def _damaged(self, reason: str) -> UserError:
        reason = storage.without_password(reason).replace("\n", " ")
        kind = "journal" if storage.is_journal(self.url) else "storage"
        return UserError(f"{self.url} is no {kind} of this sweep ({reason:.300}); restore it")

    def settings(self, now: Mapping[str, Any]) -> Any:
        """Return the settings that the storage holds; for a new sweep they are `now`."""
        if "settings" not in self._study.user_attrs:
            self._study.set_user_attr("settings", now)
        return self._study.user_attrs["settings"]

    def _check(self, trial: Any) -> None:
        """Raise UserError for a trial that this class would not have written."""
        attributes = trial.user_attrs
        run = attributes.get("run", "trial-0000")
        if not isinstance(run, str) or not re.fullmatch(r"trial-[0-9]{4,9}", run):
            raise self._damaged(f"run is {run!r:.60}")
        history = trial.system_attrs.get("retry_history", [])
        if not isinstance(history, list) or not all(type(number) is int for number in history):
            raise self._damaged(f"retry_history is {history!r:.60}")
        if type(trial.system_attrs.get("failed_trial", 0)) is not int:
            raise self._damaged(f"failed_trial is {trial.system_attrs['failed_trial']!r:.60}")
        if "ended" in attributes:
            ended = attributes["ended"]
            schema.parse(Ended, ended, file=self.url, field=run)
            if ended["state"] not in typing.get_args(State) or "run" not in attributes:
                raise self._damaged(f"{run} ended as {ended['state']!r:.60}")
            self._parameters.decoded(trial.params)
        # A trial that was interrupted may lack values. What is queued is a point of the grid, or a
        # trial of before.
        for name, value in {**trial.params, **trial.system_attrs.get("fixed_params", {})}.items():
            self._parameters.value(name, value)

    def work(self, trials: int, run: Run, after: Callable[[list[Trial]], None]) -> None:
        """Do trials until `trials` of them have ended, those of other workers included.

        After each one, `after` receives all that have ended. A UserError, an interruption or a
        signal in a trial leaves it queued.

        Raises:
          StorageLost: the storage does not answer.
        """
        try:
            self._work(trials, run, after)
        except self._unreachable as error:
            raise self._lost(error) from error

    def _lost(self, error: Any) -> StorageLost:
        told = error.details() if hasattr(error, "details") else error.__cause__ or error
        return StorageLost(
            f"{self.url} does not answer ({storage.reason(told):.300}); once it does, the same "
            "command goes on"
        )

    def _work(self, trials: int, run: Run, after: Callable[[list[Trial]], None]) -> None:
        while True:
            self._take_up_abandoned()
            ended = len(self.ended())
            if ended >= trials:
                return
            waiting = self._trials(self._states.WAITING)
            if waiting or self._claimed() < trials:
                self._one(trials, run)
                after(self.ended())
            elif storage.is_journal(self.url):  # and no other worker will end what is missing
                raise self._damaged(f"{ended} of {trials} trials ended, and no other is left to do")
            else:  # other workers are at the last ones; should they die, these are taken up
                time.sleep(_POLL_SECONDS)
                self._fail_stale()

    def _one(self, target: int, run: Run) -> None:
        begun: list[Any] = []
        left: list[Exception] = []  # Optuna raises another error for a trial that it cannot end

        def objective(trial: Any) -> float:
            begun.append(trial)
            try:
                return self._objective(trial, target, run)
            except (TakenOver, StorageLost) as error:
                left.append(error)
                raise

        try:
            with storage.quiet():
                self._study.optimize(objective, n_trials=1, catch=(_Over,))
        except BaseException:
            for error in left:
                if isinstance(error, TakenOver):
                    return
                raise error from None
            for trial in begun:
                self._fail_and_requeue(trial.number)
            raise

    def _objective(self, trial: Any, target: int, run: Run) -> float:
        number = self._index(trial)
        name = trial.user_attrs.get("run", f"trial-{number + 1:04d}")
        if "run" not in trial.user_attrs:
            if number >= target:  # another worker was faster
                trial.set_user_attr("surplus", True)
                raise _Over
            trial.set_user_attr("run", name)
        if self._is_done_elsewhere(trial, name):
            trial.set_user_attr("surplus", True)
            raise _Over
        self._stored(trial.set_user_attr, "worker", storage.worker())
        stored = trial.user_attrs.get("ended")
        report = self._report(trial)
        ended = Ended(**stored) if stored else run(name, self._parameters.suggest(trial), report)
        # Two writes: should the second be missing, the trial is taken up, and ends with the first.
        self._stored(trial.set_user_attr, "ended", dataclasses.asdict(ended))
        if ended.state == "pruned":
            raise self._optuna.TrialPruned
        if ended.state == "failed" or ended.miou is None:
            raise _Over
        return ended.miou

    def _stored(self, action: Callable[..., Any], *values: Any) -> Any:
        """Read or write of a trial at work, again if a restart of the storage came in between.

        Raises:
          TakenOver: the trial is another worker's.
          StorageLost: the storage does not answer.
        """
        try:
            try:
                return action(*values)
            except self._unreachable:
                storage.wait(self._connected)
                return action(*values)
        except self._optuna.exceptions.UpdateFinishedTrialError as error:
            raise TakenOver from error
        except self._unreachable as error:
            raise self._lost(error) from error

    def _report(self, trial: Any) -> Report:
        def report(share: int, miou: float) -> None:
            self._stored(trial.report, miou, share)
            if self._stored(trial.should_prune):
                raise Pruned(f"mIoU {miou:.4f} at {share}")

        return report

    def _index(self, trial: Any) -> int:
        """Return the place of a trial, or of the one that it retries, among those that are no
        retries, from 0.
        """
        trials = self._trials()
        own = next((other for other in trials if other.number == trial.number), None)
        first = own.system_attrs.get("failed_trial", trial.number) if own else trial.number
        return sum(
            other.number < first
            and not other.system_attrs.get("retry_history")
            and not other.user_attrs.get("surplus")
            for other in trials
        )

    def _claimed(self) -> int:
        # A trial whose worker died before it had a folder counts as its retry.
        over = self._superseded()
        trials = (trial for trial in self._counted() if trial.number not in over)
        return len({trial.user_attrs.get("run", trial.number) for trial in trials})

    def _counted(self) -> list[Any]:
        return [trial for trial in self._trials() if not trial.user_attrs.get("surplus")]

    def _superseded(self) -> set[int]:
        trials = self._trials()
        return {n for trial in trials for n in trial.system_attrs.get("retry_history", ())}

    def _is_done_elsewhere(self, trial: Any, name: str) -> bool:
        before = self._superseded()
        return any(
            other.user_attrs.get("run") == name
            and other.number < trial.number
            and other.number not in before
            and (other.state == self._states.RUNNING or "ended" in other.user_attrs)
            for other in self._counted()
        )

    def _take_up_abandoned(self) -> None:
        """Queue again what the workers of this machine that are gone have left."""
        journal = storage.is_journal(self.url)  # whose lock says that there is no other worker
        for trial in self._trials(self._states.RUNNING):
            worker = trial.user_attrs.get("worker")
            unknown = worker is None and self._age(trial) > storage.GRACE_SECONDS
            if journal or unknown or storage.is_gone(worker):
                self._fail_and_requeue(trial.number)
        superseded = self._superseded()
        for trial in self._trials(self._states.FAIL):  # by a worker that was killed right then
            left = {"ended", "surplus"}.isdisjoint(trial.user_attrs)
            known = trial.number in superseded or "run" not in trial.user_attrs
            late = journal or self._age(trial, ended=True) > storage.GRACE_SECONDS
            runs = {t.user_attrs.get("run") for t in self._counted() if t.number > trial.number}
            if left and not known and late and trial.user_attrs["run"] not in runs:
                self._requeue(self._study, trial)

    @staticmethod
    def _age(trial: Any, *, ended: bool = False) -> float:
        moment = trial.datetime_complete if ended else trial.datetime_start
        return time.time() - moment.timestamp() if moment else 0.0

    def _fail_stale(self) -> None:
        with storage.quiet():
            self._optuna.storages.fail_stale_trials(self._study)

    def _fail_and_requeue(self, number: int) -> None:
        """Queue a trial again that is interrupted, unless another worker does."""
        trial = self._study.get_trials(deepcopy=False)[number]
        if not trial.state.is_finished():
            try:
                self._study.tell(number, state=self._states.FAIL)
            except (ValueError, self._optuna.exceptions.UpdateFinishedTrialError):
                return
        if number in self._superseded() or trial.user_attrs.get("surplus"):
            return
        self._requeue(self._study, self._study.get_trials(deepcopy=True)[number])

    def ended(self) -> list[Trial]:
        """Return the trials that ended, in the order of their folders."""
        superseded, found = self._superseded(), {}
        for trial in self._counted():
            finished = trial.state.is_finished() and trial.number not in superseded
            if finished and "ended" in trial.user_attrs:
                found.setdefault(trial.user_attrs["run"], self._ended(trial))
        return [found[run] for run in sorted(found)]

    def running(self) -> list[tuple[str, dict[str, Any], dict[int, float]]]:
        """Return (folder, values, reported mIoU by percent) of the trials at work."""
        trials = [t for t in self._trials(self._states.RUNNING) if "run" in t.user_attrs]
        return [
            (t.user_attrs["run"], self._parameters.decoded(t.params), dict(t.intermediate_values))
            for t in trials
        ]

    def curves(self) -> dict[str, dict[int, float]]:
        """Return what every trial reported, mIoU by percent of its schedule."""
        return {
            t.user_attrs["run"]: {int(k): float(v) for k, v in t.intermediate_values.items()}
            for t in self._counted()
            if "run" in t.user_attrs and t.intermediate_values
        }

    def _ended(self, trial: Any) -> Trial:
        ended = trial.user_attrs["ended"]
        return Trial(
            run=trial.user_attrs["run"],
            state=ended["state"],
            values=self._parameters.decoded(trial.params),
            miou=trial.value,  # of a pruned trial Optuna fills in what it reported last
            seconds=ended["seconds"],
            error=ended["error"],
        )

    def _trials(self, *states) -> list[Any]:
        return self._study.get_trials(deepcopy=False, states=states or None)
