"""Train an experiment into a run folder; the same command goes on where a run stopped.

Each session restores the newest whole checkpoint: parameters, optimiser, running averages and the
position in the data. Everything random is a function of seed and step, so a run that was killed
anywhere ends with the same bits as one that was not.

Where to change what training does:
  a term of the loss          `losses.py`: a field of LossConfig and its sum in `loss_sums`
  a metric in the log         `step.py`: an entry of the `metrics` that `train_step` returns
  a field of the optimiser    `optim.py`: a field of OptimConfig and its use in `make_optimizer`
"""

import contextlib
import dataclasses
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from seg_jax import parallel as parallelism
from seg_jax.checks import UserError
from seg_jax.experiment import Experiment
from seg_jax.pretrained import warm_start
from seg_jax.runs import checkpoint
from seg_jax.runs import folder as run_folder
from seg_jax.runs import log as logs
from seg_jax.train import setup, termination
from seg_jax.train.progress import Report, progress_bar
from seg_jax.train_state import TrainState

# Scores the variables after a step on the validation split: called on every process, returns
# numbers for the log. An exception that it raises ends the run, its checkpoint already written.
Evaluate = Callable[[Experiment, Mapping[str, Any], int], Mapping[str, float]]
_log = logging.getLogger(__name__)


class NonFiniteLoss(UserError):
    """The loss or its gradient was infinite or not a number."""


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """What a call of `fit` did.

    Attributes:
      run: the run folder.
      step: updates done, in all sittings.
      trained: updates done in this one; 0: the run was finished before.
      seconds: wall time of this one.
      metrics: the last line of the log that tells of a step.
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
) -> RunSummary:
    """Train an experiment, or go on with it; a finished run is left as it is.

    Args:
      experiment: what to train; must be the one that the folder was begun with, except for the
        fields in `run_folder.FREE`.
      workdir: the run folder; made if it is not there.
      parallel: how the step is compiled over the devices.
      evaluate: called every `train.evaluate_every` steps.
      command: that asked for this, for the log.
      progress: print, and draw a progress bar, on the first process.

    Raises:
      UserError: a mistake in the configuration or the data; the folder holds another run, or one
        at work; a loss that is not finite (NonFiniteLoss); a disk that is full at the end.
      Terminated: SIGTERM came; the state is saved.
    """
    run, settings = Path(workdir), experiment.train
    first = jax.process_index() == 0
    say = print if first and progress else lambda *_: None
    with contextlib.ExitStack() as stack:
        if first:
            stack.enter_context(run_folder.lock(run))
        run_folder.check_resumable(run, experiment)
        start = checkpoint.newest(run)
        if start == settings.steps:
            if first:  # fields that are free to change may have
                run_folder.write_config(run, experiment)
            say(f"{run} is finished (step {start}): nothing to do")
            return RunSummary(run, start, 0, 0.0, logs.last(run, "train"))

        begin = setup.prepare(experiment, run, start, parallel, say)
        state, batches, mesh = begin.state, begin.batches, begin.mesh
        stack.callback(batches.close)
        if first:
            run_folder.write_config(run, experiment)
        log = logs.RunLog(run, begin.start, active=first)
        stack.callback(log.close)
        log.event(begin.start, f"{'resumed' if begin.start else 'started'} {command}".strip())
        if begin.initialised is not None:
            log.write("event", begin.start, begin.initialised.log)
        if evaluate and start is None and _scores_first(settings.evaluate_first, begin.initialised):
            _score_first(experiment, state, log, evaluate, say)
        bar = stack.enter_context(progress_bar(experiment, begin.start, shown=first and progress))
        report = stack.enter_context(Report(experiment, log, bar, batches.get_state()))
        terminated = stack.enter_context(termination.watch())
        key = jax.random.fold_in(jax.random.key(settings.seed), 1)  # the key itself initialised

        for number in range(begin.start + 1, settings.steps + 1):
            with report.fetching():
                batch = parallelism.shard_batch(next(batches), mesh)
            state, metrics = begin.train_step(state, batch, key)
            report.add(number, metrics, position=batches.get_state())

            stop, last = terminated(number), number == settings.steps
            save = stop or last or number % settings.checkpoint_every == 0
            score = evaluate and settings.evaluate_every and number % settings.evaluate_every == 0
            # One step stays in flight while the host fetches the next batch.
            if not report.catch_up(leave=0 if save or score else 1):
                raise _diverged(run, experiment, state, report, begin.metadata)
            if save:
                _save(run, experiment, state, report, begin.metadata, must=stop or last)
            if stop and not last:
                raise _terminated(run, number)
            if score:
                variables = {"params": state.params, "batch_stats": state.batch_stats}
                log.write("evaluate", number, evaluate(experiment, variables, number))
    say(f"trained {run} to step {settings.steps} in {report.seconds():.0f} s")
    trained = settings.steps - begin.start
    return RunSummary(run, settings.steps, trained, report.seconds(), report.last)


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
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    try:
        found = evaluate(experiment, variables, 0)
    except UserError as error:
        if experiment.train.evaluate_first == "yes":
            raise
        say(f"  step 0: not scored ({error})")
        return
    log.write("evaluate", 0, found)
    split = experiment.data.val_split
    shown = ", ".join(f"{name} {100 * value:.2f}" for name, value in found.items())
    say(f"  step 0 on {split}, in percent: {shown} (--train.evaluate-first no skips this)")


def _save(
    run: Path,
    experiment: Experiment,
    state: TrainState,
    report: Report,
    metadata: Mapping[str, Any],
    *,
    must: bool,
) -> None:
    """Write a checkpoint. A failure is logged, and ends the run only if this one must be there."""
    try:
        checkpoint.save(
            run,
            state,
            iterator=report.position,
            metadata=metadata,
            keep=experiment.train.keep,
        )
    except checkpoint.SaveError as error:
        report.log.event(int(state.step), str(error))
        # Several processes cannot go on when only some of them have failed.
        if must or jax.process_count() > 1:
            raise UserError(f"{error}; make room, and the same command goes on") from error
        _log.warning("%s; the run goes on, the last good checkpoint stays", error)


def _diverged(
    run: Path,
    experiment: Experiment,
    state: TrainState,
    report: Report,
    metadata: Mapping[str, Any],
) -> NonFiniteLoss:
    """Save the state before the bad step, and return the error to raise."""
    bad = report.last
    what = f"loss {bad['loss']}, gradient norm {bad['grad_norm']} at step {bad['step']}"
    report.log.event(bad["step"], what)
    _save(run, experiment, state, report, metadata, must=False)
    return NonFiniteLoss(
        f"{what}; the state after step {int(state.step)} is kept in {run}. Try a lower "
        "optim.base_lr, optim.schedule.warmup or optim.clip_norm; a label that is neither a class "
        "nor 255 does this as well (`data check` finds it)"
    )


def _terminated(run: Path, number: int) -> termination.Terminated:
    message = f"{run}: SIGTERM, saved at step {number}; the same command goes on from there"
    if jax.process_index() == 0:
        print(f"\n{message}", file=sys.stderr)
    return termination.Terminated(1)
