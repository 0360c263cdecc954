"""The images on which networks differ most, and what each predicts there."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seg_jax import data
from seg_jax.data.source import Subset
from seg_jax.evaluation import evaluate, example_images
from seg_jax.metrics import bootstrap
from seg_jax.reproduce.plan import Run
from seg_jax.results.files import PREDICTIONS
from seg_jax.runs import checkpoint

COUNT = 4


def most_different(counts: Sequence[np.ndarray], *, number: int = COUNT) -> list[int]:
    """Return the images on which the networks' mean IoU has the largest standard deviation.

    Args:
      counts: int64 [n 3 k] of each network.
      number: of images, at most.
    """
    scores = np.stack([bootstrap.mean_iou(one) for one in counts])  # [networks n]
    spread = np.nan_to_num(scores.std(0), nan=-1.0)
    return [int(index) for index in np.argsort(-spread, kind="stable")[:number]]


def predict(run: Run, indices: Sequence[int], folder: Path) -> None:
    """Write the images, their truth and a run's predictions into folder/predictions."""
    source = data.open_configured(run.experiment.data, run.split)
    experiment, variables, _ = checkpoint.restore_variables(run.folder)
    shutil.rmtree(folder / PREDICTIONS, ignore_errors=True)

    def keep(index: int, prediction: np.ndarray) -> None:
        example_images.write_images(folder / PREDICTIONS, source, indices[index], prediction)

    part = Subset(source, tuple(indices))
    evaluate.evaluate(experiment, variables, part, on_image=keep, boundaries=False, progress=False)
