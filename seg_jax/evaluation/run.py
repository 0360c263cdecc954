"""Score a run and put the result, and a few images of it, into its folder."""

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from seg_jax import checks, config, data
from seg_jax.data.source import Source
from seg_jax.evaluation import evaluate
from seg_jax.evaluation.example_images import ExampleImages
from seg_jax.experiment import Experiment
from seg_jax.inference import protocols
from seg_jax.papers import Protocol
from seg_jax.results import files, provenance, record
from seg_jax.runs import checkpoint as checkpoints
from seg_jax.runs import folder as run_folder
from seg_jax.runs import log, selection


class NotWritten(checks.UserError):
    """A run was scored, but its folder cannot be written.

    Attributes:
      record: the result.
      read_only: the folder is not for writing, so that nothing else was to be expected.
    """

    def __init__(self, record: record.Record, error: OSError, path: Path):
        what = error.strerror or str(error)
        super().__init__(f"{path}: not written ({what}); what was there before is unchanged")
        self.record = record
        self.read_only = error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)


def evaluate_run(
    run: Path,
    *,
    split: str | None = None,
    root: Path | None = None,
    experiment: Experiment | None = None,
    checkpoint: str = "",
    command: str = "",
    progress: bool = True,
) -> record.Record:
    """Score a checkpoint of a run and write its record and a few predictions.

    RUN/result.json is the record of the experiment's own validation split under its own protocol.
    Another split's, protocol's or checkpoint's is RUN/result_<split>_<protocol>_<checkpoint>.json,
    with what differs.

    Args:
      run: the run folder.
      split: evaluate this list instead of the experiment's `data.val_split`.
      root: the data set's folder, if it is not where the experiment says.
      experiment: the run's with another evaluation protocol, or with another output stride.
      checkpoint: "newest", "best" or a step; empty: the best if the run chooses one by
        `train.best_metric`, else the newest.
      command: that asked for this, for the record.
      progress: draw a progress bar.

    Raises:
      UserError: the run holds no checkpoint, the data are not there, or a label is wrong.
      NotWritten: all was computed, but the folder cannot be written; it carries the record.
    """
    run = Path(run)
    run_folder.refuse_links(run)
    trained, variables, step = checkpoints.restore_variables(run, checkpoint)
    experiment = experiment or trained
    root, own_split = root or experiment.data.root, experiment.data.val_split
    suffix = "" if split in (None, own_split) else f"_{split}"
    if experiment != trained:
        name = protocols.name_of(experiment.evaluation) or "protocol"
        suffix += f"_{name}_{config.digest(experiment)[:6]}"
    if checkpoint not in ("", checkpoints.default(trained)):
        suffix += f"_step{step}"
    own = not suffix
    allow_outside = experiment.data.allow_outside
    source = data.open_source(
        experiment.data.dataset, root, split or own_split, allow_outside=allow_outside
    )
    images = ExampleImages(run / files.PREDICTIONS, source) if own and _is_first() else None
    try:
        result = score(
            experiment,
            variables,
            source,
            run=run.resolve().name,
            training=_training(run, experiment, root, variables, step),
            command=command,
            on_image=images.keep if images else None,
            progress=progress,
        )
        if _is_first():
            path = (run / files.FILE).with_stem(f"result{suffix}")
            try:
                files.save(result, path)
                if images:
                    path = run / files.PREDICTIONS
                    images.publish()
            except OSError as error:
                raise NotWritten(result, error, path) from error
    finally:
        if images:
            images.close()
    return result


def _is_first() -> bool:
    return jax.process_index() == 0


def score(
    experiment: Experiment,
    variables: Any,
    source: Source,
    *,
    run: str,
    training: record.Training,
    weights: record.PublishedWeights | None = None,
    command: str = "",
    on_image: Callable[[int, np.ndarray], None] | None = None,
    progress: bool = True,
) -> record.Record:
    """Score a network on a split; return the record.

    Args:
      experiment: its model, preprocessing and evaluation are used.
      variables: of the model.
      source: the split.
      run: name of the run's folder, or of the weights.
      training: how the weights came about.
      weights: published ones; None: those of a run.
      command: that asked for this, for the record.
      on_image: see `evaluate.evaluate`.
      progress: draw a progress bar.
    """
    started = time.monotonic()
    scores = evaluate.evaluate(experiment, variables, source, on_image=on_image, progress=progress)
    evaluation = experiment.evaluation
    return record.Record(
        schema=record.SCHEMA,
        experiment=experiment.name,
        family=experiment.family,
        run=run,
        config=config.to_dict(experiment),
        digest=config.digest(experiment),
        data=describe(source),
        classes=tuple(source.classes),
        protocol=Protocol(
            output_stride=getattr(experiment.model, "output_stride", None),
            scales=evaluation.scales,
            flip=evaluation.flip,
            crf=evaluation.crf is not None,
        ),
        cutting=protocols.words(evaluation),
        training=training,
        counts=record.counts_of(scores),
        evaluation_seconds=round(time.monotonic() - started, 3),
        command=command,
        weights=weights,
        **provenance.of_this_process(),
    )


def describe(source: Source) -> record.Split:
    """Return what a record keeps of a split."""
    return record.Split(
        name=source.name,
        split=source.split,
        images=len(source),
        description=source.description,
        checksum=source.checksum,
    )


def _training(
    run: Path, experiment: Experiment, root: Path | None, variables: Any, step: int
) -> record.Training:
    try:
        split = describe(
            data.open_source(
                experiment.data.dataset,
                root,
                experiment.data.train_split,
                allow_outside=experiment.data.allow_outside,
            )
        )
    except checks.UserError:
        split = None  # an evaluation needs no training images
    return record.Training(
        data=split,
        pretraining=log.pretraining(run) or experiment.train.init or "none",
        steps=int(step),
        batch_size=experiment.train.batch_size,
        crop=tuple(experiment.data.augmentation.crop),
        seed=experiment.train.seed,
        seconds=log.training_seconds(run),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        selection=_selection(run, experiment, step),
    )


def _selection(run: Path, experiment: Experiment, step: int) -> str:
    """Return how a checkpoint was chosen, in words; empty: it is the last or none of the best."""
    metric = experiment.train.best_metric
    scores = selection.scores(run, metric) if metric else {}
    if selection.best(scores) != step:
        return ""
    return f"best of {len(scores)} by {metric} on {experiment.monitored_split}"
