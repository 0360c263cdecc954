"""Train an experiment into a run folder; the same command goes on where a run stopped.

Each session restores the newest whole checkpoint: parameters, optimiser, running averages and the
position in the data. Everything random is a function of seed and step, so a run that was killed
anywhere ends with the same bits as one that was not.

Where to change what training does:
  a term of the loss          `losses/`: a field of LossConfig and its sum in `_terms`
  a metric in the log         `step.py`: an entry of the `metrics` that `train_step` returns
  a field of the optimiser    `optim/`: a field of OptimConfig and its use in `make_optimizer`
"""

import contextlib
import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from seg_jax import config
from seg_jax import parallel as parallelism
from seg_jax import progress as progress_output
from seg_jax.checks import UserError
from seg_jax.experiment import Experiment
from seg_jax.pretrained import warm_start
from seg_jax.runs import bucket, checkpoint, loggers, selection
from seg_jax.runs import folder as run_folder
from seg_jax.runs import log as logs
from seg_jax.train import peers, setup, termination
from seg_jax.train.progress import Report, progress_bar
from seg_jax.train_state import TrainState

# Scores the variables after a step on the validation split: called on every process, returns
# numbers for the log, the same on all of them: an early stop depends on them; and perhaps "images",
# uint8 [h w 3] by name, for the loggers. An exception that it
# raises ends the run, its checkpoint already written.
Evaluate = Callable[[Experiment, Mapping[str, Any], int], Mapping[str, Any]]
_log = logging.getLogger(__name__)


class NonFiniteLoss(UserError):
    """The loss or its gradient was infinite or not a number, or the update too large."""


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """What a call of `fit` did.

    Attributes:
      run: the run folder.
      step: updates done, in all sessions.
      trained: updates done in this one; 0: the run was finished before.
      seconds: wall time of this one.
      metrics: the last line of the log that describes a step.
    """

    run: Path
    step: int
    trained: int
    seconds: float
    metrics: Mapping[str, float]


def fit(
    experiment: Experiment,
    workdir: Path,
    *,
    parallel: parallelism.Implementation = "shard_map",
    evaluate: Evaluate | None = None,
    command: str = "",
    progress: bool = True,
    batches: Iterable[Any] | None = None,
    extend: bool = False,
) -> RunSummary:
    """Train an experiment, or go on with it; a finished run is left as it is, unless it now has
    more steps.

    Args:
      experiment: what to train; must be the one that the folder was begun with, except for the
        fields in `run_folder.FREE`.
      workdir: the run folder; made if it is not there.
      parallel: how the step is compiled over the devices.
      evaluate: called every `train.evaluate_every` steps.
      command: that asked for this, for the log and the message when a signal ends the run.
      progress: print, and draw a progress bar, on the first process.
      batches: of this process, in place of the experiment's data, see `data.given.GivenBatches`.
      extend: let `train.steps` grow although the schedule's earlier rates would have been others.

    Raises:
      UserError: a mistake in the configuration or the data; the folder holds another run, or one
        at work; a loss that is not finite (NonFiniteLoss); a disk that is full at the end.
      Stopped: a signal came; the state is saved. With several processes, an error of one ends
        all of them: `fit` then prints it and exits.
    """
    run, settings = Path(workdir), experiment.train
    first = jax.process_index() == 0
    say = progress_output.say if first and progress else lambda *_: None
    with contextlib.ExitStack() as stack:
        others = stack.enter_context(peers.together())
        watch = stack.enter_context(termination.watch(run, command, others))
        lock = stack.enter_context(run_folder.lock(run)) if first else None
        resumable = run_folder.check_resumable(run, experiment, extend=extend)
        watch.saved = start = checkpoint.newest(run)
        scores = selection.scores(run, settings.best_metric, until=start or 0)
        if start is not None and (
            start == settings.steps or _stops_early(experiment, start, scores)
        ):
            return _finished(run, experiment, start, first, evaluate, command, say)

        if first:
            loggers.check(settings.loggers)
        begin = setup.prepare(experiment, run, start, parallel, say, given=batches)
        state, source, mesh = begin.state, begin.batches, begin.mesh
        stack.callback(source.close)
        before = run_folder.read_config(run)[0].train.steps if resumable else settings.steps
        if first:
            former = run_folder.identities(run) if resumable else ()
            run_folder.write_config(run, experiment, former=former)
        log = _open_log(run, experiment, begin.start, first)
        stack.callback(log.close)
        log.event(begin.start, f"{'resumed' if begin.start else 'started'} {command}".strip())
        if before != settings.steps:
            log.event(begin.start, f"extended from {before} to {settings.steps} steps")
        if begin.initialised is not None:
            log.write("event", begin.start, begin.initialised.log)
        if evaluate and start is None and _scores_first(settings.evaluate_first, begin.initialised):
            _score_first(experiment, state, log, evaluate, say)
        shown = first and progress
        open_bar = functools.partial(progress_bar, experiment, begin.start, shown=shown)
        report = stack.enter_context(
            Report(experiment, log, open_bar, source.get_state(), begin.meter)
        )
        session = _Session(run, experiment, report, begin.metadata, watch, lock, evaluate, scores)
        key = jax.random.fold_in(jax.random.key(settings.seed), 1)  # the key itself initialised

        if begin.start and session.is_unscored(begin.start):
            session.score(state, begin.start)
        for number in range(begin.start + 1, settings.steps + 1):
            if _stops_early(experiment, number - 1, scores):
                break
            with report.fetching():
                batch = parallelism.shard_batch(next(source), mesh)
            if number == begin.start + 1:
                with report.compiling(experiment, shown=shown):
                    state, metrics = begin.train_step(state, batch, key)
            else:
                state, metrics = begin.train_step(state, batch, key)
            report.add(number, metrics, position=source.get_state())

            stop, last = watch(number), number == settings.steps
            save = stop or last or number % settings.checkpoint_every == 0
            score = session.is_unscored(number)
            # An evaluation that fails costs no training; and the best one needs its checkpoint.
            save |= score and (watch.saved is None or bool(settings.best_metric))
            # One step stays in flight while the host fetches the next batch.
            if not report.catch_up(leave=0 if save or score else 1):
                raise session.diverged(state)
            if save:
                session.save(state, must=stop or last)
            if stop and not last:
                raise session.stopped()
            if score:
                session.score(state, number)
        done = int(state.step)
        if done < settings.steps:
            session.say_early(done, say)
    say(f"trained {run} to step {done} in {report.seconds():.0f} s")
    return RunSummary(run, done, done - begin.start, report.seconds(), report.last)


