"""Google's folded networks begin a training as the networks that they are; with real images."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest

from seg_jax import data, losses, pretrained
from seg_jax.data import pipeline
from seg_jax.evaluation import evaluate
from seg_jax.nn.norm import Norm
from seg_jax.pretrained import catalogue, folded, loading
from seg_jax.runs import checkpoint
from seg_jax.train import loop

FLOAT = "weights/deeplabv3_mnv2_dm05_voc/deeplabv3.tflite"
IMAGENET = "weights/mobilenet_v2_imagenet_uint8/mobilenet_v2_1.0_224_quant.tflite"


def voc(test_data, split, *, crop, **augmentation):
    """The experiment on the part of VOC, and its list."""
    chosen = catalogue.get("google_deeplabv3_mobilenetv2_dm05_voc").experiment()
    root = test_data / "data/VOCdevkit/VOC2012"
    settings = dataclasses.replace(
        chosen.data,
        root=root,
        train_split="train",
        repeat_classes=(),
        augmentation=dataclasses.replace(
            chosen.data.augmentation, crop=(crop, crop), **augmentation
        ),
    )
    chosen = dataclasses.replace(chosen, data=settings)
    return chosen, data.open_source("voc2012", root, split)


def batches_of(chosen, source, size):
    return pipeline.train_dataset(source, chosen.data, batch_size=size, seed=0)


@pytest.mark.slow
def test_the_float_network_trains_as_it_evaluates(test_data):
    """Logits to 1e-4; loss of training mode within 0.2, over three held-out batches of 16."""
    chosen, source = voc(test_data, "train", crop=257)
    given = pretrained.load(test_data / FLOAT).variables
    model, normalise = chosen.model, chosen.data.preprocessing
    batches = batches_of(chosen, source, 16)
    pixels = (batch["image"] for batch in batches)
    found, _ = folded.estimate(given, model, normalise, folded.find(given), pixels)

    @functools.partial(jax.jit, static_argnames="train")
    def forward(variables, image, label, *, train):
        out = model.apply(
            variables, normalise(image), train=train, mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )[0]  # fmt: skip
        total, count = losses.loss_sums(out, label, losses.LossConfig())
        return out["out"], total / losses.divisor(count, losses.LossConfig())

    evaluated, trained, untreated = [], [], []
    for batch in itertools.islice(batches, 3):
        image, label = batch["image"], batch["label"]
        logits, loss = forward(found, image, label, train=False)
        expected, _ = forward(given, image, label, train=False)
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        evaluated.append(float(loss))
        trained.append(float(forward(found, image, label, train=True)[1]))
        untreated.append(float(forward(given, image, label, train=True)[1]))
    batches.close()
    assert np.mean(trained) - np.mean(evaluated) < 0.2
    assert np.mean(untreated) - np.mean(evaluated) > 2


@pytest.mark.slow
def test_the_8_bit_classifier_s_backbone(test_data):
    """Features to 1e-4 of their largest, and in training mode near those of evaluation mode."""
    entry = catalogue.get("google_mobilenetv2_imagenet_uint8")
    chosen, source = voc(test_data, "train", crop=129)
    from seg_jax.backbones.mobilenet_v2 import RELEASED_NORM, MobileNetV2

    assert entry.epsilon == RELEASED_NORM.epsilon != Norm().epsilon
    model, normalise = MobileNetV2(output_stride=32), entry.preprocessing
    given = loading.convert(test_data / IMAGENET, entry, None)
    given = {collection: tree["backbone"] for collection, tree in given.items()}
    batches = batches_of(chosen, source, 16)
    pixels = (batch["image"] for batch in batches)
    found, count = folded.estimate(given, model, normalise, folded.find(given), pixels, count=64)
    image = normalise(next(pixels))
    batches.close()

    @functools.partial(jax.jit, static_argnames="train")
    def features(variables, *, train):
        return model.apply(variables, image, train=train, mutable=["batch_stats"])[0]["c5"]

    expected = np.asarray(features(given, train=False))
    size = np.abs(expected).max()
    np.testing.assert_allclose(features(found, train=False) / size, expected / size, atol=1e-4)
    correlation = [
        np.corrcoef(np.ravel(features(v, train=True)), expected.ravel())[0, 1]
        for v in (found, given)
    ]
    assert count == 64 and correlation[0] > correlation[1] + 0.3, correlation


@pytest.mark.slow
def test_fine_tuning_is_sane(test_data, tmp_path):
    """20 steps at a small rate cost no more than a point of mIoU; 32 images of val, 257 px."""
    chosen, source = voc(test_data, "val", crop=257, scale=(1.0, 1.0))
    chosen = dataclasses.replace(
        chosen,
        optim=dataclasses.replace(chosen.optim, base_lr=1e-4),
        train=dataclasses.replace(
            chosen.train, steps=20, batch_size=8, accumulate=1, init=str(test_data / FLOAT)
        ),
    )
    part = Part(source, 32)

    def score(variables):
        return 100 * evaluate.evaluate(chosen, variables, part, boundaries=False).mean_iou

    before = score(pretrained.load(test_data / FLOAT).variables)
    loop.fit(chosen, tmp_path / "run", progress=False)
    after = score(checkpoint.restore_variables(tmp_path / "run")[1])
    print(f"mIoU {before:.2f} before, {after:.2f} after")
    assert before > 40 and after > before - 1


class Part:
    """Images of a split, spread evenly."""

    def __init__(self, source, count):
        self._source = source
        self._indices = np.linspace(0, len(source) - 1, count).astype(int)
        self.classes, self.palette = source.classes, source.palette

    def __len__(self):
        return len(self._indices)

    def __getitem__(self, index):
        return self._source[int(self._indices[index])]

    def size(self, index):
        return self._source.size(int(self._indices[index]))
