"""A network, batches and a per-device step small enough for tests of training."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from seg_jax import optim, parallel, train_state
from seg_jax.config import register_type
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import Preprocessing
from seg_jax.experiment import Experiment, TrainConfig
from seg_jax.losses import LossConfig
from seg_jax.nn import norm as norms
from seg_jax.nn import remat, upsampled
from seg_jax.nn.norm import Norm
from seg_jax.nn.resize import resize_half_pixel
from seg_jax.optim import OptimConfig, Rule, Schedule
from seg_jax.train import step
from seg_jax.types import IGNORE, VOC_CLASSES

CLASSES = 3
MEAN = LossConfig()
OPTIM = OptimConfig(
    0.1,
    weight_decay=1e-3,
    schedule=Schedule("poly"),
    rules=(Rule("score/.*", lr=10.0), *optim.CAFFE_RULES),
)


@register_type
class Tiny(nn.Module):
    """conv, norm (optional), dropout: its one block; conv; float32 logits.

    With a stride the convolution before the logits has it, and they are upsampled.
    """

    norm: Norm | None = Norm()
    dropout: float = 0.0
    num_classes: int = CLASSES
    score_size: int = 1
    stride: int = 1

    @nn.compact
    def __call__(self, image, *, train):
        x = remat.block(functools.partial(Tiny._block, train=train), self, image)
        size, step = (self.score_size,) * 2, (self.stride,) * 2
        x = nn.Conv(self.num_classes, size, step, name="score")(x)
        if self.stride > 1:
            return {"out": upsampled.upsample(resize_half_pixel, x, image.shape[1:3])}
        return {"out": x.astype(jnp.float32)}

    def _block(self, x, *, train):
        x = nn.Conv(4, (3, 3), name="conv")(x)
        if self.norm:
            x = norms.layer(self.norm, name="norm")(x, train=train)
        return nn.Dropout(self.dropout, deterministic=not train, name="drop")(nn.relu(x))


def preprocessing(image):
    return (image.astype(np.float32) - 127.5) / 64.0


def make_batch(rng, n=8, size=6, *, weight=False):
    """A batch whose void grows from image to image: the devices' valid pixels differ widely."""
    image = rng.integers(0, 256, (n, size, size, 3)).astype(np.uint8)
    label = (image[..., 0] // 86).astype(np.uint8)
    label[rng.random(label.shape) < np.linspace(0, 0.9, n)[:, None, None]] = IGNORE
    batch = {"image": image, "label": label}
    if weight:
        batch["weight"] = rng.uniform(0.5, 5, label.shape).astype(np.float32)
    return batch


def per_device(model, optimizer, *, config=OPTIM, loss=MEAN, steps=20, **options):
    """The step with all but state, batch and key given."""
    return functools.partial(
        step.train_step,
        model=model,
        optimizer=optimizer,
        loss=loss,
        preprocessing=preprocessing,
        learning_rate=functools.partial(optim.learning_rate, config, steps),
        **options,
    )


def setup(model, *, config=OPTIM, seed=0, **options):
    """Return the first state and the per-device step."""
    variables = train_state.init_variables(model, input_shape=(1, 6, 6, 3), seed=seed)
    optimizer = optim.make_optimizer(config, variables["params"], steps=20)
    state = train_state.init_state(variables, optimizer)
    return state, per_device(model, optimizer, config=config, **options)


def setup_scalar(model, **options):
    """The same for a stand-in of a model with one parameter, "w"."""
    params = {"w": jnp.float32(1)}
    config = OptimConfig(0.1, rules=(Rule(".*"),))
    optimizer = optim.make_optimizer(config, params, steps=20)
    state = train_state.init_state({"params": params, "batch_stats": {}}, optimizer)
    return state, per_device(model, optimizer, config=config, **options)


def voc_model(**fields):
    return Tiny(num_classes=len(VOC_CLASSES), **fields)


def experiment(name="tiny", *, model=None, root=None, **train):
    """An experiment on a folder of small pictures."""
    return Experiment(
        name=name,
        family="Tiny",
        paper="none",
        model=model or voc_model(),
        data=DataConfig(
            dataset="voc2012",
            root=root,
            augmentation=Augmentation(crop=(16, 16), scale=(0.5, 2.0)),
            preprocessing=Preprocessing(mean=(127.5, 127.5, 127.5), std=(64.0, 64.0, 64.0)),
        ),
        optim=dataclasses.replace(OPTIM, base_lr=0.01),
        train=TrainConfig(**{"steps": 6, "batch_size": 4, "log_every": 1, **train}),
    )


def write_pictures(root, *, count=8, size=24, seed=0):
    """Write a VOCdevkit whose pictures can be learnt: the colour is the class."""
    rng = np.random.default_rng(seed)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    names = [f"p{index}" for index in range(count)]
    for name in names:
        label = np.kron(rng.integers(0, CLASSES, (3, 3)), np.ones((size // 3, size // 3)))
        image = np.uint8(label[..., None] * 100 + rng.integers(0, 50, (size, size, 3)))
        label[0] = IGNORE
        Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg")
        Image.fromarray(np.uint8(label)).save(root / "SegmentationClass" / f"{name}.png")
    for split in ("train", "val"):
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


def copy(tree):
    """A copy that donation leaves alone."""
    return jax.tree.map(np.array, tree)


@functools.cache
def compile_step(per_device, devices, implementation):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    return mesh, parallel.compile_step(per_device, mesh, implementation=implementation)


def run(state, per_device, batches, *, devices=1, implementation="shard_map", seed=0):
    """Run the step over the batches; return the last state, and every step's metrics."""
    mesh, compiled = compile_step(per_device, devices, implementation)
    state = parallel.replicate(copy(state), mesh)
    key = jax.random.key(seed)
    metrics = []
    for batch in batches:
        state, step_metrics = compiled(state, parallel.shard_batch(batch, mesh), key)
        metrics.append(jax.device_get(step_metrics))
    return jax.device_get(state), metrics


def largest_difference(a, b):
    """The largest absolute difference between two pytrees of one structure."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.max(np.abs(np.asarray(x) - np.asarray(y)))) for x, y in pairs)