def _scores_first(setting: str, initialised: warm_start.Start | None) -> bool:
    complete = initialised is not None and initialised.complete
    return setting == "yes" or (setting == "auto" and complete)


def _score_first(
    experiment: Experiment,
    state: TrainState,
    log: logs.RunLog,
    evaluate: Evaluate,
    say: Callable[[str], None],
) -> None:
    """Score the weights that a training starts from; "auto" goes on where that is not possible."""
    variables = state.variables
    try:
        found = evaluate(experiment, variables, 0)
    except UserError as error:
        if experiment.train.evaluate_first == "yes":
            raise
        say(f"  step 0: not scored ({error})")
        return
    _write(log, 0, found)
    numbers = {name: value for name, value in found.items() if isinstance(value, float)}
    shown = ", ".join(f"{name} {100 * value:.2f}" for name, value in numbers.items())
    split = experiment.monitored_split
    say(f"  step 0 on {split}, in percent: {shown} (--train.evaluate-first no skips this)")


def _open_log(run: Path, experiment: Experiment, step: int, first: bool) -> logs.RunLog:
    fields = config.flatten(config.to_dict(experiment))
    names = experiment.train.loggers
    return logs.RunLog(run, step, active=first, names=names, fields=fields)


def _write(log: logs.RunLog, step: int, found: Mapping[str, Any]) -> None:
    """Log an evaluation; its images go to the loggers alone."""
    log.images(step, found.get("images", {}))
    log.write("evaluate", step, {name: x for name, x in found.items() if name != "images"})


def _finished(
    run: Path,
    experiment: Experiment,
    step: int,
    first: bool,
    evaluate: Evaluate | None,
    command: str,
    say: Callable,
) -> RunSummary:
    """Leave a finished run as it is, but for an evaluation that a kill cut off."""
    if first:  # fields that are free to change may have
        former = run_folder.identities(run)
        run_folder.write_config(run, experiment, former=former)
    scored = any(line["kind"] == "evaluate" and line["step"] == step for line in logs.read(run))
    if evaluate and _is_due(experiment, step) and not scored:
        log = _open_log(run, experiment, step, first)
        log.event(step, f"resumed {command}".strip())
        _, variables, _ = checkpoint.restore_variables(run, "newest")
        _write(log, step, evaluate(experiment, variables, step))
        log.close()
    early = "" if step == experiment.train.steps else f" of {experiment.train.steps}, stopped early"
    say(f"{run} is finished (step {step}{early}): nothing to do")
    return RunSummary(run, step, 0, 0.0, logs.last(run, "train"))


def _is_due(experiment: Experiment, step: int) -> bool:
    settings = experiment.train
    if settings.best_metric and step == settings.steps:
        return True  # the last step has a checkpoint, which may be the best
    return bool(settings.evaluate_every) and step % settings.evaluate_every == 0


