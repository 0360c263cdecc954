"""A split in memory and a network of a few weights, for tests of what comes after training."""

import dataclasses

import numpy as np
from flax import linen as nn

from seg_jax import config, experiment, optim
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import Preprocessing
from seg_jax.types import IGNORE, voc_palette

CLASSES = ("background", "disc", "bar")
TRACES = []  # one entry for every time a network is traced


@config.register_type
class SmallNet(nn.Module):
    """A 3x3 or 5x5 convolution, and a pixelwise one; valid padding cuts `margin` off."""

    num_classes: int = len(CLASSES)
    padding: str = "SAME"
    kernel: int = 3

    @property
    def margin(self) -> int:
        return self.kernel // 2 if self.padding == "VALID" else 0

    @nn.compact
    def __call__(self, image, *, train):
        TRACES.append(image.shape)
        x = nn.Conv(4, (self.kernel, self.kernel), padding=self.padding, name="mix")(image)
        return {"out": nn.Conv(self.num_classes, (1, 1), name="score")(nn.relu(x))}


@dataclasses.dataclass
class MemorySource:
    """A split in memory: random pictures of the given (height, width)s, with labels to match."""

    sizes: tuple[tuple[int, int], ...]
    classes: tuple[str, ...] = CLASSES
    seed: int = 0
    name: str = "memory"
    split: str = "val"
    palette: np.ndarray = dataclasses.field(default_factory=voc_palette)

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        rng = np.random.default_rng((self.seed, index))
        height, width = self.sizes[index]
        label = np.zeros((height, width), np.uint8)
        rows, columns = np.indices(label.shape)
        label[(rows - height // 2) ** 2 + (columns - width // 3) ** 2 < (height // 3) ** 2] = 1
        label[:, 2 * width // 3 : 2 * width // 3 + 2] = 2
        label[0, 1::2] = IGNORE
        image = rng.integers(0, 60, (height, width, 3)) + 60 * np.minimum(label, 3)[..., None]
        return {"id": f"image{index}", "image": image.astype(np.uint8), "label": label}

    def size(self, index):
        return self.sizes[index]

    @property
    def ids(self):
        return tuple(f"image{index}" for index in range(len(self)))

    @property
    def description(self):
        return f"{self.name} {self.split}: {len(self)} images"

    @property
    def checksum(self):
        return "0" * 64


def small_experiment(model=None, **evaluation) -> experiment.Experiment:
    """An experiment around the network; its mean is what 8 bits can hold, so padding is exact 0."""
    return experiment.Experiment(
        family="Small",
        paper="none",
        model=model or SmallNet(),
        data=DataConfig(
            dataset="memory",
            augmentation=Augmentation(crop=(16, 16)),
            preprocessing=Preprocessing(mean=(100.0, 90.0, 80.0), std=(50.0, 50.0, 50.0)),
        ),
        optim=optim.OptimConfig(base_lr=0.1),
        train=experiment.TrainConfig(steps=1, batch_size=4),
        evaluation=experiment.EvalConfig(**{"bucket": 16, "trimap_px": (1, 3), **evaluation}),
        name="small",
    )


def small_variables(model, seed=0):
    """Random weights as NumPy arrays, large enough that all classes are predicted."""
    rng = np.random.default_rng(seed)
    kernel = (model.kernel, model.kernel, 3, 4)
    shapes = {
        "mix": {"kernel": kernel, "bias": (4,)},
        "score": {"kernel": (1, 1, 4, model.num_classes), "bias": (model.num_classes,)},
    }
    draw = lambda shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return {
        "params": {name: {k: draw(s) for k, s in part.items()} for name, part in shapes.items()}
    }
