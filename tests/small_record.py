"""A record of a made-up evaluation, and a run folder around it."""

import dataclasses
import json

import numpy as np
from small_task import MemorySource, small_experiment

from seg_jax import config, metrics, results
from seg_jax.evaluation import example_images, run
from seg_jax.inference import protocols
from seg_jax.papers import Protocol
from seg_jax.results import files, record

CLASSES = ("background", "disc", "bar <b>")


def made_up_scores(seed=0, images=3, trimap_px=(1, 2, 5, 7)):
    """Scores of random predictions; every metric has a value."""
    rng = np.random.default_rng(seed)
    sums = metrics.Scores.zero(3, trimap_px)
    for _ in range(images):
        label = np.kron(rng.integers(0, 3, (3, 4)), np.ones((4, 4), int))
        prediction = np.where(rng.random(label.shape) < 0.2, (label + 1) % 3, label)
        sums += metrics.of_image(label, prediction, CLASSES, trimap_px)
    return sums


def small_record(name="small", *, data="memory", split="val", seed=0, scores=None, **changes):
    """A record of the experiment `name` on the given images."""
    scores = scores or made_up_scores(seed)
    experiment = dataclasses.replace(small_experiment(), name=name)
    source = MemorySource(((12, 16),) * scores.images, name=data, split=split)
    found = record.Record(
        schema=record.SCHEMA,
        experiment=name,
        family="Small",
        run=name,
        config=config.to_dict(experiment),
        digest=config.digest(experiment),
        data=run.describe(source),
        classes=CLASSES,
        protocol=Protocol(output_stride=8),
        cutting=protocols.words(experiment.evaluation),
        training=record.Training(
            data=run.describe(source),
            pretraining="none",
            steps=600,
            batch_size=4,
            crop=(16, 16),
            seed=seed,
            seconds=83.0,
            parameters=134_346_581,
        ),
        counts=record.counts_of(scores),
        evaluation_seconds=1.5,
        revision="0123456789abcdef0123456789abcdef01234567",
        dirty=False,
        versions={"python": "3.11.7", "jax": "0.10.2"},
        device={"platform": "cpu", "kind": "cpu", "devices": 4, "processes": 1, "cores": 2},
        command=f"python -m seg_jax evaluate runs/{name}",
        date="2026-11-22T10:00:00+00:00",
    )
    return dataclasses.replace(found, **changes)


def small_run(folder, name="small", *, seed=0):
    """A run folder with a record, a log and two predictions, as an evaluation leaves it."""
    folder.mkdir(parents=True)
    found = small_record(name, seed=seed)
    results.save(found, folder / "result.json")
    log = [json.dumps({"kind": "train", "step": step, "loss": 3 / step}) for step in (2, 4, 8)]
    (folder / "metrics.jsonl").write_text("\n".join(log) + "\n")
    source = MemorySource(((12, 16), (9, 20)), classes=CLASSES)
    for index in range(2):
        prediction = np.minimum(source[index]["label"], 1)
        example_images.write_images(folder / files.PREDICTIONS, source, index, prediction)
    return found
