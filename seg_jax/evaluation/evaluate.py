"""Score a model on a split: counts at original image size, without void, summed over the split."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seg_jax import checks, data, metrics, parallel
from seg_jax import progress as progress_bar
from seg_jax.evaluation import training_images
from seg_jax.evaluation.accumulator import Accumulator, Batch, Division, Output, Refine
from seg_jax.experiment import Experiment
from seg_jax.inference import forward, strips, windows
from seg_jax.kernels.crf import presets
from seg_jax.types import DATA_AXIS, IGNORE


class Source(Protocol):
    """What evaluation needs of a data set; `seg_jax.data.open_source` returns one."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes by id."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Return {"id": str, "image": uint8 [h w 3], "label": uint8 [h w]}."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Return (height, width) without decoding the image."""
        ...


def evaluate(
    experiment: Experiment,
    variables: Any,
    source: Source,
    *,
    boundaries: bool = True,
    on_image: Callable[[int, np.ndarray], None] | None = None,
    refine: Refine | None = None,
    per_image: np.ndarray | None = None,
    progress: bool = True,
    title: str = "evaluating",
) -> metrics.Scores:
    """Return the counts over a split from which all metrics are computed.

    Runs on all local devices. With several processes, each evaluates a part of the split, and all
    return the counts of the whole split.

    Args:
      experiment: gives model, preprocessing and evaluation protocol.
      variables: of the model.
      source: the split.
      boundaries: also measure boundaries, objects and single images, on the host
        (`metrics.of_image`: about 30 ms for an image of VOC).
      on_image: called with index and prediction, uint8 [h w], of each image when it is complete.
      refine: maps an image, uint8 [h w 3], and its probabilities, float32 [h w k], fused over
        windows, scales and mirror images, to refined probabilities; None: the protocol's CRF, if
        it has one.
      per_image: int64 [n 3 k] of zeros, which receives each image's true, predicted and rightly
        predicted pixels by class; needs `boundaries`.
      progress: draw a progress bar, on the first process.
      title: of the progress bar.

    Raises:
      UserError: the protocol does not fit the model or an image, the model has another number of
        classes than the data set, a label has a value that is no class, or the split is empty.
    """
    windows.check_evaluation(experiment)
    if refine is None and experiment.evaluation.crf:
        refine = presets.refine(experiment.evaluation.crf)
    num_classes = len(source.classes)
    if not len(source):
        raise checks.UserError("the split to evaluate holds no images")
    mesh = parallel.make_mesh(jax.local_devices())
    if jax.process_count() > 1:  # replicated over all processes: take this one's copy
        variables = jax.device_get(variables)
    variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    mine = range(jax.process_index(), len(source), jax.process_count())
    division = Division.of(experiment.evaluation, boundaries=boundaries, refine=refine is not None)
    accumulator = Accumulator(
        source.classes,
        experiment.evaluation,
        division,
        boundaries=boundaries,
        on_image=on_image,
        refine=refine,
        per_image=per_image,
    )
    batches = _batches(experiment, source, mine, mesh.size, accumulator, division)
    shown = progress and jax.process_index() == 0
    with progress_bar.bar(total=len(mine), desc=title, unit="image", shown=shown) as bar:
        for batch, output in _outputs(experiment, variables, batches, mesh, num_classes, division):
            bar.update(accumulator.add(batch, output))
    if per_image is not None and jax.process_count() > 1:
        per_image[...] = _total(per_image)
    return _sum_over_processes(accumulator.scores())