def _stops_early(experiment: Experiment, step: int, scores: Mapping[int, float]) -> bool:
    """Whether training ends after a step, because its evaluations have not improved for long."""
    patience = experiment.train.patience
    return patience > 0 and step in scores and selection.evaluations_since_best(scores) >= patience


@dataclasses.dataclass(frozen=True)
class _Session:
    """What the loop saves, scores and ends with; `scores`: of `train.best_metric` by step."""

    run: Path
    experiment: Experiment
    report: Report
    metadata: Mapping[str, Any]
    watch: termination.Watch
    lock: run_folder.Lock | None
    evaluate: Evaluate | None
    scores: dict[int, float]

    def is_unscored(self, number: int) -> bool:
        """Whether an evaluation is due after a step and not in the log."""
        due = self.evaluate is not None and _is_due(self.experiment, number)
        return due and number not in self.report.log.evaluated

    def save(self, state: TrainState, *, must: bool) -> None:
        """Write a checkpoint. A failure is logged; it ends the run if this one must be there."""
        step = int(state.step)
        if self.lock:
            self.lock.check()
        metadata = {**self.metadata, "meter": self.report.meter.state()}
        try:
            with self.watch.saving(step):
                checkpoint.save(
                    self.run,
                    state,
                    iterator=self.report.position,
                    metadata=metadata,
                    keep=self.experiment.train.keep,
                    also=self._best(),
                )
                bucket.send(self.run)
        except checkpoint.SaveError as error:
            self.report.log.event(step, str(error))
            # Several processes cannot go on when only some of them have failed.
            if must or jax.process_count() > 1:
                raise UserError(f"{error}; make room, and the same command goes on") from error
            _log.warning("%s; the run goes on, the last good checkpoint stays", error)

    def score(self, state: TrainState, number: int) -> None:
        """Evaluate, and log what comes out. A signal ends this at once; the state is then saved."""
        assert self.evaluate is not None
        variables = state.variables
        try:
            with self.watch.evaluating(number):
                values = self.evaluate(self.experiment, variables, number)
            self._keep_best(number, values)
        except termination.Stopped:
            if self.watch.saved != number:
                self.save(state, must=True)
            raise self.stopped() from None

    def _keep_best(self, number: int, values: Mapping[str, Any]) -> None:
        """Log an evaluation; a checkpoint that was the best until then goes."""
        metric = self.experiment.train.best_metric
        if metric:
            self.scores[number] = selection.value_of(values, metric)
        _write(self.report.log, number, values)
        if metric and self.lock:
            checkpoint.prune(self.run, keep=self.experiment.train.keep, also=self._best())

    def _best(self) -> list[int]:
        """The step of the best of the checkpoints that are there."""
        found = selection.best(self.scores, among=checkpoint.steps(self.run))
        return [] if found is None else [found]

    def say_early(self, step: int, say: Callable[[str], None]) -> None:
        """Tell and log that the run has stopped early."""
        settings, best = self.experiment.train, selection.best(self.scores)
        value = f"{100 * self.scores[best]:.2f} at step {best}" if best else "never a number"
        message = (
            f"stopped early after step {step} of {settings.steps}: {settings.best_metric} was best "
            f"({value}) {settings.patience} evaluations ago (--train.patience 0 goes on)"
        )
        self.report.log.event(step, message)
        say(message)

    def stopped(self) -> termination.Stopped:
        """Say what is kept, and return what ends the run."""
        error = self.watch.stopped()
        error.agreed = True
        self.report.log.event(self.watch.saved or 0, error.message)
        return error

    def diverged(self, state: TrainState) -> NonFiniteLoss:
        """Save the state before the bad step, and return the error to raise."""
        bad, good = self.report.last, int(state.step)
        what = f"loss {bad['loss']}, gradient norm {bad['grad_norm']} at step {bad['step']}"
        if math.isfinite(bad["loss"]) and math.isfinite(bad["grad_norm"]):
            what = f"update or running averages are too large at step {bad['step']} ({what})"
        self.report.log.event(int(bad["step"]), what)
        kept = "nothing was trained before it, and the folder may begin anew"
        if good:  # a folder without checkpoints takes another configuration
            self.save(state, must=False)
            kept = (
                f"the state after step {good} is kept in {self.run}; with another configuration, "
                f"start from it by --init {self.run} and another --workdir (only "
                f"{', '.join(run_folder.FREE)} may change in the same one)"
            )
        return NonFiniteLoss(
            f"{what}; {kept}. Try a lower optim.base_lr, optim.schedule.warmup or optim.clip_norm; "
            "a label that is neither a class nor 255 does this as well (`data check` finds it)"
        )
