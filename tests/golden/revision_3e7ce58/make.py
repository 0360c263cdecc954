"""Makes the files beside it: a run, its release, a sweep and their records.

In a checkout of revision 3e7ce58: python make.py FOLDER
"""

import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from seg_jax.results.run import evaluate_run
from seg_jax.space import Choice, LogUniform, Space

from seg_jax import checkpoint, crf, experiment, inference, publish, reproduce, sweep, train

ROOT = Path("data")


def draw() -> None:
    """Write five images of a disc and a bar, 48x64, for the reader `folder`."""
    for kind in ("images", "masks"):
        (ROOT / kind).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows, columns = np.indices((48, 64))
    colours = np.array([[60, 90, 60], [180, 60, 60], [60, 60, 190]])
    for index in range(5):
        label = np.zeros((48, 64), np.uint8)
        label[(rows - 24) ** 2 + (columns - 12 - 8 * index) ** 2 < 100] = 1
        label[:, 52:56] = 2
        label[0] = 255
        image = rng.integers(0, 40, (48, 64, 3)) + colours[np.minimum(label, 2)]
        Image.fromarray(image.astype(np.uint8)).save(ROOT / "images" / f"p{index}.png")
        Image.fromarray(label).save(ROOT / "masks" / f"p{index}.png")
    (ROOT / "classes.txt").write_text("background\ndisc\nbar\n")
    (ROOT / "train.txt").write_text("p0\np1\np2\n")
    (ROOT / "val.txt").write_text("p3\np4\n")


def small(name: str, *, steps: int, **evaluation) -> experiment.Experiment:
    """Return an experiment on these images, with few channels."""
    found = experiment.get(name)
    crop = dataclasses.replace(found.data.augmentation, crop=(33, 33))
    return dataclasses.replace(
        found,
        model=experiment.shrink(dataclasses.replace(found.model, num_classes=3), width=1 / 32),
        data=dataclasses.replace(found.data, dataset="folder", root=ROOT, augmentation=crop),
        loss=dataclasses.replace(found.loss, class_weights=()),
        train=dataclasses.replace(
            found.train, steps=steps, batch_size=2, log_every=2, checkpoint_every=steps, keep=1
        ),
        evaluation=dataclasses.replace(found.evaluation, **evaluation),
    )


def main() -> None:
    """Write everything into the folder that the command line names."""
    os.chdir(sys.argv[1])
    draw()
    run, command = Path("run"), "python make.py"
    network = small(
        "deeplab_v1_largefov_vgg16_synthetic", steps=4, protocol="squash", canvas=(49, 49),
        scaling="half_pixel", crf=crf.get("deeplab_v1_largefov"),
    )  # fmt: skip
    train.fit(network, run, command=command)
    evaluate_run(run, command=command)
    publish.export(run, licence="apache-2.0")
    _, variables, _ = checkpoint.restore_variables(run)
    plain = dataclasses.replace(network.evaluation, crf=None)
    network = dataclasses.replace(network, evaluation=plain)
    image = np.asarray(Image.open(ROOT / "images" / "p3.png"))
    np.savez("probabilities.npz", p3=inference.predict_probabilities(network, variables, image))
    space = Space(
        {
            "optim.base_lr": LogUniform(1e-3, 0.1, points=2),
            "optim.optimizer": Choice(("adamw", "sgd")),
        }
    )
    sweep.sweep(
        small("unet_synthetic", steps=1), space, Path("sweep"), trials=2,
        run_trial=reproduce.run_trial(command), sampler="random",
    )  # fmt: skip


if __name__ == "__main__":
    main()
