"""Everything the training loop begins with: data, model, optimiser, compiled step, first state."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from seg_jax import checks, data, metrics, train_state
from seg_jax import parallel as parallelism
from seg_jax.checks import UserError
from seg_jax.data import given as given_batches
from seg_jax.data import pipeline
from seg_jax.data.source import Source
from seg_jax.experiment import Experiment
from seg_jax.inference import windows
from seg_jax.pretrained import averages, warm_start
from seg_jax.runs import checkpoint
from seg_jax.runs import folder as run_folder
from seg_jax.train import own_data, program


@dataclasses.dataclass(frozen=True)
class Setup:
    """What the loop begins with.

    Attributes:
      mesh: of all devices.
      train_step: (state, batch, key) -> (state, metrics), compiled over the mesh.
      state: after step `start`, on every device.
      batches: of this process, from step `start` on.
      start: updates done before.
      metadata: of every checkpoint.
      meter: state of the meter after step `start`, None: it begins with nothing.
      initialised: what `train.init` gave; None: nothing, or the run goes on.
    """

    mesh: Mesh
    train_step: Callable
    state: train_state.TrainState
    batches: pipeline.TrainIterator | given_batches.GivenBatches
    start: int
    metadata: dict[str, Any]
    meter: Mapping[str, Any] | None
    initialised: warm_start.Start | None = None


def prepare(
    experiment: Experiment,
    run: Path,
    start: int | None,
    implementation: parallelism.Implementation,
    say: Callable,
    *,
    given: Iterable[Any] | None = None,
) -> Setup:
    """Open the data, and restore the state after step `start` or (None) initialise one.

    Args:
      experiment: to train.
      run: its folder.
      start: updates done; None: none.
      implementation: of the parallel step.
      say: prints a line.
      given: batches in place of the experiment's training data.
    """
    settings = experiment.train
    if start is None:
        warm_start.check(experiment, run)
    mesh = parallelism.make_mesh()
    parallelism.check_batch_size(settings.batch_size, mesh, accumulate=settings.accumulate)
    warn = say if start is None else lambda _: None
    source = _open_data(experiment, warn, given=given is not None)
    epochs = settings.steps * settings.batch_size / len(source) if source else 0
    say(f"{experiment.name or experiment.family} -> {run}")
    say(f"  data   {source.description if source else 'batches given by the program'}")
    say(
        f"  steps  {settings.steps} of {settings.batch_size} images "
        f"{f'({epochs:.1f} epochs) ' if source else ''}"
        f"on {mesh.size} {mesh.devices.flat[0].device_kind} device(s), {settings.precision}"
    )
    metadata = {
        "images": len(source) if source else None,
        "list": source.checksum if source else "batches given by the program",
        checkpoint.IDENTITY: run_folder.identity(experiment),
    }
    for warning in averages.warnings(experiment) if start is None else ():
        say(f"  {warning}")
    if start is None and source is not None:
        own_data.check_start(experiment, source, say)
    state, saved, initialised = _first_state(
        experiment, run, start, source, metadata, say, given=given
    )
    compiled = program.bound_step(experiment, mesh, implementation)
    state = parallelism.replicate(state, mesh)
    if source is None:
        assert given is not None
        share = settings.batch_size // jax.process_count()
        batches = given_batches.GivenBatches(given, batch_size=share)
    else:
        batches = pipeline.train_dataset(
            source,
            experiment.data,
            batch_size=settings.batch_size,
            seed=settings.seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
    if saved is not None:
        batches.set_state(saved.iterator)
    meter = saved.metadata.get("meter") if saved else None
    meter = meter if isinstance(meter, dict) else None
    return Setup(mesh, compiled, state, batches, start or 0, metadata, meter, initialised)


def _open_data(experiment: Experiment, say: Callable, *, given: bool) -> Source | None:
    """Return the training split, None if batches are given; check that a validation split can be
    scored, if it will be.
    """
    source = None
    if not given:
        source = _open(experiment, experiment.data.train_split)
        own_data.check_classes(experiment, source)
    if experiment.train.evaluate_every:
        monitored = _open(experiment, experiment.monitored_split)
        _check_evaluation(experiment, monitored)
        metric = experiment.train.best_metric
        known = metrics.summary_names(monitored.classes)
        if metric and metric not in known:
            raise UserError(f"train.best_metric: {checks.unknown(metric, known)}")
        return source
    try:
        later = _open(experiment, experiment.data.val_split)
    except UserError:
        return source  # nothing to score is no mistake, if nothing is scored here
    try:
        _check_evaluation(experiment, later)
    except UserError as error:
        say(f"  warning: `evaluate` will refuse this run: {error}")
    return source


def _check_evaluation(experiment: Experiment, source: Source) -> None:
    """Raise UserError unless the protocol fits every image.

    Reads the headers of the images only. Otherwise the first evaluation would find it, after hours.
    """
    windows.check_evaluation(experiment)
    for index in range(len(source)):
        try:
            windows.input_size(source.size(index), experiment.evaluation)
        except UserError as error:
            where = f"{source.name} {source.split}, image {source.ids[index]}"
            raise UserError(f"{where}: {error}") from error


def _open(experiment: Experiment, split: str) -> Source:
    return data.open_configured(experiment.data, split)


def _first_state(
    experiment: Experiment,
    run: Path,
    start: int | None,
    source: Source | None,
    metadata: Mapping[str, Any],
    say: Callable,
    *,
    given: Iterable[Any] | None,
) -> tuple[train_state.TrainState, checkpoint.Checkpoint | None, warm_start.Start | None]:
    """Return the state to go on from, the checkpoint (None: the start), and what `train.init`
    gave.
    """
    settings = experiment.train
    crop, channels = experiment.data.augmentation.crop, experiment.data.preprocessing.inputs
    input_shape = (1, *crop, channels)
    ema = settings.ema_decay > 0
    try:
        shapes = train_state.variable_shapes(experiment.model, input_shape=input_shape)
        optimizer = program.optimizer(experiment, shapes["params"])
    except ValueError as error:  # a crop that the model cannot take, a parameter without a rule
        raise UserError(f"{experiment.name or experiment.family}: {error}") from error
    if source is not None:
        own_data.check_scores(experiment, shapes, input_shape, source)
    if start is None:
        variables = train_state.init_variables(
            experiment.model, input_shape=input_shape, seed=settings.seed
        )
        found = None
        if settings.init not in warm_start.SCRATCH:
            images = (
                functools.partial(_given_images, given)
                if source is None
                else functools.partial(_images, source, experiment)
            )
            found = warm_start.start(variables, experiment, run, images=images)
            variables = found.variables
            say("  " + "\n  ".join(found.report))
        return train_state.init_state(variables, optimizer, ema=ema), None, found
    like = jax.eval_shape(lambda v: train_state.init_state(v, optimizer, ema=ema), shapes)
    found = checkpoint.restore(run, start, like)
    if found.metadata.get("list") != metadata["list"]:
        raise UserError(
            f"{run} was begun with another list of training images ({found.metadata.get('images')} "
            f"then, {metadata['images']} now): give it that list, or train into another --workdir"
        )
    say(f"  resume after step {start}")
    return found.state, found, None


def _images(source: Source, experiment: Experiment) -> Iterator[np.ndarray]:
    """Yield training images as the network is to see them, uint8 [n h w 3], endlessly."""
    settings = dataclasses.replace(experiment.data, workers=0, repeat_classes=(), weight_map="none")
    size = min(8, experiment.train.batch_size)
    batches = pipeline.train_dataset(source, settings, batch_size=size, seed=experiment.train.seed)
    with contextlib.closing(batches):
        for batch in batches:
            yield batch["image"]


def _given_images(given: Any) -> Iterator[np.ndarray]:
    """Yield the images of given batches, uint8 [n h w 3]; none of an iterator, which would then
    lack them in the training.
    """
    if iter(given) is given:
        return
    for batch in given:
        yield given_batches.as_batch(batch)["image"]
