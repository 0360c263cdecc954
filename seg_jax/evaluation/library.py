"""What `import seg_jax as sj` offers as functions: `sj.fit`, `sj.evaluate`, `sj.predict`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from seg_jax import checks, data, metrics, pretrained
from seg_jax.data import images as image_files
from seg_jax.evaluation import evaluate as evaluation
from seg_jax.experiment import Experiment
from seg_jax.inference import predict as prediction
from seg_jax.pretrained import Pretrained
from seg_jax.train import loop

Network = Pretrained | str | Path


def fit(
    experiment: Experiment,
    workdir: str | Path,
    *,
    batches: Iterable[Any] | None = None,
    extend: bool = False,
    progress: bool = True,
) -> Pretrained:
    """Train an experiment into a run folder, or go on with it; return the trained network.

    Args:
      experiment: what to train, e.g. `sj.experiment.get(name)` with fields replaced.
      workdir: the run folder.
      batches: any iterable of training batches in place of the experiment's data, see
        `data.given.GivenBatches`; it is iterated again when it ends.
      extend: see `train.loop.fit`.
      progress: print, and draw a progress bar.

    Raises:
      UserError: as `train.loop.fit`.
    """
    loop.fit(
        experiment,
        Path(workdir),
        evaluate=evaluation.with_images if experiment.train.evaluate_every else None,
        command="seg_jax.fit",
        batches=batches,
        extend=extend,
        progress=progress,
    )
    return pretrained.load(workdir)


def evaluate(
    network: Network,
    source: evaluation.Source | None = None,
    *,
    boundaries: bool = True,
    progress: bool = True,
) -> metrics.Scores:
    """Score a network under its experiment's protocol.

    Args:
      network: from `sj.load` or `sj.fit`, or what `sj.load` takes.
      source: from `sj.data.open_source`, or any sequence of {"id", "image", "label"} with `classes`
        and `size`; None: the experiment's validation split.
      boundaries: also score boundaries, objects and single images.
      progress: draw a progress bar.

    Returns:
      The counts; their properties are the metrics: `mean_iou`, `per_class_iou`, ...
    """
    loaded = _loaded(network)
    where = loaded.experiment.data
    if source is None:
        source = data.open_configured(where, where.val_split)
    return evaluation.evaluate(
        loaded.experiment, loaded.variables, source, boundaries=boundaries, progress=progress
    )


def predict(
    network: Network, image: np.ndarray | str | Path, *, probabilities: bool = False
) -> np.ndarray:
    """Return the label map of one image at its own size, under the experiment's protocol.

    Args:
      network: from `sj.load` or `sj.fit`, or what `sj.load` takes.
      image: uint8 [h w 3], RGB, or an image file.
      probabilities: return the classes' probabilities instead.

    Returns:
      uint8 [h w]; or float32 [h w k].
    """
    loaded = _loaded(network)
    if isinstance(image, str | Path):
        image = image_files.read_upright(Path(image))
    checks.image_batch(image[None], "image", "[h w 3]")
    return prediction.predict_image(
        loaded.experiment, loaded.variables, image, probabilities=probabilities
    )


def _loaded(network: Network) -> Pretrained:
    return network if isinstance(network, Pretrained) else pretrained.load(network)
