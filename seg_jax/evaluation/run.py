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
from seg_jax.data.validate import meaning
from seg_jax.evaluation import evaluate
from seg_jax.evaluation.example_images import ExampleImages
from seg_jax.experiment import Experiment
from seg_jax.inference import protocols
from seg_jax.papers import Protocol
from seg_jax.results import files, image_counts, provenance, record, searched
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
    worst: int = 0,
    on_counts: Callable[[image_counts.ImageCounts], None] | None = None,
    progress: bool = True,
) -> record.Record:
    """Score a checkpoint of a run and write its record and a few predictions.

    Beside each record are the counts of its images: `results.image_counts`.

    RUN/result.json is the record of the experiment's own validation split under its own protocol.
    Another split's, protocol's or checkpoint's is RUN/result_<split>_<protocol>_<checkpoint>.json,
    with what differs.

    Args:
      run: the run folder.
      split: evaluate this list instead of the experiment's `data.val_split`.
      root: the data set's folder, if it is not where the experiment says.
      experiment: the run's with another evaluation protocol, or with another output stride; only
        here does `data.allow_outside` count.
      checkpoint: "newest", "best" or a step; empty: the best if the run chooses one by
        `train.best_metric`, else the newest.
      command: that asked for this, for the record.
      worst: images with the lowest IoU that are kept for the report; fewer than 4 count as 4.
      on_counts: called with the counts of the images, before anything is written.
      progress: draw a progress bar.

    Raises:
      UserError: the run holds no checkpoint, the data are not there, or a label is wrong.
      NotWritten: all was computed, but the folder cannot be written; it carries the record.
    """
    run = Path(run)
    run_folder.refuse_links(run)
    trained, variables, step = checkpoints.restore_variables(run, checkpoint)
    permitted = experiment or trained
    experiment = run_folder.without_permissions(permitted)
    root, own_split = root or experiment.data.root, experiment.data.val_split
    stored = "" if checkpoint in ("", checkpoints.default(trained)) else f"_step{step}"
    name = file_name(trained, experiment, split, checkpoint=stored)
    own = name == files.FILE
    source = data.open_configured(permitted.data, split or own_split, root=root)
    per_image = np.zeros((len(source), 3, len(source.classes)), np.int64)
    images = None
    if own and _is_first():
        images = ExampleImages(run / files.PREDICTIONS, source, per_image, worst=worst)
    try:
        result = score(
            experiment,
            variables,
            source,
            run=run.resolve().name,
            training=_training(run, permitted, root, variables, step),
            command=command,
            found=searched.load(run),
            on_image=images.keep if images else None,
            per_image=per_image,
            progress=progress,
        )
        found = image_counts.ImageCounts(_ids(source), per_image)
        if on_counts:
            on_counts(found)
        if _is_first():
            path = run / name
            try:
                # Before the record: beside no record is a file that is not its own.
                image_counts.save(found, result.classes, image_counts.path_of(path))
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


def file_name(
    trained: Experiment, evaluated: Experiment, split: str | None, *, checkpoint: str = ""
) -> str:
    """Return the name of the record of a run's evaluation, within its folder.

    Args:
      trained: the run's experiment.
      evaluated: the same, or with another protocol or output stride.
      split: list of images; None: the experiment's own.
      checkpoint: suffix of one that is not the run's usual.
    """
    suffix = "" if split in (None, evaluated.data.val_split) else f"_{split}"
    if evaluated != trained:
        name = protocols.name_of(evaluated.evaluation) or "protocol"
        suffix += f"_{name}_{config.digest(evaluated)[:6]}"
    return Path(files.FILE).with_stem(f"result{suffix}{checkpoint}").name


def _ids(source: Source) -> tuple[str, ...]:
    return tuple(map(str, source.ids))


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
    found: searched.Searched | None = None,
    on_image: Callable[[int, np.ndarray], None] | None = None,
    per_image: np.ndarray | None = None,
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
      found: the sweep that chose the settings.
      on_image: see `evaluate.evaluate`.
      per_image: see there.
      progress: draw a progress bar.
    """
    started = time.monotonic()
    scores = evaluate.evaluate(
        experiment, variables, source, on_image=on_image, per_image=per_image, progress=progress
    )
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
        searched=found,
        **provenance.of_this_process(),
    )


def meaningless(result: record.Record) -> list[str]:
    """Return what makes a score meaningless, from the pixels of each class in the truth."""
    pixels = np.asarray(result.scores.confusion).sum(axis=1)
    return meaning.class_warnings(result.classes, pixels)


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
            data.open_configured(experiment.data, experiment.data.train_split, root=root)
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