def intermediate(experiment: Experiment, variables: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Score the monitored split during training: the argument `evaluate` of `train.fit`.

    Only regions are scored, and without a CRF, which would take longer than the network.

    Args:
      experiment: the one that is being trained.
      variables: after `step` updates.
      step: for the progress bar.

    Returns:
      `metrics.summary`: "mean_iou", "pixel_accuracy", ..., each in 0..1.
    """
    return _intermediate(experiment, variables, step)[0]


def with_images(experiment: Experiment, variables: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Score the monitored split as `intermediate` does, and draw some of its images.

    The network sees these images once more, which costs less than to fetch every prediction.

    Returns:
      As `intermediate`; and "images", uint8 [h w 3] by name, see `training_images`: with several
      processes, of those that this one evaluates.
    """
    found, scores, source = _intermediate(experiment, variables, step)
    images = training_images.TrainingImages(source)
    if len(images.shown):
        plain = experiment.with_evaluation(crf=None)
        options: Any = {"boundaries": False, "on_image": images.keep, "progress": False}
        evaluate(plain, variables, images.shown, **options)
    return found | {"images": images.images(scores.confusion)}


def _intermediate(
    experiment: Experiment, variables: Mapping[str, Any], step: int
) -> tuple[dict[str, Any], metrics.Scores, Any]:
    """Return the summary of the monitored split, its counts, and the split."""
    source = data.open_configured(experiment.data, experiment.monitored_split)
    experiment = experiment.with_evaluation(crf=None)
    scores = evaluate(
        experiment, variables, source, boundaries=False, title=f"evaluating step {step}"
    )
    return metrics.summary(scores, source.classes), scores, source


def _outputs(
    experiment: Experiment,
    variables: Any,
    batches: Iterator[Batch],
    mesh: Mesh,
    num_classes: int,
    division: Division,
) -> Iterator[tuple[Batch, Output]]:
    """Yield each batch with its output, one batch late: the host reads an output while the device
    computes the next.
    """
    over_devices = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    previous = None
    for batch in batches:
        image = jax.device_put(batch.image, over_devices)
        label = jax.device_put(batch.label, over_devices) if division.device_counts else None
        output = _output(experiment, variables, image, label, num_classes, division)
        if previous is not None:
            yield previous
        previous = (batch, output)
    if previous is not None:
        yield previous


def _output(
    experiment: Experiment,
    variables: Any,
    image: Any,
    label: Any,
    num_classes: int,
    division: Division,
) -> Output:
    """Return the output of one batch; `label`: None unless the device counts."""
    if strips.chosen(experiment.evaluation) and not division.probabilities:
        return Output(*strips.found(experiment, variables, image, label, num_classes))
    found = forward.probabilities(experiment, variables, image)
    checks.scored_classes(found.shape[-1], num_classes)
    prediction = found if division.probabilities else forward.most_probable(found)
    if label is None:
        return Output(prediction, None)
    return Output(prediction, _confusion(label, prediction, num_classes=num_classes))


_confusion = jax.jit(metrics.confusion, static_argnames="num_classes")


def _batches(
    experiment: Experiment,
    source: Source,
    indices: Sequence[int],
    devices: int,
    accumulator: Accumulator,
    division: Division,
) -> Iterator[Batch]:
    """Yield the windows of all images, grouped by shape, in batches that can be divided over the
    devices; with labels if the device counts.
    """
    evaluation = experiment.evaluation
    size = -(-evaluation.batch_size // devices) * devices
    margin = windows.model_margin(experiment.model)
    pad_value = experiment.data.preprocessing.pad_value
    for group in windows.by_input_size([source.size(i) for i in indices], evaluation):
        waiting: list[_Waiting] = []
        for index in (indices[position] for position in group):
            image, label = _checked(source, index)
            cut = windows.cut(image, evaluation, margin=margin, pad_value=pad_value)
            accumulator.begin(index, image, label, cut)
            counted = label if division.device_counts else None
            waiting += [_Waiting(index, counted, window) for window in cut]
            while len(waiting) >= size:
                yield _batch(waiting[:size], size, margin)
                waiting = waiting[size:]
        if waiting:
            yield _batch(waiting, size, margin)


class _Waiting(NamedTuple):
    index: int
    label: np.ndarray | None  # of the image
    window: windows.Window


def _batch(waiting: Sequence[_Waiting], size: int, margin: int) -> Batch:
    image = windows.stack([item.window.image for item in waiting], size)
    label = None
    if waiting[0].label is not None:
        scored = (image.shape[1] - 2 * margin, image.shape[2] - 2 * margin)
        parts = [
            windows.cut_label(item.label, item.window.region, scored)
            for item in waiting
            if item.label is not None
        ]
        label = windows.stack(parts, size, fill=IGNORE)
    return Batch(image, label, [(item.index, item.window) for item in waiting])


def _checked(source: Source, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one image and its label; raise UserError, with its id, if they cannot be scored."""
    example = source[index]
    image, label = example["image"], example["label"]
    if label.shape != image.shape[:2] or label.shape != tuple(source.size(index)):
        raise checks.UserError(
            f"{example['id']}: image {image.shape[:2]}, label {label.shape} and listed size "
            f"{tuple(source.size(index))} (height, width) differ"
        )
    strange = np.unique(label[(label >= len(source.classes)) & (label != IGNORE)])
    if strange.size:
        raise checks.UserError(
            f"{example['id']}: its label holds {strange[:5].tolist()}; a label is a class id in "
            f"0..{len(source.classes) - 1} or {IGNORE} (void)"
        )
    return image, label


def _sum_over_processes(scores: metrics.Scores) -> metrics.Scores:
    if jax.process_count() == 1:
        return scores
    counts = {
        name: _total(value) for name, value in vars(scores).items() if isinstance(value, np.ndarray)
    }
    images = int(_total(np.array([scores.images], np.int64))[0])
    return dataclasses.replace(scores, **counts, images=images)


def _total(array: np.ndarray) -> np.ndarray:
    """Return the sum over processes of an int64 array."""
    # JAX would truncate int64 to int32, so each number is sent as two.
    halves = multihost_utils.process_allgather(np.ascontiguousarray(array).view(np.int32))
    return np.ascontiguousarray(halves).view(np.int64).sum(0)
