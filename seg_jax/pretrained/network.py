"""A network with weights and all that is needed to use it."""

import dataclasses
from typing import Any

import numpy as np

from seg_jax import checks
from seg_jax.data import label_map
from seg_jax.experiment import Experiment
from seg_jax.inference import windows


@dataclasses.dataclass(frozen=True)
class ImagePreprocessing:
    """Preprocess an image into the input of one forward pass, by the evaluation protocol.

    With a protocol of sliding windows, the whole image is one input; a canvas that is too small
    grows to the next size that the network accepts.

    Attributes:
      experiment: its protocol pads or resizes the image, its preprocessing normalises it.
    """

    experiment: Experiment

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return float32 [h' w' channels] for uint8 [h w 3], RGB.

        Raises:
          UserError: the protocol cuts the image into several windows: a tiled U-Net.
        """
        experiment = self.experiment
        if experiment.evaluation.mode == "sliding":
            experiment = experiment.with_evaluation(mode="whole")
        experiment = windows.covering(experiment, image.shape[:2])
        normalise = experiment.data.preprocessing
        found = windows.cut(
            image,
            experiment.evaluation,
            margin=windows.model_margin(experiment.model),
            pad_value=normalise.pad_value,
        )
        if len(found) > 1:
            raise checks.UserError(
                f"an image of {image.shape[0]}x{image.shape[1]} makes {len(found)} windows of "
                "this network: use inference.predict_probabilities, which merges them"
            )
        return normalise(found[0].image)


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A network with weights.

    Attributes:
      experiment: its model, preprocessing and evaluation protocol are those of the weights.
      variables: of the model: {"params": ..., "batch_stats": ...}, NumPy arrays.
      name: in the catalogue of published weights; empty: not from there.
      own_labels: what came with the weights; None: the labels are the data set's.
    """

    experiment: Experiment
    variables: dict[str, Any]
    name: str = ""
    own_labels: label_map.LabelMap | None = None

    @property
    def model(self) -> Any:
        """The Linen module: `model.apply(variables, x, train=False)["out"]` are the logits."""
        return self.experiment.model

    @property
    def preprocessing(self) -> ImagePreprocessing:
        """From uint8 [h w 3] to the float32 [h' w' channels] that the model takes."""
        return ImagePreprocessing(self.experiment)

    @property
    def labels(self) -> label_map.LabelMap:
        """Names and colours of the classes."""
        if self.own_labels is not None:
            return self.own_labels
        return label_map.find(self.experiment.data, getattr(self.model, "num_classes", 0))
