"""Score a model on a split: at original image size, void ignored, divided once over the split."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from seg_jax import checks, inference, metrics, parallel
from seg_jax.experiment import Experiment
from seg_jax.types import DATA_AXIS, IGNORE


class Source(Protocol):
    """What evaluation asks of a data set; `seg_jax.data.open_source` returns one."""

    classes: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return {"id": str, "image": uint8 [h w 3], "label": uint8 [h w]}."""

    def size(self, index: int) -> tuple[int, int]:
        """Return (height, width) without decoding the image."""


class _Batch(NamedTuple):
    """Windows of one shape; the last batch of a shape is filled up with all-IGNORE labels."""

    image: np.ndarray  # uint8 [n h w 3]
    label: np.ndarray  # uint8 [n h' w']
    regions: list[tuple[int, tuple[slice, slice]]]  # image and region of each real window


def evaluate(
    experiment: Experiment,
    variables: Any,
    source: Source,
    *,
    boundaries: bool = True,
    on_image: Callable[[int, np.ndarray], None] | None = None,
    progress: bool = True,
) -> metrics.Scores:
    """Return the sums from which every metric of the split is divided.

    Runs on all local devices, and with several processes each takes its part of the split; every
    process gets the sums of all.

    Args:
      experiment: its model, preprocessing and evaluation protocol are used.
      variables: of the model.
      source: the split.
      boundaries: also count trimap bands and boundary F1, on the host (about 20 ms an image).
      on_image: called with index and prediction, uint8 [h w], of every image as it is done.
      progress: draw a progress bar.

    Raises:
      UserError: the protocol does not fit the model or an image, the model's classes are not the
        data set's, a label holds another value, or the split is empty.
    """
    inference.check_protocol(experiment)
    num_classes = len(source.classes)
    if not len(source):
        raise checks.UserError("the split to evaluate holds no images")
    mesh = parallel.make_mesh(jax.local_devices())
    if jax.process_count() > 1:  # replicated over all processes: take this one's copy
        variables = jax.device_get(variables)
    variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    mine = range(jax.process_index(), len(source), jax.process_count())
    sums = metrics.Scores.zero(num_classes, experiment.evaluation.trimap_px)
    tally = _Tally(sums, boundaries=boundaries, on_image=on_image)
    batches = _batches(experiment, source, mine, mesh.size, tally)
    with tqdm(
        total=len(mine), desc="evaluating", unit="image", disable=not progress, leave=False
    ) as bar:
        for answered in _answers(experiment, variables, batches, mesh, num_classes):
            bar.update(tally.add(*answered))
    return _sum_over_processes(tally.scores())


def _answers(
    experiment: Experiment, variables: Any, batches: Iterator[_Batch], mesh: Mesh, num_classes: int
) -> Iterator[tuple[_Batch, tuple[Any, Any]]]:
    """Yield every batch with its answer, one behind: the host reads a batch's answer while the
    device works on the next.
    """
    over_devices = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    previous = None
    for batch in batches:
        image, label = jax.device_put((batch.image, batch.label), over_devices)
        answer = _score(
            variables,
            image,
            label,
            model=experiment.model,
            preprocessing=experiment.data.preprocessing,
            num_classes=num_classes,
        )
        if previous is not None:
            yield previous
        previous = (batch, answer)
    if previous is not None:
        yield previous


@functools.partial(jax.jit, static_argnames=("model", "preprocessing", "num_classes"))
def _score(
    variables: Any, image: Any, label: Any, *, model: Any, preprocessing: Any, num_classes: int
) -> tuple[Any, Any]:
    """Return the batch's confusion matrix, int32 [k k], and its prediction, uint8 [n h w]."""
    logits = inference.logits(variables, image, model=model, preprocessing=preprocessing)
    if logits.shape[-1] != num_classes:
        raise checks.UserError(
            f"the model scores {logits.shape[-1]} classes, the data set has {num_classes}"
        )
    prediction = jnp.argmax(logits, axis=-1).astype(jnp.uint8)
    return metrics.confusion(label, prediction, num_classes), prediction


