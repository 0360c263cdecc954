"""Train an experiment into a run folder; the same command goes on where a run stopped.

Each sitting restores the newest whole checkpoint: parameters, optimiser, running averages and the
position in the data. Everything random is a function of seed and step, so a run that was killed
anywhere ends with the same bits as one that was not.
"""

import collections
import contextlib
import dataclasses
import functools
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from seg_jax import checkpoint, data, logs, optim, reporting, run_folder, step, warm_start
from seg_jax import parallel as parallelism
from seg_jax.checks import UserError
from seg_jax.data import pipeline
from seg_jax.data.source import Source
from seg_jax.experiment import Experiment

# Scores the variables after a step on the validation split: called on every process, returns
# numbers for the log. An exception that it raises ends the run, its checkpoint already written.
Evaluate = Callable[[Experiment, Mapping[str, Any], int], Mapping[str, float]]
_log = logging.getLogger(__name__)


class NonFiniteLoss(UserError):
    """The loss or its gradient was infinite or not a number."""


class Terminated(SystemExit):
    """SIGTERM came and the state was saved; ends the program with exit code 1."""


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
    run, first = Path(workdir), jax.process_index() == 0
    say = print if first and progress else lambda *_: None
    with contextlib.ExitStack() as stack:
        if first:
            stack.enter_context(run_folder.lock(run))
        run_folder.check_resumable(run, experiment)
        start, end = checkpoint.newest(run), experiment.train.steps
        if start == end:
            if first:  # fields that are free to change may have
                run_folder.write_config(run, experiment)
            say(f"{run} is finished (step {end}): nothing to do")
            return RunSummary(run, end, 0, 0.0, logs.last(run, "train"))
        job = _prepare(experiment, run, start, parallel, say)
        stack.callback(job.batches.close)
        if first:
            run_folder.write_config(run, experiment)
        log = logs.RunLog(run, job.start, active=first)
        stack.callback(log.close)
        log.event(job.start, f"{'resumed' if job.start else 'started'} {command}".strip())
        bar = stack.enter_context(
            reporting.progress_bar(experiment, job.start, shown=first and progress)
        )
        report = reporting.Report(experiment, log, bar, job.batches.get_state())
        _loop(job, report, evaluate)
    say(f"trained {run} to step {end} in {report.seconds():.0f} s")
    return RunSummary(run, end, end - job.start, report.seconds(), report.last)


@dataclasses.dataclass
class _Job:
    """What the loop works with; `state` is replaced at every step."""

    experiment: Experiment
    run: Path
    mesh: Mesh
    compiled: Callable
    state: step.TrainState
    batches: pipeline.TrainIterator
    start: int
    metadata: dict[str, Any]  # of every checkpoint


