"""The part of the training images that a search is scored on."""

import dataclasses

from seg_jax import data
from seg_jax.checks import UserError
from seg_jax.experiment import Experiment


def searched(experiment: Experiment, share: float) -> Experiment:
    """Return the experiment, trained without and scored on a share of its training images.

    A score on the images by which a setting was chosen is optimistically biased: the validation
    split stays out of the search.

    Raises:
      UserError: the share is not a whole percent from 0 to 50; the data set is not there, or has
        too few training images for two parts.
    """
    percent = round(100 * share)
    if not 0 <= percent <= 50 or abs(100 * share - percent) > 1e-6:
        raise UserError(f"--search-split {share}: a share of the training images, 0 to 0.5")
    if not percent:
        return experiment
    train = experiment.data.train_split
    parts = {"train_split": f"{train}:but{percent}", "val_split": f"{train}:held{percent}"}
    found = dataclasses.replace(experiment.data, **parts)
    for part in parts.values():
        try:
            data.open_configured(found, part)
        except UserError as error:
            raise UserError(
                f"{error} (--search-split 0 scores on {experiment.data.val_split} instead)"
            ) from error
    return dataclasses.replace(experiment, data=found)


def whole(experiment: Experiment, val_split: str) -> Experiment:
    """Return the experiment of `searched` with all training images, scored on `val_split`."""
    train = experiment.data.train_split.partition(":")[0]
    parts = {"train_split": train, "val_split": val_split}
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, **parts))