class _Tally:
    """Adds batches up, and images once all their windows are there."""

    def __init__(
        self,
        sums: metrics.Scores,
        *,
        boundaries: bool,
        on_image: Callable[[int, np.ndarray], None] | None,
    ):
        self._sums = sums
        self._boundaries = boundaries
        self._on_image = on_image
        self._images = 0
        self._open: dict[int, _OpenImage] = {}

    def begin(self, index: int, label: np.ndarray, window_count: int) -> None:
        """Announce an image, before its windows come."""
        self._open[index] = _OpenImage(label, np.zeros(label.shape, np.uint8), window_count)

    def add(self, batch: _Batch, answer: tuple[Any, Any]) -> int:
        """Count a batch; return how many images are complete with it."""
        counts, predictions = answer
        self._sums.confusion[...] += np.asarray(counts)
        wanted = self._boundaries or self._on_image is not None
        predictions = np.asarray(predictions) if wanted else None
        complete = 0
        for slot, (index, region) in enumerate(batch.regions):
            image = self._open[index]
            if wanted:
                inference.place(image.prediction, region, predictions[slot])
            image.missing -= 1
            if not image.missing:
                complete += 1
                self._close(index, self._open.pop(index))
        self._images += complete
        return complete

    def _close(self, index: int, image: "_OpenImage") -> None:
        if self._boundaries:
            pair, num_classes = (image.label, image.prediction), len(self._sums.confusion)
            bands = metrics.trimap_confusion(*pair, num_classes, self._sums.trimap_px)
            self._sums.trimap[...] += bands
            edges = metrics.boundary_f1(*pair, num_classes)
            self._sums.boundary[...] += metrics.boundary_sums(edges)
        if self._on_image is not None:
            self._on_image(index, image.prediction)

    def scores(self) -> metrics.Scores:
        """Return the sums so far."""
        return dataclasses.replace(self._sums, images=self._images)


@dataclasses.dataclass
class _OpenImage:
    label: np.ndarray  # uint8 [h w]
    prediction: np.ndarray  # uint8 [h w], as far as its windows are there
    missing: int  # windows still to come


def _batches(
    experiment: Experiment, source: Source, indices: Sequence[int], devices: int, tally: _Tally
) -> Iterator[_Batch]:
    """Yield the windows of all images, grouped by shape, in batches that split over the devices."""
    evaluation = experiment.evaluation
    size = -(-evaluation.batch_size // devices) * devices
    margin = inference.model_margin(experiment.model)
    pad_value = experiment.data.preprocessing.pad_value
    for group in inference.by_input_size([source.size(i) for i in indices], evaluation):
        waiting: list[tuple[int, np.ndarray, inference.Window]] = []
        for index in (indices[position] for position in group):
            image, label = _checked(source, index)
            cut = inference.windows(image, evaluation, margin=margin, pad_value=pad_value)
            tally.begin(index, label, len(cut))
            waiting += [(index, label, window) for window in cut]
            while len(waiting) >= size:
                yield _batch(waiting[:size], size, margin)
                waiting = waiting[size:]
        if waiting:
            yield _batch(waiting, size, margin)


def _batch(
    waiting: Sequence[tuple[int, np.ndarray, inference.Window]], size: int, margin: int
) -> _Batch:
    height, width = waiting[0][2].image.shape[:2]
    label = np.full((size, height - 2 * margin, width - 2 * margin), IGNORE, np.uint8)
    for slot, (_, truth, window) in zip(label, waiting, strict=False):
        inference.place(
            slot, tuple(slice(0, r.stop - r.start) for r in window.region), truth[window.region]
        )
    return _Batch(
        inference.stack([window.image for _, _, window in waiting], size),
        label,
        [(index, window.region) for index, _, window in waiting],
    )


def _checked(source: Source, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one pair; a pair that cannot be scored is a UserError that names it."""
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

    def total(array: np.ndarray) -> np.ndarray:
        # JAX would cut int64 to int32: send each number as two.
        halves = multihost_utils.process_allgather(np.ascontiguousarray(array).view(np.int32))
        return np.ascontiguousarray(halves).view(np.int64).sum(0)

    return dataclasses.replace(
        scores,
        confusion=total(scores.confusion),
        trimap=total(scores.trimap),
        boundary=total(scores.boundary),
        images=int(total(np.array([scores.images], np.int64))[0]),
    )