def _prepare(
    experiment: Experiment,
    run: Path,
    start: int | None,
    implementation: parallelism.Implementation,
    say: Callable,
) -> _Job:
    """Open the data, and restore the state after step `start` or (None) initialise one."""
    settings = experiment.train
    mesh = parallelism.make_mesh()
    parallelism.check_batch_size(settings.batch_size, mesh, accumulate=settings.accumulate)
    source = _open_data(experiment)
    epochs = settings.steps * settings.batch_size / len(source)
    say(f"{experiment.name or experiment.family} -> {run}")
    say(f"  data   {source.description}")
    say(
        f"  steps  {settings.steps} of {settings.batch_size} images ({epochs:.1f} epochs) "
        f"on {mesh.size} {mesh.devices.flat[0].device_kind} device(s), {settings.precision}"
    )
    metadata = {"images": len(source), "list": source.checksum}
    state, optimizer, position = _first_state(experiment, run, start, source, metadata, say)
    per_device = functools.partial(
        step.train_step,
        model=experiment.model,
        optimizer=optimizer,
        loss=experiment.loss,
        preprocessing=experiment.data.preprocessing,
        learning_rate=functools.partial(optim.learning_rate, experiment.optim, settings.steps),
        precision=settings.precision,
        accumulate=settings.accumulate,
    )
    compiled = parallelism.compile_step(per_device, mesh, implementation=implementation)
    state = parallelism.replicate(state, mesh)
    batches = pipeline.train_dataset(
        source,
        experiment.data,
        batch_size=settings.batch_size,
        seed=settings.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    if position is not None:
        batches.set_state(position)
    return _Job(experiment, run, mesh, compiled, state, batches, start or 0, metadata)


def _open_data(experiment: Experiment) -> Source:
    """Return the training split; a validation split that will be scored is looked at as well."""
    splits = [experiment.data.train_split]
    if experiment.train.evaluate_every:
        splits.append(experiment.data.val_split)
    sources = [
        data.open_source(experiment.data.dataset, experiment.data.root, split) for split in splits
    ]
    return sources[0]


def _first_state(
    experiment: Experiment,
    run: Path,
    start: int | None,
    source: Source,
    metadata: Mapping[str, Any],
    say: Callable,
) -> tuple[step.TrainState, Any, Any]:
    """Return the state to go on from, the optimiser, and the iterator's state (None: the start)."""
    settings = experiment.train
    crop, channels = experiment.data.augmentation.crop, experiment.data.preprocessing.channels
    input_shape = (1, *crop, channels)
    try:
        shapes = step.variable_shapes(experiment.model, input_shape=input_shape)
        optimizer = optim.make_optimizer(experiment.optim, shapes["params"], steps=settings.steps)
    except ValueError as error:  # a crop that the model cannot take, a parameter without a rule
        raise UserError(f"{experiment.name or experiment.family}: {error}") from error
    _check_classes(experiment, shapes, input_shape, source)
    if start is None:
        variables = step.init_variables(
            experiment.model, input_shape=input_shape, seed=settings.seed
        )
        if settings.init:
            variables, report = warm_start.start(variables, experiment, run)
            say("  " + "\n  ".join(report))
        return step.init_state(variables, optimizer), optimizer, None
    like = jax.eval_shape(lambda variables: step.init_state(variables, optimizer), shapes)
    found = checkpoint.restore(run, start, like)
    if found.metadata["list"] != metadata["list"]:
        raise UserError(
            f"{run} was begun with another list of training images ({found.metadata['images']} "
            f"then, {metadata['images']} now): give it that list, or train into another --workdir"
        )
    say(f"  resume after step {start}")
    return found.state, optimizer, found.iterator


def _check_classes(
    experiment: Experiment, shapes: Any, input_shape: tuple[int, ...], source: Source
) -> None:
    """Raise UserError unless the model scores the data set's classes."""
    image = jax.ShapeDtypeStruct(input_shape, jnp.float32)
    apply = functools.partial(experiment.model.apply, train=False)
    scored = jax.eval_shape(apply, shapes, image)["out"].shape[-1]
    if scored != len(source.classes):
        raise UserError(
            f"the model scores {scored} classes, {source.name} has {len(source.classes)}: set "
            f"--model.num-classes {len(source.classes)}"
        )


def _loop(job: _Job, report: reporting.Report, evaluate: Evaluate | None) -> None:
    """Run the steps that are left; the state is saved at the last one, whatever the intervals."""
    settings = job.experiment.train
    key = jax.random.fold_in(jax.random.key(settings.seed), 1)  # the key itself initialised
    pending: collections.deque[reporting.Sent] = collections.deque()
    with futures.ThreadPoolExecutor(1) as reader, _termination() as terminated:
        for number in range(job.start + 1, settings.steps + 1):
            asked = time.monotonic()
            batch = parallelism.shard_batch(next(job.batches), job.mesh)
            fetched = (asked, time.monotonic())
            job.state, metrics = job.compiled(job.state, batch, key)
            result = reader.submit(reporting.read, metrics)
            pending.append(reporting.Sent(number, fetched, result, job.batches.get_state()))
            stop = terminated(number)
            last = number == settings.steps
            save = stop or last or number % settings.checkpoint_every == 0
            score = evaluate and settings.evaluate_every and number % settings.evaluate_every == 0
            # One step stays in flight while the host fetches the next batch.
            while len(pending) > (0 if save or score else 1):
                if not report.finish(pending.popleft()):
                    raise _diverged(job, report)
            if save:
                _save(job, report, must=stop or last)
            if stop and not last:
                raise _terminated(job, number)
            if score:
                variables = {"params": job.state.params, "batch_stats": job.state.batch_stats}
                report.log.write("evaluate", number, evaluate(job.experiment, variables, number))


def _save(job: _Job, report: reporting.Report, *, must: bool) -> None:
    """Write a checkpoint. A failure is logged, and ends the run only if this one must be there."""
    number = int(job.state.step)
    try:
        checkpoint.save(
            job.run,
            job.state,
            iterator=report.position,
            metadata=job.metadata,
            keep=job.experiment.train.keep,
        )
    except checkpoint.SaveError as error:
        report.log.event(number, str(error))
        # Several processes cannot go on when only some of them have failed.
        if must or jax.process_count() > 1:
            raise UserError(f"{error}; make room, and the same command goes on") from error
        _log.warning("%s; the run goes on, the last good checkpoint stays", error)


def _diverged(job: _Job, report: reporting.Report) -> NonFiniteLoss:
    """Save the state before the bad step, and return the error to raise."""
    bad, good = report.last, int(job.state.step)
    what = f"loss {bad['loss']}, gradient norm {bad['grad_norm']} at step {bad['step']}"
    report.log.event(bad["step"], what)
    _save(job, report, must=False)
    return NonFiniteLoss(
        f"{what}; the state after step {good} is kept in {job.run}. Try a lower optim.base_lr, "
        "optim.schedule.warmup or optim.clip_norm; a label that is neither a class nor 255 does "
        "this as well (`data check` finds it)"
    )


def _terminated(job: _Job, number: int) -> Terminated:
    message = f"{job.run}: SIGTERM, saved at step {number}; the same command goes on from there"
    if jax.process_index() == 0:
        print(f"\n{message}", file=sys.stderr)
    return Terminated(1)


@contextlib.contextmanager
def _termination() -> Iterator[Callable[[int], bool]]:
    """Yield a function that says, after a step, whether SIGTERM came, alike on all processes."""
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    if threading.current_thread() is not threading.main_thread():  # only it may handle signals
        yield lambda number: False
        return
    came = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield lambda number: came.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)
